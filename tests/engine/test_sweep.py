"""Nothing runs without an owner, and nothing that has one is touched."""

from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.engine.post import Post
from sky.engine.sweep import Sweep
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals

STRANGER = CreateAsk(
    "k", "stranger", "name", Placement(Offer("local", "local", None, "localhost", 1, 1, 0.0, shared=True), 1, 1, 1)
)


def sweep_of(plane):
    return Sweep(plane.store, plane._providers, Post(SystemClock(), Signals()), SystemClock())


async def test_a_machine_without_a_record_is_ended_after_a_grace(plane):
    compute = plane._providers.compute("local")
    await compute.create(STRANGER)
    sweep = sweep_of(plane)
    assert await sweep.once() == []
    assert await sweep.once() == ["stranger"]
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
