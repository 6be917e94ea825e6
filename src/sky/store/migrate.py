"""Runs Alembic's migrations; imported only when a database of another version is opened, by `__main__` and by tests."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect, text

from sky.store.schema import SCHEMA_LOCK
from sky.version import __version__


def config() -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return made


def migrate(engine: Engine, found: str | None, to: str = "head") -> None:
    """Bring a SQLite database to a revision. Raises RuntimeError if it was written by a newer version of the program.

    `found` is the revision that it has, None for an empty one.
    """
    check(found)
    with engine.connect() as connection:
        # One transaction: a migration that is interrupted leaves the database as it was.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _move(connection, found, to)
        connection.commit()


async def migrate_shared(uri: str, to: str = "head") -> None:
    """The same for PostgreSQL; of several servers that start at once, one does it. Raises RuntimeError likewise."""
    import asyncpg  # noqa: PLC0415 - in an extra
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - it takes greenlet, in the same extra

    def work(connection: Connection) -> None:
        # Held until the end of the transaction, in which everything is changed or nothing.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
        found = None
        if inspect(connection).has_table("alembic_version"):
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        check(found)
        _move(connection, found, to)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(uri))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def check(found: str | None) -> None:
    """Raises RuntimeError for a revision that this program does not know."""
    if found is None:
        return
    try:
        ScriptDirectory.from_config(config()).get_revision(found)
    except CommandError as error:
        raise RuntimeError(
            f"the database is at revision {found}, which version {__version__} does not know: "
            "it was written by a newer version; upgrade, or use another state directory (SKY_STATE_DIR)"
        ) from error


def _move(connection: Connection, found: str | None, to: str) -> None:
    settings = config()
    settings.attributes["connection"] = connection
    script = ScriptDirectory.from_config(settings)
    later = {each.revision for each in script.iterate_revisions("head", found or "base")}
    if to in later | {"head"}:
        command.upgrade(settings, to)
    else:
        command.downgrade(settings, to)
