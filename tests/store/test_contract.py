"""Every database keeps what the store promises: SQLite in a file and in memory, PostgreSQL, also behind PgBouncer."""

import asyncio
import time

import pytest

from sky.sim.store_contract import Bed, Side, StoreContract
from sky.store.sqlite import SqliteStore

#: Seconds by which the clocks of the two servers on PostgreSQL differ: more than any lease.
APART_S = 500.0


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


async def servers(direct: str, pooled: str | None = None):
    """Two servers whose clocks differ, on one database."""
    from sky.store.postgres import PostgresStore, Target

    stores = [PostgresStore(Target(direct, pooled, 5)) for _ in range(2)]
    await asyncio.gather(*(store.connect() for store in stores))
    yield Bed(Side(stores[0], time.time), Side(stores[1], lambda: time.time() + APART_S), asyncio.sleep, 1.0)
    for store in stores:
        await store.close()


class TestPostgres(StoreContract):
    @pytest.fixture
    async def bed(self, postgres, database):
        async for bed in servers(postgres.uri(database)):
            yield bed


class TestPgBouncer(StoreContract):
    @pytest.fixture
    async def bed(self, postgres, pgbouncer, database):
        async for bed in servers(postgres.uri(database), postgres.uri(database, pgbouncer)):
            yield bed
