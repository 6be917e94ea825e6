"""One SQLite database, spoken to in line: opened, created or migrated, and its two kinds of transaction.

Calls take microseconds, so none is sent to a thread. One connection serves the process; `assembly` opens it, every
repository of this room shares it.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.store.schema import METADATA, REVISION

log = logging.getLogger(__name__)


class Database:
    """A SQLite file, or memory. `with db.write() as c` and `with db.read() as c` give a connection in a transaction."""

    def __init__(self, path: Path | None) -> None:
        """Open `path` (None: in memory), creating or migrating the schema. Raises RuntimeError for a newer schema."""
        url = "sqlite://" if path is None else f"sqlite:///{path}"
        self._engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        # The driver's own idea of transactions would commit at odd moments; we say BEGIN ourselves.
        event.listen(self._engine, "connect", _plain_transactions)
        if path is not None:
            _private(path)
        self._path = path
        self._prepare(path)
        self._connection = self._engine.connect()
        self._lock = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement on; committed unless the block raises."""
        with self._lock, self._in_words(), self._connection.begin():
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield self._connection

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise ServerTemporarilyUnavailableError(
                f"The server's database {self._path or '(in memory)'} cannot be used: {error.orig}. Is the disk full "
                "or write-protected? What was asked for is not on record; ask again when there is room."
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written in it."""
        with self._lock, self._in_words(), self._connection.begin():
            self._connection.exec_driver_sql("BEGIN")
            yield self._connection

    def close(self) -> None:
        """Close the connection; the last close also folds the write-ahead log into the file."""
        self._connection.close()
        self._engine.dispose()

    def _prepare(self, path: Path | None) -> None:
        with self._engine.connect() as connection:
            found = _revision(connection)
            if found is None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                METADATA.create_all(connection)
                connection.exec_driver_sql(
                    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
                )
                connection.execute(text("INSERT INTO alembic_version VALUES (:r)"), {"r": REVISION})
                connection.commit()
                return
        if found != REVISION:
            log.warning("migrating %s from revision %s to %s", path, found, REVISION)
            # Alembic takes a quarter of a second to import: only a database of another version pays for it.
            from sky.store.migrate import migrate  # noqa: PLC0415

            migrate(self._engine, found)


def _plain_transactions(connection: object, _record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600, exist_ok=True)
