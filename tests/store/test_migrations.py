"""A database made at once and one that was migrated are the same; a newer one is refused with words."""

import sqlite3
import stat

import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.store.database import Database, _plain_transactions
from sky.store.migrate import config, migrate
from sky.store.schema import METADATA, REVISION


def tables(path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows if name != "alembic_version"}


def test_newest_migration_is_the_revision_that_new_databases_get():
    assert ScriptDirectory.from_config(config()).get_current_head() == REVISION


def test_migrating_from_nothing_gives_the_same_schema(tmp_path):
    Database(tmp_path / "made.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    migrate(engine, None)
    engine.dispose()
    assert tables(tmp_path / "migrated.db") == tables(tmp_path / "made.db")


def test_the_schema_has_no_drift(tmp_path):
    from alembic.autogenerate import compare_metadata

    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    migrate(engine, None)
    with engine.connect() as connection:
        drift = compare_metadata(MigrationContext.configure(connection), METADATA)
    engine.dispose()
    assert [change for change in drift if "alembic_version" not in str(change)] == []


def test_a_database_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "state.db"
    Database(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(RuntimeError, match="written by a newer version"):
        Database(path)


def test_the_file_is_private(tmp_path):
    Database(tmp_path / "deep" / "state.db").close()
    assert stat.S_IMODE((tmp_path / "deep" / "state.db").stat().st_mode) == 0o600


def test_an_interrupted_migration_leaves_the_database_as_it_was(tmp_path, monkeypatch):
    from alembic import op

    made, left = op.create_table, [1, 1]

    def create_table(*given, **named):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return made(*given, **named)

    monkeypatch.setattr(op, "create_table", create_table)
    engine = create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    event.listen(engine, "connect", _plain_transactions)
    with pytest.raises(KeyboardInterrupt):
        migrate(engine, None)
    assert tables(tmp_path / "state.db") == {}
    monkeypatch.setattr(op, "create_table", made)
    migrate(engine, None)
    engine.dispose()


def test_a_full_disk_is_told_in_words_and_nothing_is_half_written(tmp_path):
    database = Database(tmp_path / "state.db")
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    insert = "INSERT INTO state_values VALUES (?, ?)"
    full = pytest.raises(ServerTemporarilyUnavailableError, match=r"state.db cannot be used.*full")
    with full, database.write() as connection:
        connection.exec_driver_sql(insert, ("first", "x"))
        connection.exec_driver_sql(insert, ("second", "x" * 1_000_000))
    with database.write() as connection:
        assert connection.exec_driver_sql("SELECT key FROM state_values").all() == []
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        connection.exec_driver_sql(insert, ("third", "x"))
    database.close()
