"""Carries all records from a SQLite file to PostgreSQL, or back: `python -m sky.store move`, while no server runs.

Every row is copied as it is, so what is sealed stays sealed, and the same keys open it. Leases and duties stay behind:
nobody holds anything afterwards. The target gets everything in one transaction, or nothing.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, String, Table, func, insert, select, text

from sky.store.migrate import check
from sky.store.schema import METADATA, REVISION, SCHEMA_LOCK
from sky.store.sqlite import SqliteDatabase, engine_of, revision

#: Rows that are in memory at a time.
_PAGE = 500
#: Named values of this kind say who does what at this moment.
_DUTY = "duty:"
#: Connections of servers; each has one open for as long as it runs.
_SERVERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sky'"
_WORKERS = (
    "SELECT count(*) FROM state_values WHERE key LIKE 'duty:worker:%' "
    "AND split_part(value, ' ', 2)::float8 > extract(epoch from clock_timestamp())"
)


class CannotMove(RuntimeError):
    """Why nothing was moved."""


def move(file: Path, uri: str, *, to_postgres: bool) -> dict[str, int]:
    """Carry the records between a SQLite file and a database of PostgreSQL; rows by table.

    A file that was moved away is renamed, so that no server goes on with it by mistake. Raises CannotMove where
    something runs on either, or the target is not empty; OSError, SQLAlchemy's errors.
    """
    if to_postgres and not file.exists():
        raise CannotMove(f"there are no records to move: {file} does not exist")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _nobody_runs(file.parent):
        if not to_postgres:
            # Made with its schema, private, as a server would.
            SqliteDatabase(file).close()
        copied = asyncio.run(_meet(file, uri, to_postgres=to_postgres))
        if to_postgres:
            _set_aside(file)
    return copied


@contextmanager
def _nobody_runs(state: Path) -> Iterator[None]:
    """Hold the lock that a server of this state directory holds, under the same name."""
    handle = os.open(state / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotMove(f"a server is running on {state}: end it first (sky api stop)") from None
        yield
    finally:
        os.close(handle)


async def _meet(file: Path, uri: str, *, to_postgres: bool) -> dict[str, int]:
    import asyncpg  # noqa: PLC0415 - in an extra
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - it takes greenlet, in the same extra

    from sky.store.postgres import PostgresDatabase, Target  # noqa: PLC0415 - in that extra

    target = Target(uri)
    if to_postgres:
        shared = PostgresDatabase(target)
        await shared.connect()
        await shared.close()
    engine = engine_of(file)

    def work(there: Connection) -> dict[str, int]:
        there.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
        with engine.connect() as here:
            here.exec_driver_sql("BEGIN IMMEDIATE")
            for connection, name in ((here, str(file)), (there, target.shown)):
                _check_revision(connection, name)
            _check_servers(there, target.shown)
            if to_postgres:
                copied = _copied(here, there, target.shown)
                _count_on(there, copied)
            else:
                copied = _copied(there, here, str(file))
            here.exec_driver_sql("ROLLBACK" if to_postgres else "COMMIT")
            return copied

    # Of what is read, all is of one moment.
    shared_engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(target.direct, server_settings={"application_name": "sky move"}),
        isolation_level="REPEATABLE READ",
    )
    try:
        async with shared_engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await shared_engine.dispose()
        engine.dispose()


def _check_revision(connection: Connection, name: str) -> None:
    found = revision(connection)
    if found == REVISION:
        return
    check(found)
    raise CannotMove(
        f"{name} has {'no records' if found is None else f'the revision {found} of the schema'}; start a server on it "
        f"once, which brings it to {REVISION}, or run: python -m sky.store {REVISION}"
    )


def _check_servers(shared: Connection, name: str) -> None:
    running = max(shared.execute(text(words)).scalar_one() for words in (_SERVERS, _WORKERS))
    if running:
        raise CannotMove(f"servers are running on {name} ({running} of them are seen): end them first (sky api stop)")


def _copied(source: Connection, target: Connection, name: str) -> dict[str, int]:
    """Copy table by table; the rows of each. Raises CannotMove for a target that is not empty."""
    tables = METADATA.sorted_tables
    filled = [table.name for table in tables if target.execute(select(table).limit(1)).first() is not None]
    if filled:
        raise CannotMove(f"{name} is not empty: there are rows in {', '.join(filled)}. Records are never mixed.")
    copied = {}
    for table in tables:
        copied[table.name] = _copy(table, source, target)
        there = target.execute(select(func.count()).select_from(table)).scalar_one()
        if there != copied[table.name]:
            raise CannotMove(f"{table.name}: {copied[table.name]} rows were copied, and {there} are there")
    return copied


def _copy(table: Table, source: Connection, target: Connection) -> int:
    asked = select(table).order_by(*table.primary_key.columns)
    if table.name == "state_values":
        asked = asked.where(table.c.key.not_like(f"{_DUTY}%"))
    texts = [column.name for column in table.columns if isinstance(column.type, String)]
    count = 0
    for page in source.execution_options(yield_per=_PAGE).execute(asked).mappings().partitions(_PAGE):
        target.execute(insert(table), [_fit(table, dict(row), texts) for row in page])
        count += len(page)
    return count


def _fit(table: Table, made: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """A row as it is written: held by nobody, and without the zero bytes that PostgreSQL's texts cannot have."""
    if "lease_until" in table.columns:
        made |= {"lease_until": 0.0, "token": None}
    for name in texts:
        if made[name] is not None and "\0" in made[name]:
            made[name] = made[name].replace("\0", "\ufffd")
    return made


def _count_on(shared: Connection, copied: Mapping[str, int]) -> None:
    """Have the database count up from what is there."""
    for table in METADATA.sorted_tables:
        counted = table.autoincrement_column
        if counted is not None and copied[table.name]:
            of = text("SELECT setval(pg_get_serial_sequence(:name, :column), :last)")
            last = shared.execute(select(func.max(counted))).scalar_one()
            shared.execute(of, {"name": table.name, "column": counted.name, "last": last})


def _set_aside(file: Path) -> None:
    """Rename the file, with its log of writes."""
    for end in ("-wal", "-shm", ""):
        part = file.with_name(file.name + end)
        if part.exists():
            part.replace(file.with_name(f"{file.name}.moved{end}"))
