"""A database made at once and one that was migrated are the same; a newer one is refused with words."""

import asyncio
import sqlite3
import stat

import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, text

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.core.lifecycle import clusters as life
from sky.sim.store_bed import cluster
from sky.store.migrate import config, migrate, migrate_shared
from sky.store.schema import METADATA, REVISION, VALUES
from sky.store.sqlite import SqliteDatabase, SqliteStore, engine_of


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


def there_and_back(tmp_path, monkeypatch, words: str) -> None:
    from sky.store import __main__ as by_hand

    monkeypatch.setenv("SKY_STATE_DIR", str(tmp_path))
    for revision in (*words.split(), "head"):
        by_hand.main(revision)


async def test_what_is_on_record_survives_one_release_back_and_forth(tmp_path, monkeypatch):
    monkeypatch.delenv("SKYPILOT_DB_CONNECTION_URI", raising=False)
    before = SqliteStore(tmp_path / "state.db")
    made, _ = await before.clusters.open(life.opening(cluster()), 1.0)
    await before.close()
    revisions = [each.revision for each in ScriptDirectory.from_config(config()).walk_revisions()]
    there_and_back(tmp_path, monkeypatch, revisions[1])
    there_and_back(tmp_path, monkeypatch, " ".join(revisions[1:]))
    after = SqliteStore(tmp_path / "state.db")
    assert await after.clusters.by_name(made.name) == made
    assert [order.order for order in (await after.clusters.claim(2.0, 9, "t", 5))[0].orders] == [
        life.Provision(cluster().candidates[0])
    ]
    await after.close()
    SqliteStore(tmp_path / "new.db")._file.close()
    assert tables(tmp_path / "state.db") == tables(tmp_path / "new.db")


async def described(uri: str) -> list[object]:
    """Columns, indexes and constraints of a PostgreSQL database."""
    import asyncpg

    connection = await asyncpg.connect(uri)
    found = await connection.fetch(
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version' "
        "UNION ALL SELECT tablename, indexname, indexdef, NULL, NULL, NULL FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2"
    )
    await connection.close()
    return [tuple(row) for row in found]


async def test_postgres_survives_one_release_back_and_forth(postgres, database, monkeypatch, tmp_path):
    from sky.store.postgres import PostgresStore, Target

    uri = postgres.uri(database)
    monkeypatch.setenv("SKYPILOT_DB_CONNECTION_URI", uri)
    before = PostgresStore(Target(uri))
    await before.connect()
    made, _ = await before.clusters.open(life.opening(cluster()), 1.0)
    await before.close()
    new = await described(uri)
    revisions = [each.revision for each in ScriptDirectory.from_config(config()).walk_revisions()]
    for words in (revisions[1], " ".join(revisions[1:])):
        await asyncio.to_thread(there_and_back, tmp_path, monkeypatch, words)
        assert await described(uri) == new
    after = PostgresStore(Target(uri))
    await after.connect()
    assert await after.clusters.by_name(made.name) == made
    await after.close()


async def test_postgres_of_an_older_version_is_migrated_when_servers_start(postgres, database, monkeypatch, tmp_path):
    from sky.store.postgres import PostgresStore, Target

    uri = postgres.uri(database)
    monkeypatch.setenv("SKYPILOT_DB_CONNECTION_URI", uri)
    stores = [PostgresStore(Target(uri)) for _ in range(3)]
    await asyncio.gather(*(store.connect() for store in stores))
    new = await described(uri)
    await asyncio.gather(*(store.close() for store in stores))
    await asyncio.to_thread(there_and_back, tmp_path, monkeypatch, "base")
    assert await described(uri) == new
    await asyncio.to_thread(there_and_back, tmp_path, monkeypatch, "0001")
    await migrate_shared(uri, "0001")
    stores = [PostgresStore(Target(uri)) for _ in range(3)]
    await asyncio.gather(*(store.connect() for store in stores))
    assert await described(uri) == new
    assert postgres.say(database, "SELECT version_num FROM alembic_version") == REVISION
    await asyncio.gather(*(store.close() for store in stores))


async def test_postgres_of_a_newer_version_is_refused(postgres, database):
    from sky.store.postgres import PostgresStore, Target

    store = PostgresStore(Target(postgres.uri(database)))
    await store.connect()
    await store.close()
    postgres.say(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RuntimeError, match="written by a newer version"):
        await PostgresStore(Target(postgres.uri(database))).connect()
