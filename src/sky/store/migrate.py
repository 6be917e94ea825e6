"""Runs Alembic's migrations; imported only when a database of another version is opened, and by the tests."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine

from sky.version import __version__


def config() -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return made


def migrate(engine: Engine, found: str | None, to: str = "head") -> None:
    """Bring a database to a revision. Raises RuntimeError if it was written by a newer version of the program."""
    settings = config()
    if found is not None:
        try:
            ScriptDirectory.from_config(settings).get_revision(found)
        except CommandError as error:
            raise RuntimeError(
                f"the database is at revision {found}, which version {__version__} does not know: "
                "it was written by a newer version; upgrade, or use another state directory (SKY_STATE_DIR)"
            ) from error
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        # One transaction: a migration that is interrupted leaves the database as it was.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(settings, to)
        connection.commit()
