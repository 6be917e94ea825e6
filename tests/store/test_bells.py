"""What one server notifies, the other hears; where nothing arrives, that is known."""

import asyncio

import pytest

from sky.kit.signals import Signals


@pytest.fixture
def joined(postgres, database):
    """Opens servers on one database; gives their signals."""
    from sky.store.postgres import PostgresStore, Target

    stores = []

    async def join(direct: str | None = None) -> Signals:
        signals = Signals()
        stores.append(PostgresStore(Target(direct or postgres.uri(database)), signals))
        await stores[-1].connect()
        return signals

    async def leave() -> None:
        for store in stores:
            await store.close()

    join.leave = leave
    return join


async def hears(signals: Signals, *, all_of_them: bool = True, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while signals.hears_all is not all_of_them:
            await asyncio.sleep(0.02)


async def test_a_change_is_heard_by_the_other_server(joined):
    one, two = await joined(), await joined()
    await asyncio.gather(hears(one), hears(two))
    with two.watch("clusters") as theirs, two.watch("jobs") as others, one.watch("clusters") as ours:
        assert await others.changed(0.2) is False
        one.notify("clusters")
        assert await theirs.changed(20)
        assert await ours.changed(0)
        # Rung once here, and not again by its own echo.
        assert await ours.changed(0.3) is False
        assert await others.changed(0) is False
    await joined.leave()


async def test_many_changes_at_once_all_arrive(joined):
    one, two = await joined(), await joined()
    await asyncio.gather(hears(one), hears(two))
    watches = [two.watch(f"request:{'x' * 40}-{number}") for number in range(500)]
    for watch in watches:
        one.notify(watch.topic)
    for watch in watches:
        assert await watch.changed(20)
        watch.close()
    await joined.leave()


async def test_a_line_that_breaks_is_made_again(joined, postgres, database, monkeypatch):
    from sky.store import bells

    monkeypatch.setattr(bells, "_TRIAL_S", 0.2)
    monkeypatch.setattr(bells, "_AGAIN_S", 0.1)
    one, two = await joined(), await joined()
    await asyncio.gather(hears(one), hears(two))
    with two.watch("clusters") as lost:
        ending = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        await asyncio.to_thread(postgres.say, database, ending)
        # Who waits is woken when the line breaks: what came meanwhile may have been missed.
        assert await lost.changed(20)
    await asyncio.gather(hears(one), hears(two))
    with two.watch("clusters") as theirs:
        one.notify("clusters")
        assert await theirs.changed(20)
    await joined.leave()


async def test_behind_pgbouncer_alone_nothing_arrives_and_that_is_known(
    joined, postgres, pgbouncer, database, caplog, monkeypatch
):
    from sky.store import bells

    monkeypatch.setattr(bells, "_ECHO_S", 0.5)
    signals = await joined(postgres.uri(database, pgbouncer))
    async with asyncio.timeout(30):
        while "do not arrive" not in caplog.text:
            await asyncio.sleep(0.05)
    assert signals.hears_all is False
    await joined.leave()
    assert "postgresql://" not in caplog.text


def test_messages_are_of_a_size_that_can_be_carried():
    pytest.importorskip("asyncpg")
    from sky.store.bells import packed

    topics = {f"letter:cluster:{number:05}-{'ü' * 30}": None for number in range(400)}
    messages = list(packed("me", {**topics, "x" * 9000: None}))
    assert max(len(message.encode()) for message in messages) < 8000
    assert [topic for message in messages for topic in message.split("\n")[1:]] == list(topics)
    assert {message.split("\n")[0] for message in messages} == {"me"}
    assert list(packed("me", {})) == []
