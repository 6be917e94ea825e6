"""Nothing runs without an owner, and nothing that has one is touched."""

import asyncio
import os

from sqlalchemy import text

from sky.core.errors import ProviderDown
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Refusal, Site
from sky.core.model.ledger import Question
from sky.core.model.offers import Offer, Placement
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus
from sky.core.ports import CreateAsk, Remnant
from sky.engine import sweep as sweeps
from sky.engine.post import Post
from sky.engine.quarantine import Quarantine
from sky.engine.remnants import Left
from sky.engine.sweep import Sweep
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals

#: Nodes are found by their id in the process table, which other test processes share.
NAME = f"stranger-{os.getpid()}"
STRANGER = CreateAsk(
    "k", NAME, "name", Placement(Offer("local", "local", None, "localhost", 1, 1, 0.0, shared=True), 1, 1, 1)
)


def sweep_of(plane):
    return Sweep(plane.store, plane._providers, Post(SystemClock(), Signals()), SystemClock(), plane.planner.listed)


async def test_a_machine_without_a_record_is_ended_after_a_grace(plane):
    compute = plane._providers.compute("local")
    await compute.create(STRANGER)
    sweep = sweep_of(plane)
    assert await sweep.once() == []
    assert await sweep.once() == [NAME]
    assert await compute.list() == []


async def test_a_machine_whose_record_has_ended_is_ended_at_once(plane, ask):
    request = await ask("launch", {"task": {"run": "true"}, "cluster_name": "c"})
    record = await plane.store.clusters.by_request(request.id)
    await ask("down", {"cluster_name": "c"})
    compute = plane._providers.compute("local")
    await compute.create(CreateAsk("k", record.id, "c", STRANGER.placement))
    assert await sweep_of(plane).once() == [record.id]


async def test_what_is_owned_is_left_alone(plane, ask):
    await ask("launch", {"task": {"run": "true"}, "cluster_name": "c"})
    sweep = sweep_of(plane)
    assert [await sweep.once(), await sweep.once(), await sweep.once()] == [[], [], []]
    assert len(await plane._providers.compute("local").list()) == 1


async def test_a_cluster_of_a_launch_that_was_called_off_in_the_very_moment_is_ended(plane):
    now = plane.clock.now()
    asked = Request("called-off-1", "launch", "u", RequestStatus.CANCELLED, 0, now)
    await plane.store.requests.open(asked, now)
    async with plane.store._db.write() as tx:
        await tx.change(text("UPDATE requests SET doc = replace(doc, 'PENDING', 'CANCELLED'), due_at = NULL"))
    drawn = Cluster("c9", "nine", "u", "default", Phase.BOOTSTRAPPING, 0, now, now, 1, request_id="called-off-1")
    await plane.store.clusters.open(Step(drawn, ()), now)
    sweep = sweep_of(plane)
    assert await sweep.call_off() == ["c9"]


async def test_a_sweep_that_fails_is_not_the_last(plane, monkeypatch, caplog):
    monkeypatch.setattr(sweeps, "PERIOD_S", 0.0)
    sweep, times = sweep_of(plane), []

    async def once():
        times.append(1)
        raise OSError("disk full")

    monkeypatch.setattr(sweep, "once", once)
    task = asyncio.create_task(sweep.run())
    while len(times) < 3:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Regions:
    """A cloud of two regions, with a machine of nobody's in each; `broken` are marks that cannot be ended."""

    def __init__(self, used, broken=()):
        self.left = {"here": f"{NAME}-here", "there": f"{NAME}-there"}
        self._used, self._broken = used, broken

    async def regions(self):
        return list(self.left)

    async def list(self, cluster_id=None, *, regions=None):
        seen = [mark for region, mark in self.left.items() if regions is None or region in regions]
        return [Instance(f"{mark}-0", mark, 0, InstanceState.RUNNING, "") for mark in seen]

    async def terminate(self, mark, *, regions=None, ranks=None):
        if mark in self._broken:
            raise ProviderDown("no answer")
        self.left = {region: each for region, each in self.left.items() if each != mark}


def sweep_over(plane, cloud, monkeypatch):
    class One:
        def names(self):
            return ["cloud"]

        def likely(self, name):
            return True

        def compute(self, name):
            return cloud

    sweep = Sweep(plane.store, One(), Post(SystemClock(), Signals()), SystemClock(), plane.planner.listed)
    monkeypatch.setattr(sweep, "_used", cloud._used)
    return sweep


async def test_a_machine_that_cannot_be_ended_keeps_no_other_alive(plane, monkeypatch):
    async def used():
        return {"cloud": {"here", "there"}}

    cloud = Regions(used, broken=[f"{NAME}-here"])
    sweep = sweep_over(plane, cloud, monkeypatch)
    await sweep.once()
    assert await sweep.once() == [f"{NAME}-there"]
    assert list(cloud.left) == ["here"]


async def test_what_is_in_a_region_that_nobody_uses_any_more_is_ended_too(plane, monkeypatch):
    """It is looked into now and then only; the looks in between do not count it as owned."""

    async def used():
        return {"cloud": {"here"}}

    monkeypatch.setattr(sweeps, "_EVERYWHERE", 3)
    cloud = Regions(used)
    sweep = sweep_over(plane, cloud, monkeypatch)
    for _ in range(4):
        await sweep.once()
    assert cloud.left == {}


async def test_regions_that_refused_a_launch_are_looked_into(plane):
    now = plane.clock.now()
    refused = Refusal("aws/eu-west-1/eu-west-1a", "m5.xlarge", "zone", "sold out", now)
    drawn = Cluster("c8", "eight", "u", "default", Phase.UP, 0, now, now, 1, refusals=(refused,))
    await plane.store.clusters.open(Step(drawn, ()), now)
    assert await sweep_of(plane)._used() == {"aws": {"eu-west-1"}}


class Things:
    """A cloud without machines, of which things are left in two regions."""

    def __init__(self, *left):
        self.left, self.removed = list(left), []

    async def list(self, cluster_id=None, *, regions=None):
        return []

    async def remnants(self, *, regions=None):
        return list(self.left)

    async def remove_remnant(self, remnant):
        if remnant.name == "held":
            raise ProviderDown("it is in use")
        self.left.remove(remnant)
        self.removed.append(remnant.name)


async def test_what_outlived_its_cluster_is_removed_when_it_is_seen_again(plane, monkeypatch):
    async def used():
        return {"cloud": {"here"}}

    now = plane.clock.now()
    drawn = Cluster("c7", "seven", "u", "default", Phase.UP, 0, now, now, 1, sites=(Site("cloud", "here", "c7"),))
    await plane.store.clusters.open(Step(drawn, ()), now)
    cloud = Things(
        Remnant("volume", "held", "gone", "here"),
        Remnant("volume", "left", "gone", "here"),
        Remnant("volume", "on a machine", "gone", "here", used=True),
        Remnant("security-group", "of a living one", "c7", "here"),
    )
    monkeypatch.setattr(sweeps, "_IMAGES", 3)
    cloud._used = used
    sweep = sweep_over(plane, cloud, monkeypatch)
    for _ in range(2):
        await sweep.once()
        assert cloud.removed == []
    for _ in range(4):
        await sweep.once()
    assert cloud.removed == ["left"]
    assert {each.name for each in cloud.left} == {"held", "on a machine", "of a living one"}


async def test_a_region_that_is_looked_into_seldom_is_not_forgotten():
    left, cloud = Left(), Things(Remnant("disk", "d", "gone", "far-a"))
    for looked in (None, {"near"}, None):
        there = [] if looked else await cloud.remnants()
        await left.remove("cloud", cloud, set(), there, looked)
    assert cloud.removed == ["d"]


async def test_what_is_removed_stands_in_the_ledger_and_in_the_story(plane, monkeypatch):
    async def used():
        return {"cloud": {"here"}}

    now = plane.clock.now()
    drawn = Cluster("c6", "six", "ann", "default", Phase.TERMINATED, 0, now, now, 1, ended_at=now, entered=True)
    await plane.store.clusters.open(Step(drawn, ()), now)
    cloud = Things(
        Remnant("volume", "vol-1", "c6", "here", now - 60.0), Remnant("security-group", "sg-1", "c6", "here")
    )
    cloud._used = used
    monkeypatch.setattr(sweeps, "_IMAGES", 2)
    sweep = sweep_over(plane, cloud, monkeypatch)
    for _ in range(4):
        await sweep.once()
    assert cloud.left == []
    (line,) = await plane.store.ledger.of_clusters(["c6"])
    entry = line.entry
    assert (entry.kind, entry.resource, entry.owner, entry.began) == ("disk", "vol-1", "ann", now)
    assert entry.ended is not None and "removed by the sweep" in entry.reason
    async with asyncio.timeout(10):
        while len(told := [each.text for each in await plane.store.stories.read("cluster", "c6") if each.text]) < 2:
            await asyncio.sleep(0.01)
    assert told == [
        "removed by the sweep: security-group sg-1 on cloud",
        "removed by the sweep: volume vol-1 on cloud",
    ]


async def test_what_a_restored_back_up_does_not_know_is_kept_for_a_while_and_told_of(plane, monkeypatch):
    async def used():
        return {"cloud": {"here", "there"}}

    now, hours = plane.clock.now(), {"restore_grace_hours": 1.0}
    await plane.store.set_value("restored-at", repr(now - 1800.0))
    over = Cluster("c5", "five", "u", "default", Phase.TERMINATED, 0, now, now, 1, ended_at=now)
    await plane.store.clusters.open(Step(over, ()), now)
    cloud = Regions(used)
    cloud.left["more"] = "c5"
    cloud.remnants = Things(Remnant("volume", "work", f"{NAME}-gone", "here")).remnants
    sweep = sweep_over(plane, cloud, monkeypatch)
    sweep._quarantine = Quarantine(plane.store, plane.clock, lambda _: hours)
    for _ in range(12):
        assert await sweep.once() in ([], ["c5"])
    assert set(cloud.left) == {"here", "there"}, "what was known and had ended is ended as ever"
    lines = [line.entry for line in await plane.store.ledger.lines(Question(cloud="cloud"))]
    assert {(each.mark, each.kind, each.ended) for each in lines} == {
        (f"{NAME}-here", "machine", None),
        (f"{NAME}-there", "machine", None),
    }
    assert all("kept until" in each.note for each in lines)
    assert f"does not know {NAME}-here on cloud, {NAME}-there on cloud" in await plane.upkeep.notice()

    hours["restore_grace_hours"] = 0.25
    for _ in range(3):
        await sweep.once()
    assert cloud.left == {}
    monkeypatch.setattr(sweeps, "_EVERYWHERE", 1)
    await sweep.once()
    assert await plane.store.ledger.lines(Question(cloud="cloud")) == []
    assert await plane.upkeep.notice() == ""
