"""A server that is stopped in the middle of a transaction, or while it starts, does not hold up the others."""

import asyncio
import contextlib
import socket

import pytest
from sqlalchemy import bindparam, insert, select, update

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.store.schema import VALUES
from sky.store.statements import Prepared

_ROW = VALUES.c.key == bindparam("wanted")
_MAKE = Prepared(insert(VALUES))
_READ = Prepared(select(VALUES.c.value).where(_ROW))
_LOCK = Prepared(select(VALUES.c.value).where(_ROW).with_for_update())
_SET = Prepared(update(VALUES).where(_ROW).values(value=bindparam("fresh")))


@pytest.fixture(params=["direct", "pooled"])
def target(request, postgres, database):
    from sky.store.postgres import Target

    uri = postgres.uri(database)
    if request.param == "direct":
        return Target(uri)
    return Target(uri, postgres.uri(database, port=request.getfixturevalue("pgbouncer")))


@pytest.mark.parametrize("within", [False, True], ids=["between-statements", "within-a-statement"])
async def test_what_a_stopped_server_holds_is_free_again(target, within, monkeypatch):
    from sky.store import postgres as subject

    monkeypatch.setattr(subject, "_HELD_S", 0.7)
    living, stopped = subject.PostgresStore(target), subject.PostgresDatabase(target)
    await living.connect()
    await stopped.connect()
    async with stopped.write() as tx:
        await tx.change(_MAKE, key="row", value="first")
    with pytest.raises(ServerTemporarilyUnavailableError):
        async with stopped.write() as tx:
            assert await tx.scalar(_LOCK, wanted="row") == "first"
            if within:
                # The words of a statement are sent and read, and its values do not come.
                await tx._connection.prepare("UPDATE state_values SET value = 'late' WHERE key = $1")
            begun = asyncio.get_running_loop().time()
            async with asyncio.timeout(20), living._shared.write() as other:
                assert await other.change(_SET, wanted="row", fresh="second") == 1
            assert asyncio.get_running_loop().time() - begun > 0.3, "it was held until then"
            await tx.change(_SET, wanted="row", fresh="late")
    async with living._shared.read() as tx:
        assert await tx.scalar(_READ, wanted="row") == "second"
    await stopped.close()
    await living.close()


@contextlib.asynccontextmanager
async def stopped_while_it_starts(target, monkeypatch, held_s):
    """Somebody who has begun to settle the schema, and goes on no more."""
    from sky.store import postgres as subject

    revision, stands_still = subject.revision, asyncio.Event()

    async def stopped_there(connection):
        stands_still.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as now:
        now.setattr(subject, "_HELD_S", held_s)
        now.setattr(subject, "revision", stopped_there)
        stopped = asyncio.create_task(subject.PostgresDatabase(target).connect())
        await stands_still.wait()
    assert subject.revision is revision
    try:
        yield
    finally:
        stopped.cancel()
        await asyncio.gather(stopped, return_exceptions=True)


async def test_a_server_that_is_stopped_while_it_starts_keeps_no_other_from_starting(target, monkeypatch):
    from sky.store.postgres import PostgresDatabase

    async with stopped_while_it_starts(target, monkeypatch, 0.7):
        other = PostgresDatabase(target)
        await other.connect()
        await other.close()


async def test_a_server_that_waits_for_another_to_start_says_so_in_the_end(target, monkeypatch):
    from sky.store import postgres as subject

    monkeypatch.setattr(subject, "_START_S", 3.0)
    async with stopped_while_it_starts(target, monkeypatch, 60.0):
        with pytest.raises(ConnectionError, match="does not answer: nothing came within 3 s"):
            await subject.PostgresDatabase(target).connect()


async def test_who_is_let_in_and_told_nothing_says_so(monkeypatch):
    """A port may be open with nobody behind it, as that of a machine that stands still."""
    subject = pytest.importorskip("sky.store.postgres")
    monkeypatch.setattr(subject, "_START_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(ConnectionError, match=r"does not answer: nothing came within 1\.5 s"):
            await subject.PostgresDatabase(subject.Target(f"postgresql://me@{host}:{port}/none")).connect()
