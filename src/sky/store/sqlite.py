"""The store on one SQLite file, spoken to in line; made by `server.assembly` and, in memory, by tests.

Calls take microseconds, so none is sent to a thread, and none lets another coroutine run. One connection serves the
process. Opened, the file has the newest schema: created as of it, or migrated.
"""

import asyncio
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.pool import StaticPool

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.store.database import Conflict, Statement
from sky.store.records import SqlStore
from sky.store.schema import METADATA, REVISION
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

log = logging.getLogger(__name__)

#: The write-ahead log is folded into the file after so many commits, by a thread: it waits for the disk, and so would
#: everybody. What it cannot keep up with is folded in line once the log has so many pages.
_FOLD_EVERY, _FOLD_IN_LINE = 500, 20_000
#: Pages that stay in memory, in kB at most: with the usual 2,000 a busy server reads a hundred pages for each launch.
_CACHE_KB = 32_000


class SqliteStore(SqlStore):
    """See `core.ports.Store`. One process owns the file, so leases that an earlier one left are broken at opening."""

    def __init__(self, path: Path | None = None, sealer: Sealer | None = None) -> None:
        """Open (or make) the database at `path`; None keeps it in memory. Raises RuntimeError for a newer schema."""
        self._file = SqliteDatabase(path)
        super().__init__(self._file, sealer)
        for rows in (self.clusters, self.jobs, self.requests, self.managed_jobs, self.pools):
            self._file.now(rows.break_leases())

    async def connect(self) -> None:
        """It is open already; what was written in clear once is sealed. Raises RuntimeError if the key is gone."""
        if await self.keep_sealed():
            self._file.scrub()

    async def durable(self) -> None:
        """Return once what was committed before is on the disk. Raises OSError."""
        await self._file.sync()

    async def backup(self, path: str) -> None:
        """Copy everything as of one moment into a new file. Raises FileExistsError, OSError."""
        await self._file.backup(Path(path))

    async def close(self) -> None:
        """Close the file."""
        self._file.close()


class SqliteDatabase:
    """See `store.database.Database`. A file, or memory."""

    def __init__(self, path: Path | None) -> None:
        """Open `path` (None: in memory), creating or migrating the schema. Raises RuntimeError for a newer schema."""
        self._path = path
        #: Commits so far, and those that are known to be on the disk; who is writing there now, and who will next.
        self._commits = self._synced = 0
        self._fold_at, self._folding = _FOLD_EVERY, threading.Thread()
        self._syncing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        if path is None:
            raw = _in_memory()
            self._closed: Callable[[], object] = raw.close
        else:
            _private(path)
            raw, self._closed = _on_disk(path)
        self._transaction = _Transaction(raw, SQLiteDialect())
        self._lock = threading.RLock()
        self._writing = _Block(self, "BEGIN IMMEDIATE")
        # What is read needs no transaction: nobody else writes to the file, and nobody here does before the block ends.
        self._reading = _Block(self, "")

    def write(self) -> "_Block":
        """A transaction that holds the write lock from its first statement on."""
        return self._writing

    def read(self) -> "_Block":
        """For questions; nothing may be written in it."""
        return self._reading

    def now(self, work: Any) -> Any:
        """Run a coroutine of this room to its end without an event loop: it waits for nothing."""
        try:
            work.send(None)
        except StopIteration as done:
            return done.value
        raise RuntimeError("a call to SQLite waited for something else")

    def close(self) -> None:
        """Close the connection; the last close also folds the write-ahead log into the file."""
        if self._folding.is_alive():
            self._folding.join()
        self._closed()

    def begin(self, words: str) -> "_Transaction":
        """Open a transaction, or without `words` a time in which nobody writes; `end` closes it. One at a time."""
        self._lock.acquire()
        try:
            if words:
                self._transaction.raw.execute(words)
        except sqlite3.Error as error:
            self._lock.release()
            raise self._in_words(error) from error
        return self._transaction

    def end(self, failed: BaseException | None) -> None:
        """Commit, or take everything back. Raises what a failure of the database means."""
        raw = self._transaction.raw
        try:
            if failed is None and raw.in_transaction:
                raw.execute("COMMIT")
                self._commits += 1
                if self._commits >= self._fold_at and self._path is not None:
                    self._fold(self._path)
        except sqlite3.Error as error:
            failed = error
            raise self._in_words(error) from error
        finally:
            # A full disk has ended it already.
            if failed is not None and raw.in_transaction:
                raw.execute("ROLLBACK")
            self._lock.release()
        if isinstance(failed, sqlite3.Error):
            raise self._in_words(failed) from failed

    def _fold(self, path: Path) -> None:
        """Have a thread fold the log into the file, with a connection of its own, while writing goes on."""
        if self._folding.is_alive():
            return
        self._fold_at = self._commits + _FOLD_EVERY

        def fold() -> None:
            try:
                with closing(sqlite3.connect(path)) as other:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                log.warning("the write-ahead log of %s is not folded just now: %s", path, error)

        self._folding = threading.Thread(target=fold, name="folding the log")
        self._folding.start()

    async def backup(self, path: Path) -> None:
        """Copy the file as of one moment, in pieces with room for others between them."""
        if (records := self._path) is None:
            raise ValueError("what is kept in memory alone is not backed up")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

        def copy() -> None:
            # A connection of its own: it reads one state of the file, whatever is written meanwhile.
            with closing(sqlite3.connect(records)) as source, closing(sqlite3.connect(path)) as copied:
                source.backup(copied)
                copied.execute("PRAGMA journal_mode=DELETE").fetchall()

        await asyncio.to_thread(copy)

    async def sync(self) -> None:
        """Wait until the disk has all commits so far; in a thread, once for all who wait, and so that nobody else does.

        The database itself syncs only when it folds its log into the file: a commit that waited for the disk would hold
        up the whole process for milliseconds.
        """
        if self._path is None or self._synced == self._commits:
            return
        if self._next is None:
            # Of what is being written now, the last commit may not be a part.
            self._next = asyncio.ensure_future(self._sync_after(self._path, self._syncing))
        await asyncio.shield(self._next)

    async def _sync_after(self, path: Path, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait((before,))
        self._syncing, self._next, commits = self._next, None, self._commits
        await asyncio.to_thread(_to_disk, path)
        self._synced = max(self._synced, commits)

    def scrub(self) -> None:
        """Write the file anew, so that no free page and no log keeps what was overwritten. Seconds for a large one."""
        with self._lock:
            raw = self._transaction.raw
            for words in ("PRAGMA secure_delete=ON", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                raw.execute(words).fetchall()

    def _in_words(self, error: sqlite3.Error) -> Exception:
        if isinstance(error, sqlite3.IntegrityError):
            return Conflict(str(error))
        if not isinstance(error, sqlite3.OperationalError):
            return error
        return ServerTemporarilyUnavailableError(
            f"The server's database {self._path or '(in memory)'} cannot be used: {error}. Is the disk full or "
            "write-protected? What was asked for is not on record; ask again when there is room."
        )


class _Block:
    """`async with` for one kind of transaction; it has no state of its own, so one serves all."""

    __slots__ = ("_database", "_words")

    def __init__(self, database: SqliteDatabase, words: str) -> None:
        self._database = database
        self._words = words

    async def __aenter__(self) -> "_Transaction":
        return self._database.begin(self._words)

    async def __aexit__(
        self, kind: type[BaseException] | None, failed: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.end(failed)


class _Transaction:
    """See `store.database.Transaction`."""

    __slots__ = ("_dialect", "raw")

    def __init__(self, raw: sqlite3.Connection, dialect: SQLiteDialect) -> None:
        self.raw = raw
        self._dialect = dialect

    def _run(self, statement: Statement, values: dict[str, Any]) -> sqlite3.Cursor:
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        words, given = prepared.bound(self._dialect, values)
        return self.raw.execute(words, [json.dumps(each) if each.__class__ is list else each for each in given])

    async def all(self, statement: Statement, **values: Any) -> list[tuple[Any, ...]]:
        return self._run(statement, values).fetchall()

    async def first(self, statement: Statement, **values: Any) -> tuple[Any, ...] | None:
        cursor = self._run(statement, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return row

    async def scalar(self, statement: Statement, **values: Any) -> Any:
        row = await self.first(statement, **values)
        return None if row is None else row[0]

    async def change(self, statement: Statement, **values: Any) -> int:
        return self._run(statement, values).rowcount

    async def number(self, statement: Statement, **values: Any) -> int:
        written = self._run(statement, values).lastrowid
        assert written is not None
        return written


def _on_disk(path: Path) -> tuple[sqlite3.Connection, Callable[[], object]]:
    engine = engine_of(path)
    _prepare(engine, path)
    connection = engine.connect()

    def close() -> None:
        connection.close()
        engine.dispose()

    return cast(sqlite3.Connection, connection.connection.driver_connection), close


def _in_memory() -> sqlite3.Connection:
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    _plain_transactions(raw, None)
    _blank().backup(raw)
    return raw


@cache
def _blank() -> sqlite3.Connection:
    """An empty database with the newest schema, to be copied: making one takes twenty times as long."""
    engine = engine_of(None)
    _prepare(engine, None)
    return cast(sqlite3.Connection, engine.connect().connection.driver_connection)


def _prepare(engine: Engine, path: Path | None) -> None:
    with engine.connect() as connection:
        found = revision(connection)
        if found is None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            METADATA.create_all(connection)
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            connection.execute(text("INSERT INTO alembic_version VALUES (:r)"), {"r": REVISION})
            connection.commit()
            return
    if found != REVISION:
        log.warning("migrating %s from revision %s to %s", path, found, REVISION)
        # Alembic takes a quarter of a second to import: only a database of another version pays for it.
        from sky.store.migrate import migrate  # noqa: PLC0415

        migrate(engine, found)


def engine_of(path: Path | None) -> Engine:
    """SQLAlchemy's way in, for the schema."""
    url = "sqlite://" if path is None else f"sqlite:///{path}"
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    # The driver's own idea of transactions would commit at odd moments; we say BEGIN ourselves.
    event.listen(engine, "connect", _plain_transactions)
    return engine


def _plain_transactions(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000",
                   f"cache_size={-_CACHE_KB}", f"wal_autocheckpoint={_FOLD_IN_LINE}"):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def revision(connection: Connection) -> str | None:
    """The version of the schema; None where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600, exist_ok=True)


def _to_disk(path: Path) -> None:
    # The log first, as a checkpoint would; its name in the folder is as new as it is.
    for each in (path.with_name(path.name + "-wal"), path, path.parent):
        try:
            handle = os.open(each, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
