"""A database made at once and one that was migrated are the same; a newer one is refused with words."""

import sqlite3
import stat

import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, text

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.store.migrate import config, migrate
from sky.store.schema import METADATA, REVISION, VALUES
from sky.store.sqlite import SqliteDatabase, engine_of


def tables(path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows if name != "alembic_version"}


def test_newest_migration_is_the_revision_that_new_databases_get():
    assert ScriptDirectory.from_config(config()).get_current_head() == REVISION


def test_migrating_from_nothing_gives_the_same_schema(tmp_path):
    SqliteDatabase(tmp_path / "made.db").close()
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
    SqliteDatabase(path).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(RuntimeError, match="written by a newer version"):
        SqliteDatabase(path)


def test_the_file_is_private(tmp_path):
    SqliteDatabase(tmp_path / "deep" / "state.db").close()
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
    engine = engine_of(tmp_path / "state.db")
    with pytest.raises(KeyboardInterrupt):
        migrate(engine, None)
    assert tables(tmp_path / "state.db") == {}
    monkeypatch.setattr(op, "create_table", made)
    migrate(engine, None)
    engine.dispose()


async def test_a_full_disk_is_told_in_words_and_nothing_is_half_written(tmp_path):
    database = SqliteDatabase(tmp_path / "state.db")
    async with database.write() as tx:
        pages = await tx.scalar(text("PRAGMA page_count"))
        await tx.all(text(f"PRAGMA max_page_count = {pages + 2}"))
    add = insert(VALUES)
    with pytest.raises(ServerTemporarilyUnavailableError, match=r"state.db cannot be used.*full"):
        async with database.write() as tx:
            await tx.change(add.values(key="first", value="x"))
            await tx.change(add.values(key="second", value="x" * 1_000_000))
    async with database.write() as tx:
        assert await tx.all(text("SELECT key FROM state_values")) == []
        await tx.all(text("PRAGMA max_page_count = 1000000"))
        await tx.change(add.values(key="third", value="x"))
    database.close()
