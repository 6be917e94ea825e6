"""Every database keeps what the store promises: SQLite in a file and in memory, PostgreSQL, also behind PgBouncer."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from sky.sim.store_bed import Bed, Side
from sky.sim.store_contract import StoreContract
from sky.store.schema import METADATA
from sky.store.sealing import Sealer
from sky.store.sqlite import SqliteStore

#: Seconds by which the clocks of the two servers on PostgreSQL differ: more than any lease.
APART_S = 500.0
EMPTY = f"TRUNCATE {', '.join(METADATA.tables)} RESTART IDENTITY"


class OneKey:
    """What users say is sealed in everything that the contract looks at, as it is at a server's."""

    def current(self):
        return "k1", b"k" * 32

    def key(self, id):
        return b"k" * 32 if id == "k1" else None


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
        store = SqliteStore(tmp_path / "state.db", Sealer(OneKey()))
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


@asynccontextmanager
async def servers(direct: str, pooled: str | None = None):
    """Two servers whose clocks differ, on one database; what empties it, and then gives them."""
    from sky.store.postgres import PostgresStore, Target

    sealer = Sealer(OneKey())
    stores = [PostgresStore(Target(direct, pooled, 5), None, sealer) for _ in range(2)]
    await asyncio.gather(*(store.connect() for store in stores))

    async def emptied() -> Bed:
        async with stores[0]._shared.write() as tx:
            await tx.plain(EMPTY)
        for store in stores:
            # Nobody else empties a database under servers that are running.
            store.clusters._read.clear()
        return Bed(Side(stores[0], time.time), Side(stores[1], lambda: time.time() + APART_S), asyncio.sleep, 1.0)

    yield emptied
    for store in stores:
        await store.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def straight(postgres, kept):
    """They stay for all tests of this file, and so does the loop that they were started in."""
    async with servers(postgres.uri(kept)) as emptied:
        yield emptied


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pooled(postgres, pgbouncer, kept):
    """The same, behind PgBouncer."""
    async with servers(postgres.uri(kept), postgres.uri(kept, pgbouncer)) as emptied:
        yield emptied


@pytest.mark.asyncio(loop_scope="module")
class TestPostgres(StoreContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def bed(self, straight):
        bed = await straight()
        assert not any(side.store._shared.pooled for side in (bed.one, bed.two))
        return bed


@pytest.mark.asyncio(loop_scope="module")
class TestPgBouncer(StoreContract):
    @pytest_asyncio.fixture(loop_scope="module")
    async def bed(self, pooled):
        return await pooled()


async def test_pgbouncer_is_noticed_where_it_is_named_as_if_it_were_the_database(postgres, pgbouncer, kept):
    async with servers(postgres.uri(kept, pgbouncer)) as emptied:
        bed = await emptied()
        assert all(side.store._shared.pooled for side in (bed.one, bed.two))
        await StoreContract().test_many_claimers_share_out_the_rows(bed)
