"""On PostgreSQL connections are few: who asks how things are waits neither for work nor for what others record."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import bindparam, select

from sky.kit.current import CALL
from sky.store.schema import VALUES
from sky.store.statements import Prepared

_READ = Prepared(select(VALUES.c.value).where(VALUES.c.key == bindparam("wanted")))


@pytest.mark.parametrize("connections", [3, 10])
async def test_a_question_has_a_way_of_its_own(postgres, database, connections):
    from sky.store.postgres import PostgresDatabase, PostgresStore, Target

    store = PostgresStore(Target(postgres.uri(database), connections=connections))
    await store.connect()
    shared: PostgresDatabase = store._shared
    try:
        async with AsyncExitStack() as held:
            taken = 0
            for call in (False, True):
                CALL.set(call)
                # As many as there are: one more would wait.
                for _ in range(shared.pool(reads=False).get_max_size()):
                    await held.enter_async_context(shared.write())
                    taken += 1
            assert taken < connections
            async with asyncio.timeout(10), shared.read() as tx:
                assert await tx.scalar(_READ, wanted="nothing") is None
    finally:
        CALL.set(False)
        await store.close()
