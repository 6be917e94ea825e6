"""The loop: orders are carried out once each, letters are heeded at once, a dead holder's work is taken over."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy import text

from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.machine import UnexpectedEvent
from sky.core.model.clusters import Autostop, Cluster, Instance, InstanceState, Phase
from sky.core.model.offers import Offer, Placement
from sky.engine import work
from sky.engine.post import Post
from sky.engine.waiting import until
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore

PLACE = Placement(Offer("a", "r", None, "t", 1, 1, 0.5), 1, 1, 1)
NODE = Instance("c1-0", "c1", 0, InstanceState.RUNNING, "127.0.0.1")


@dataclass
class Bench:
    """A driver of clusters whose acts are what the test says: a result, an exception, or something to wait for."""

    store: SqliteStore = field(default_factory=SqliteStore)
    signals: Signals = field(default_factory=Signals)
    clock: SystemClock = field(default_factory=SystemClock)
    answers: dict[type, object] = field(default_factory=dict)
    glances: dict[type, object] = field(default_factory=dict)
    acted: list[tuple[str, object]] = field(default_factory=list)
    cancelled: list[object] = field(default_factory=list)
    name: str = "cluster"
    table = life.TABLE

    @property
    def rows(self):
        return self.store.clusters

    def id_of(self, entity):
        return entity.id

    def due_at(self, entity, now):
        return life.due_at(entity, now)

    def due_event(self):
        return life.Due()

    def before_order(self, entity, order):
        return None

    def put_down(self, entity):
        return None

    def committed(self, before, after):
        self.signals.notify(f"cluster:{after.id}")

    def crashed(self, order, error):
        return life.ProvisionRefused("request", f"crashed: {error}")

    async def glance(self, entity, order):
        return self.glances.get(type(order))

    async def act(self, entity, key, order):
        self.acted.append((key, order))
        answer = self.answers[type(order)]
        try:
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                return life.AgentsReady()
        except asyncio.CancelledError:
            self.cancelled.append(order)
            raise
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return await answer()
        return answer

    def driver(self, holder="h"):
        return work.Driver(self, self.clock, self.signals, holder=holder, concurrency=4)

    async def opened(self):
        drawn = Cluster("c1", "one", "u", "default", Phase.PROVISIONING, 0, 1.0, 1.0, 1, candidates=(PLACE,))
        await self.rows.open(life.opening(drawn), self.clock.now())

    async def reaches(self, *phases):
        async def load():
            return await self.rows.get("c1")

        async with asyncio.timeout(60):
            return await until(self.signals, "cluster:c1", load, lambda now: now.phase in phases)


@pytest.fixture
async def bench():
    made = Bench()
    made.answers = {
        life.Provision: life.NodesCreated((NODE,)),
        life.Bootstrap: life.AgentsReady(),
        life.TerminateNodes: life.NodesTerminated(),
        life.StopNodes: life.NodesStopped((replace(NODE, state=InstanceState.STOPPED),)),
        life.Observe: life.NodesObserved((NODE,), agent_answers=True),
    }
    await made.opened()
    yield made
    await made.store.close()


@pytest.fixture
async def running(bench):
    task = asyncio.create_task(bench.driver().run())
    yield bench
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_orders_follow_each_other_to_rest(running):
    await running.reaches(Phase.UP)
    assert [type(order) for _, order in running.acted] == [life.Provision, life.Bootstrap]
    assert len({key for key, _ in running.acted}) == 2


async def test_a_letter_calls_off_what_is_under_way(running):
    running.answers[life.Bootstrap] = asyncio.Event()
    await running.reaches(Phase.BOOTSTRAPPING)
    while not any(isinstance(order, life.Bootstrap) for _, order in running.acted):
        await asyncio.sleep(0)
    await Post(running.clock, running.signals).send("cluster", running.rows, "c1", life.DownAsked())
    await running.reaches(Phase.TERMINATED)
    assert running.cancelled == [life.Bootstrap()]


async def test_a_letter_that_changes_no_order_lets_it_go_on(running):
    gate = running.answers[life.Bootstrap] = asyncio.Event()
    await running.reaches(Phase.BOOTSTRAPPING)
    await Post(running.clock, running.signals).send("cluster", running.rows, "c1", life.StartAsked())
    while (await running.rows.get("c1")).version < 2:
        await asyncio.sleep(0)
    gate.set()
    await running.reaches(Phase.UP)
    assert running.cancelled == []
    assert [type(order) for _, order in running.acted].count(life.Bootstrap) == 1


async def asked_to_look(bench):
    """How many commits it takes, and what was carried out for it."""
    await bench.reaches(Phase.UP)
    before, acted = await bench.rows.get("c1"), len(bench.acted)
    letter = await Post(bench.clock, bench.signals).send("cluster", bench.rows, "c1", life.Due())
    async with asyncio.timeout(60):
        while not await bench.rows.heeded(letter) or await bench.rows.standing("c1"):
            await asyncio.sleep(0)
    return (await bench.rows.get("c1")).version - before.version, [type(order) for _, order in bench.acted[acted:]]


async def test_a_look_at_what_is_on_record_is_one_commit_with_what_is_seen(running):
    assert await asked_to_look(running) == (2, [life.Observe])
    running.glances[life.Observe] = life.NodesObserved((NODE,), agent_answers=True)
    assert await asked_to_look(running) == (1, [])


async def test_a_look_that_an_outcome_ends_in_is_one_commit_with_it(running):
    await running.reaches(Phase.UP)
    begun = (await running.rows.get("c1")).version
    running.answers[life.StopNodes] = life.TeardownFailed("busy")
    running.answers[life.Observe] = asyncio.Event()
    real = life.TABLE.step

    class Looks:
        """Stopping fails at once, and all that follows is a look."""

        def step(self, entity, event, now):
            if isinstance(event, life.TeardownFailed):
                return life.Step(replace(entity, phase=Phase.UP), (life.Observe(),), "it stays up")
            return real(entity, event, now)

    running.table = Looks()
    running.glances[life.Observe] = life.NodesObserved((NODE,), agent_answers=True)
    await Post(running.clock, running.signals).send("cluster", running.rows, "c1", life.StopAsked())
    async with asyncio.timeout(60):
        while await running.rows.standing("c1") or (await running.rows.get("c1")).version < begun + 2:
            await asyncio.sleep(0)
    assert (await running.rows.get("c1")).version == begun + 2, "asked to stop; stays up, and what a look finds"
    assert [each.text for each in await running.store.stories.read("cluster", "c1")][-1] == "it stays up"
    assert life.Observe not in [type(order) for _, order in running.acted]


async def test_what_is_opened_with_nothing_to_do_is_not_even_claimed(bench):
    drawn = Cluster("c2", "two", "u", "default", Phase.STOPPED, 0, 0.5, 0.5, 1)
    await bench.rows.open(life.Step(drawn, ()), 0.0)
    assert [each.entity.id for each in await bench.rows.claim(bench.clock.now() + 1, 10, "t", 10)] == ["c1"]
    await bench.rows.post("c2", life.Due(), 0.0)
    assert [each.entity.id for each in await bench.rows.claim(bench.clock.now() + 1, 10, "t", 10)] == ["c2"]


async def test_a_glance_that_fails_or_that_no_rule_accepts_is_an_order_like_any_other(running, monkeypatch, caplog):
    running.glances[life.Observe] = life.AutostopAsked(Autostop(5))
    monkeypatch.setattr(work, "LEASE_S", 0.1)
    monkeypatch.setattr(work, "POLL_S", 0.05)
    running.table = PickyTable(UnexpectedEvent("no rule"))
    assert await asked_to_look(running) == (2, [])
    assert "is set aside, after 3 times" in caplog.text

    async def glance(entity, order):
        raise OSError("disk full")

    running.glance = glance
    assert await asked_to_look(running) == (2, [life.Observe])
    assert "no glance at what is on record" in caplog.text


async def test_what_nobody_foresaw_becomes_an_event(bench, caplog):
    bench.answers[life.Provision] = RuntimeError("odd")
    task = asyncio.create_task(bench.driver().run())
    gone = await bench.reaches(Phase.TERMINATED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "crashed: odd" in gone.reason


async def test_a_stopped_driver_leaves_its_orders_for_the_next(bench):
    bench.answers[life.Bootstrap] = asyncio.Event()
    first = asyncio.create_task(bench.driver("first").run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while len(bench.acted) < 2:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bench.answers[life.Bootstrap] = life.AgentsReady()
    second = asyncio.create_task(bench.driver("second").run())
    await bench.reaches(Phase.UP)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    keys = [key for key, order in bench.acted if isinstance(order, life.Bootstrap)]
    assert len(keys) == 2
    assert len(set(keys)) == 1, "a repeated order carries the same key"


async def test_a_holder_that_lost_its_lease_writes_nothing(bench):
    gate = bench.answers[life.Bootstrap] = asyncio.Event()
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while len(bench.acted) < 2:
        await asyncio.sleep(0)
    thief = (await bench.rows.claim(bench.clock.now() + 2 * work.LEASE_S, 100, "thief", 1))[0]
    gate.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert (await bench.rows.get("c1")).phase is Phase.BOOTSTRAPPING
    assert (await bench.rows.reload(thief)).token == "thief"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_done_under_a_lost_lease_is_called_off(bench, monkeypatch):
    monkeypatch.setattr(work, "LEASE_S", 0.1)
    bench.answers[life.Bootstrap] = asyncio.Event()
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while len(bench.acted) < 2:
        await asyncio.sleep(0)
    await bench.rows.claim(bench.clock.now() + 2 * work.LEASE_S, 100, "thief", 1)
    async with asyncio.timeout(60):
        while not bench.cancelled:
            await asyncio.sleep(0.01)
    assert (await bench.rows.get("c1")).phase is Phase.BOOTSTRAPPING
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_leases_that_cannot_be_renewed_count_as_lost(bench, monkeypatch, caplog):
    monkeypatch.setattr(work, "LEASE_S", 0.1)
    bench.answers[life.Bootstrap] = asyncio.Event()

    async def renew(*_):
        raise OSError("disk full")

    monkeypatch.setattr(bench.rows, "renew", renew)
    task = asyncio.create_task(bench.driver().run())
    async with asyncio.timeout(60):
        while not bench.cancelled:
            await asyncio.sleep(0.01)
    assert "leases cannot be renewed" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_letter_whose_wake_up_was_lost_is_read_when_leases_are_renewed(bench, monkeypatch):
    monkeypatch.setattr(work, "LEASE_S", 0.3)
    bench.answers[life.Bootstrap] = asyncio.Event()
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while len(bench.acted) < 2:
        await asyncio.sleep(0)
    await bench.rows.post("c1", life.DownAsked(), bench.clock.now())
    await bench.reaches(Phase.TERMINATED)
    assert bench.cancelled == [life.Bootstrap()]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_jump_of_the_clock_does_not_double_what_is_under_way(bench):
    gate = bench.answers[life.Bootstrap] = asyncio.Event()
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while len(bench.acted) < 2:
        await asyncio.sleep(0)
    real = bench.clock.now
    bench.clock.now = lambda: real() + 3600  # a laptop that slept: every lease seems to have run out
    bench.signals.notify("work:cluster")
    for _ in range(50):
        await asyncio.sleep(0)
    gate.set()
    await bench.reaches(Phase.UP)
    assert [type(order) for _, order in bench.acted].count(life.Bootstrap) == 1
    assert bench.cancelled == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_loop_outlives_a_store_that_fails_for_a_while(bench, monkeypatch, caplog):
    monkeypatch.setattr(work, "_AFTER_TROUBLE_S", 0.0)
    real, left = bench.rows.claim, [OSError("disk full")] * 3

    async def claim(*given, **named):
        if left:
            raise left.pop()
        return await real(*given, **named)

    monkeypatch.setattr(bench.rows, "claim", claim)
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.UP)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_row_that_cannot_be_read_holds_up_no_other(bench, caplog):
    drawn = Cluster("c2", "two", "u", "default", Phase.PROVISIONING, 0, 0.5, 0.5, 1, candidates=(PLACE,))
    await bench.rows.open(life.opening(drawn), 0.0)
    async with bench.store._db.write() as tx:
        await tx.change(text("UPDATE clusters SET doc = '{}' WHERE id = 'c2'"))
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.UP)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "c2 cannot be read" in caplog.text


class HandClock(SystemClock):
    """A clock that goes on when it is told to: what depends on it does not depend on how busy the machine is."""

    def __init__(self):
        self.time, self._moved = super().now(), asyncio.Event()

    def now(self):
        return self.time

    async def sleep(self, seconds):
        end = self.time + seconds
        while self.time < end:
            await self._moved.wait()

    def forward(self, seconds):
        self.time += seconds
        self._moved.set()
        self._moved = asyncio.Event()


async def test_a_row_is_held_while_what_is_called_off_takes_its_time(bench):
    clock = bench.clock = HandClock()
    over = asyncio.Event()

    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            await over.wait()

    async def lease_until():
        async with bench.store._db.read() as tx:
            return await tx.scalar(text("SELECT lease_until FROM clusters WHERE id = 'c1'"))

    bench.answers[life.Bootstrap] = slow
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.BOOTSTRAPPING)
    while not any(isinstance(order, life.Bootstrap) for _, order in bench.acted):
        await asyncio.sleep(0)
    await Post(bench.clock, bench.signals).send("cluster", bench.rows, "c1", life.DownAsked())
    await bench.reaches(Phase.TERMINATING)
    for _ in range(4 * 3):
        clock.forward(work.LEASE_S / 3)
        async with asyncio.timeout(60):
            while await lease_until() < clock.now() + work.LEASE_S:
                await asyncio.sleep(0)
        assert await bench.rows.claim(clock.now() + 0.9 * work.LEASE_S, 1, "thief", 1) == [], "four leases long"
    assert not any(isinstance(order, life.TerminateNodes) for _, order in bench.acted)
    over.set()
    await bench.reaches(Phase.TERMINATED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class PickyTable:
    """The table, but for one event that breaks it."""

    def __init__(self, error):
        self.error, self.met = error, 0

    def step(self, entity, event, now):
        if isinstance(event, life.AutostopAsked):
            self.met += 1
            raise self.error
        return life.TABLE.step(entity, event, now)


@pytest.mark.parametrize("error", [UnexpectedEvent("cluster: no rule for it"), ZeroDivisionError("secret")])
async def test_a_letter_that_no_rule_accepts_is_set_aside_and_holds_up_nobody(bench, monkeypatch, caplog, error):
    monkeypatch.setattr(work, "LEASE_S", 0.1)
    monkeypatch.setattr(work, "POLL_S", 0.05)
    table = bench.table = PickyTable(error)
    task = asyncio.create_task(bench.driver().run())
    await bench.reaches(Phase.UP)
    post = Post(bench.clock, bench.signals)
    refused = await post.send("cluster", bench.rows, "c1", life.AutostopAsked(Autostop(5)))
    await post.send("cluster", bench.rows, "c1", life.DownAsked())
    await bench.reaches(Phase.TERMINATED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert table.met == 3
    assert await bench.rows.heeded(refused)
    lines = [each.text for each in await bench.store.stories.read("cluster", "c1")]
    (line,) = [each for each in lines if each.startswith("set aside")]
    assert "AutostopAsked" in line and "secret" not in line
    assert "is set aside after 3 readings" in caplog.text


@pytest.mark.parametrize("error", [UnexpectedEvent("cluster: no rule for it"), ZeroDivisionError("secret")])
@pytest.mark.parametrize("readable", [True, False])
async def test_an_order_whose_outcome_no_rule_accepts_is_not_carried_out_for_ever(
    bench, monkeypatch, caplog, error, readable
):
    """It counts as one that broke; if that is no event of the table either, the next letter still is."""
    monkeypatch.setattr(work, "LEASE_S", 0.1)
    monkeypatch.setattr(work, "POLL_S", 0.05)
    table = bench.table = PickyTable(error)
    bench.answers[life.Provision] = life.AutostopAsked(Autostop(5))
    if not readable:
        monkeypatch.setattr(Bench, "crashed", lambda self, order, error: life.AutostopAsked(Autostop(5)))
    task = asyncio.create_task(bench.driver().run())
    async with asyncio.timeout(60):
        while "is set aside, after 3 times" not in caplog.text:
            await asyncio.sleep(0.01)
    if not readable:
        await Post(bench.clock, bench.signals).send("cluster", bench.rows, "c1", life.DownAsked())
    await bench.reaches(Phase.TERMINATED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [type(order) for _, order in bench.acted].count(life.Provision) == 3
    assert table.met == (3 if readable else 4)
    (line,) = [each.text for each in await bench.store.stories.read("cluster", "c1") if "set aside" in each.text]
    assert line.startswith("Provision: set aside") and "AutostopAsked" in line and "secret" not in line
