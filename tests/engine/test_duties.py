"""Of several servers one has each duty, and each cluster one that listens to it."""

import asyncio

import pytest

from sky.engine.duties import BEAT_S, DUTIES, LEASE_S, Alone, Among
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore

CLUSTERS = [f"c{number}" for number in range(200)]


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def crew():
    """Three servers on one store and one clock."""
    store, clock = SqliteStore(), Hand()
    made = [Among(store.duties, clock, Signals()) for _ in range(3)]
    for each in made:
        each.clock, each.store = clock, store
    yield made
    await store.close()


async def beats(*servers, turns=2):
    for _ in range(turns):
        for each in servers:
            await each.beat()


def listeners(servers):
    return {id: [each for each in servers if each.listens_to(id)] for id in CLUSTERS}


def test_who_is_alone_does_everything():
    alone = Alone()
    assert all(alone.has(duty) for duty in DUTIES) and alone.listens_to("c1")


async def test_before_the_first_beat_nobody_does_anything(crew):
    assert not [each for each in crew if each.has("sweep") or each.listens_to("c1")]


async def test_each_duty_is_one_server_s_and_each_cluster_too(crew):
    await beats(*crew)
    assert {duty: sum(each.has(duty) for each in crew) for duty in DUTIES} == dict.fromkeys(DUTIES, 1)
    heard = listeners(crew)
    assert {len(who) for who in heard.values()} == {1}
    shares = [sum(who == [each] for who in heard.values()) for each in crew]
    assert min(shares) > len(CLUSTERS) / 10


async def test_when_one_dies_only_its_own_change_hands(crew):
    await beats(*crew)
    before = listeners(crew)
    dead, *left = crew
    for _ in range(int(LEASE_S / BEAT_S) + 1):
        dead.clock.time += BEAT_S
        await beats(*left, turns=1)
    assert {duty: sum(each.has(duty) for each in left) for duty in DUTIES} == dict.fromkeys(DUTIES, 1)
    assert not dead.has("sweep") and not dead.listens_to("c1")
    after = listeners(left)
    assert {len(who) for who in after.values()} == {1}
    assert all(after[id] == who for id, who in before.items() if who != [dead])
    assert await dead.store.duties.held("worker:", dead.clock.now()) == sorted(f"worker:{each._me}" for each in left)


async def test_one_that_was_stopped_does_nothing_when_it_goes_on(crew):
    stopped, other, _ = crew
    await beats(stopped)
    assert stopped.has("sweep")
    stopped.clock.time += LEASE_S + 0.1
    assert not stopped.has("sweep") and not stopped.listens_to("c1")
    await beats(other)
    await beats(stopped)
    assert [each.has("sweep") for each in (stopped, other)] == [False, True]


async def test_one_whose_beat_came_late_looks_again_at_whom_to_listen_to(crew):
    one = crew[0]
    await beats(one)
    with one._signals.watch("cluster") as listeners, one._signals.watch("managed_logs") as logs:
        one.clock.time += BEAT_S
        await beats(one)
        assert not listeners.taken() and not logs.taken()
        # Whoever looks now finds that it is not ours to listen; the crew is the same afterwards.
        one.clock.time += LEASE_S
        assert not one.listens_to("c1")
        await beats(one, turns=1)
        assert one.listens_to("c1") and listeners.taken() and logs.taken()


async def test_one_that_ends_in_good_order_lets_go_at_once(crew):
    ends, other, _ = crew
    task = asyncio.create_task(ends.run())
    while not ends.has("sweep"):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not ends.has("sweep")
    await beats(other)
    assert all(other.has(duty) for duty in DUTIES)
    assert all(other.listens_to(id) for id in CLUSTERS)


async def test_a_store_that_is_out_of_reach_ends_no_loop_and_no_duty_is_kept(crew, monkeypatch, caplog):
    one = crew[0]
    await beats(one)

    async def broken(*_):
        raise OSError("out of reach")

    monkeypatch.setattr(one._duties, "hold", broken)
    task = asyncio.create_task(one.run())
    while "cannot be renewed" not in caplog.text:
        await asyncio.sleep(0)
    assert not task.done() and one.has("sweep")
    one.clock.time += LEASE_S
    assert not one.has("sweep")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
