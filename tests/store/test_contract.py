"""Every database keeps what the store promises: SQLite in a file and in memory, PostgreSQL, also behind PgBouncer."""

import asyncio
import time

import pytest

from sky.sim.store_bed import Bed, Side
from sky.sim.store_contract import StoreContract
from sky.store.schema import METADATA
from sky.store.sqlite import SqliteStore

#: Seconds by which the clocks of the two servers on PostgreSQL differ: more than any lease.
APART_S = 500.0
EMPTY = f"TRUNCATE {', '.join(METADATA.tables)} RESTART IDENTITY"


def alone(store: SqliteStore) -> Bed:
    """One process on a clock that is set by hand."""
    time = [1000.0]

    async def passes(seconds: float) -> None:
        time[0] += seconds

    side = Side(store, lambda: time[0])
    return Bed(side, side, passes)


class TestSqliteFile(StoreContract):
    @pytest.fixture
    async def bed(self, tmp_path):
        store = SqliteStore(tmp_path / "state.db")
        yield alone(store)
        await store.close()


class TestSqliteMemory(StoreContract):
    @pytest.fixture
    async def bed(self):
        store = SqliteStore()
        yield alone(store)
        await store.close()


@pytest.fixture(scope="module")
def kept(postgres):
    """One database for all tests of this file; each finds it empty."""
    name = postgres.database()
    yield name
    postgres.drop(name)


async def servers(direct: str, pooled: str | None = None):
    """Two servers whose clocks differ, on one database."""
    from sky.store.postgres import PostgresStore, Target

    stores = [PostgresStore(Target(direct, pooled, 5)) for _ in range(2)]
    await asyncio.gather(*(store.connect() for store in stores))
    async with stores[0]._shared.write() as tx:
        await tx.plain(EMPTY)
    yield Bed(Side(stores[0], time.time), Side(stores[1], lambda: time.time() + APART_S), asyncio.sleep, 1.0)
    for store in stores:
        await store.close()


class TestPostgres(StoreContract):
    @pytest.fixture
    async def bed(self, postgres, kept):
        async for bed in servers(postgres.uri(kept)):
            assert not any(side.store._shared.pooled for side in (bed.one, bed.two))
            yield bed


class TestPgBouncer(StoreContract):
    @pytest.fixture
    async def bed(self, postgres, pgbouncer, kept):
        async for bed in servers(postgres.uri(kept), postgres.uri(kept, pgbouncer)):
            yield bed


async def test_pgbouncer_is_noticed_where_it_is_named_as_if_it_were_the_database(postgres, pgbouncer, kept):
    async for bed in servers(postgres.uri(kept, pgbouncer)):
        assert all(side.store._shared.pooled for side in (bed.one, bed.two))
        await StoreContract().test_many_claimers_share_out_the_rows(bed)
