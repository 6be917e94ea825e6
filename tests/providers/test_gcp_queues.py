"""What the wire alone does not have: lists that are late, capacity that is queued for, TPUs by Google's description."""

import asyncio

import pytest
from gcp_bed import PROJECT, Bed, offer
from gcp_front import front

from sky.core.errors import (
    CapacityRefused,
    NotSupportedError,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    RequestInvalid,
)
from sky.core.model.clusters import InstanceState

GPUS = {"instance_type": "a2-highgpu-8g", "accelerators": {"A100": 8.0}, "cpus": 96.0}
QUEUE = {"managed_instance_group": {"run_duration": 3600, "provision_timeout": 0.3}}


@pytest.fixture
def ahead(gcp_wire):
    with front(gcp_wire.url) as made:
        yield made


@pytest.fixture
def bed(gcp_wire, ahead, tmp_path):
    made = Bed(gcp_wire, tmp_path, url=ahead.url)
    yield made
    made.sweep()


async def test_a_list_that_is_late_hides_nothing_from_the_end(bed, ahead):
    (node,) = await bed.compute.create(bed.ask("late"))
    ahead.hidden = 2
    assert await bed.compute.list("late") == []
    await bed.compute.terminate("late")
    assert bed.left() == [] and node.machine


async def test_a_zone_out_of_reach_hides_nothing_but_itself(bed, ahead):
    (node,) = await bed.compute.create(bed.ask("seen"))
    ahead.blind = ["projects/p/zones/europe-west4-a"]
    assert [each.id for each in await bed.compute.list("seen", regions=["us-central1"])] == [node.id]
    for regions in (None, ["europe-west4"]):
        with pytest.raises(ProviderDown, match="europe-west4-a"):
            await bed.compute.list(regions=regions)
    ahead.blind = []
    await bed.compute.terminate("seen")


async def test_an_ask_that_a_late_list_hides_is_still_the_same(bed, ahead):
    first = await bed.compute.create(bed.ask("late-too", 2))
    ahead.hidden = 1
    again = await bed.compute.create(bed.ask("late-too", 2))
    assert [node.machine for node in again] == [node.machine for node in first]
    ahead.hidden = 1
    # Another ask meets machines under its names, which nobody wants any more.
    await bed.compute.create(bed.ask("late-too", 2, key="another"))
    assert len(bed.everywhere("instances")) == 2
    await bed.compute.terminate("late-too")
    assert bed.left() == []


async def test_a_group_gives_all_machines_at_once(bed):
    bed.config |= QUEUE
    nodes = await bed.compute.create(bed.ask("queue", 2, **GPUS))
    assert [node.rank for node in nodes] == [0, 1]
    (template,) = bed.get("global/instanceTemplates")["items"]
    assert template["properties"]["scheduling"]["maxRunDuration"] == {"seconds": "3600"}
    assert template["properties"]["disks"][0]["initializeParams"]["diskType"] == "pd-balanced"
    (group,) = bed.everywhere("instanceGroupManagers")
    assert group["targetSize"] == 0 and group["baseInstanceName"] == group["name"]
    assert await bed.reached(nodes[1], "hostname") == f"{nodes[1].machine}\n"
    gpus = bed.ask("queue", 2, **GPUS).placement.offer
    bed.config.pop("managed_instance_group")
    assert bed.compute.unstoppable(gpus) is None, "who is to be made by now"
    assert "sky down" in bed.compute.unstoppable(gpus, made=nodes), "who is there was made by a group"
    assert "sky down" in bed.compute.unstoppable(gpus, bed.config | QUEUE)
    bed.config |= QUEUE
    with pytest.raises(NotSupportedError, match="sky down"):
        await bed.compute.stop("queue")
    await bed.compute.terminate("queue")
    assert bed.left() == []


@pytest.mark.parametrize(
    ("grants", "kind"),
    [
        ("never", CapacityRefused),
        ({"code": "QUOTA_EXCEEDED", "message": "no"}, QuotaReached),
        ({"code": "ZONE_RESOURCE_POOL_EXHAUSTED"}, CapacityRefused),
    ],
)
async def test_a_queue_that_gives_nothing_leaves_nothing(bed, ahead, grants, kind):
    bed.config |= QUEUE
    ahead.grants = grants
    said = []
    with pytest.raises(kind):
        await bed.compute.create(bed.ask("in-vain", 2, say=said.append, **GPUS))
    assert bed.left() == [] and "Waiting" in said[0]


async def test_a_growing_queue_that_gives_nothing_is_taken_back(bed, ahead):
    bed.config |= QUEUE
    nodes = await bed.compute.create(bed.ask("wider", 1, **GPUS))
    ahead.grants = "never"
    with pytest.raises(CapacityRefused):
        await bed.compute.create(bed.ask("wider", 2, key="more", ranks=(1,), **GPUS))
    assert ahead.cancelled == 1
    assert [each.machine for each in await bed.compute.list("wider")] == [node.machine for node in nodes]
    ahead.grants = "yes"
    grown = await bed.compute.create(bed.ask("wider", 2, key="again", ranks=(1,), **GPUS))
    assert [node.rank for node in grown] == [0, 1]
    await bed.compute.terminate("wider", ranks=[1])
    assert [each.rank for each in await bed.compute.list("wider")] == [0]
    await bed.compute.terminate("wider")
    assert bed.left() == []


async def test_settings_that_are_wrong_refuse_a_launch_in_words(bed):
    with pytest.raises(RequestInvalid, match="did you mean 'vpc_name'") as told:
        await bed.compute.create(bed.ask("wrong", config={"vpc_nam": "x"}))
    assert told.value.scope == "account"


async def test_machines_without_accelerators_are_not_queued_for(bed):
    bed.config |= QUEUE
    await bed.compute.create(bed.ask("plain"))
    assert bed.everywhere("instanceGroupManagers") == []
    await bed.compute.terminate("plain")
    assert bed.left() == []


def test_what_cannot_be_stopped_is_known_before_it_is_made(bed):
    plain = offer(instance_type="n2-standard-8")
    bed.config |= QUEUE
    assert bed.compute.unstoppable(plain) is None
    for name, several in (("tpu-v5e-8", False), ("tpu-v5e-16", True), ("tpu-v4-8", False), ("tpu-v4-32", True)):
        assert (bed.compute.unstoppable(offer(**tpu(name))) is not None) is several


# --- TPUs ----------------------------------------------------------------------------------------------------------


def tpu(name="tpu-v5e-8", **more):
    kind = name.rpartition("-")[0]
    return {"instance_type": name, "accelerators": {kind: 8.0}, "cpus": 224.0, **more}


async def test_a_tpu_lives_its_whole_life(bed, ahead):
    (node,) = await bed.compute.create(bed.ask("tpu-1", labels={"team": "x"}, **tpu(use_spot=True)))
    (record,) = ahead.tpus.values()
    assert record["acceleratorType"] == "v5litepod-8" and record["runtimeVersion"] == "v2-alpha-tpuv5-lite"
    assert record["schedulingConfig"] == {"spot": True} and record["labels"]["team"] == "x"
    assert record["networkConfig"]["network"] == f"projects/{PROJECT}/global/networks/default"
    assert node.state is InstanceState.RUNNING and node.reach["host"] == "192.0.2.0" and node.ip == "10.9.0.0"
    assert [each.id for each in await bed.compute.create(bed.ask("tpu-1", **tpu(use_spot=True)))] == ["tpu-1-0"]
    assert len(ahead.asked) == 1
    assert [each.state for each in await bed.compute.stop("tpu-1")] == [InstanceState.STOPPED]
    assert [each.state for each in await bed.compute.start("tpu-1")] == [InstanceState.RUNNING]
    record["state"] = "PREEMPTED"
    (taken,) = await bed.compute.list("tpu-1", regions=["us-central1"])
    assert taken.state is InstanceState.STOPPED and taken.reason == "preempted"
    assert await bed.compute.list("tpu-1", regions=["us-east1"]) == []
    await bed.compute.terminate("tpu-1")
    assert ahead.tpus == {} and bed.left() == []


async def test_the_hosts_of_a_slice_are_nodes(bed, ahead):
    ahead.hosts = 4
    slice_of = tpu("tpu-v6e-16")
    with pytest.raises(NotSupportedError, match="num_nodes: 4"):
        await bed.compute.create(bed.ask("slice", 1, **slice_of))
    nodes = await bed.compute.create(bed.ask("slice", 4, **slice_of))
    assert [(node.id, node.ip) for node in nodes] == [(f"slice-{n}", f"10.9.0.{n}") for n in range(4)]
    assert len(ahead.tpus) == 1 and next(iter(ahead.tpus.values()))["runtimeVersion"] == "v2-alpha-tpuv6e"
    with pytest.raises(NotSupportedError, match="several hosts"):
        await bed.compute.stop("slice")
    await bed.compute.terminate("slice")
    assert ahead.tpus == {} and bed.left() == []


async def test_a_tpu_can_be_queued_for(bed, ahead):
    bed.config |= QUEUE
    (node,) = await bed.compute.create(bed.ask("tpu-q", **tpu("tpu-v5p-8")))
    (request,) = ahead.queued.values()
    assert request["queueingPolicy"] == {"validUntilDuration": "1s"} and node.rank == 0
    await bed.compute.terminate("tpu-q")
    ahead.grants = "never"
    with pytest.raises(CapacityRefused, match="not granted"):
        await bed.compute.create(bed.ask("tpu-q", key="second", **tpu("tpu-v5p-8")))
    assert ahead.tpus == {} and ahead.queued == {} and bed.left() == []


@pytest.mark.parametrize(
    ("code", "kind", "scope"),
    [(8, CapacityRefused, "zone"), (3, RequestInvalid, "request"), (7, ProviderFailure, "account")],
)
async def test_what_is_refused_of_a_tpu(bed, ahead, code, kind, scope):
    ahead.grants = {"code": code, "message": "no"}
    with pytest.raises(kind) as told:
        await bed.compute.create(bed.ask("tpu-no", 2, **tpu("tpu-v2-8")))
    assert told.value.scope == scope and ahead.tpus == {}
    assert bed.left() == []


async def test_an_ask_that_was_cut_short_goes_on_where_it_began(bed):
    bed.wire.fail("compute.instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED", match={"zone": "us-central1-a"})
    first = await bed.compute.create(bed.ask("begun", 2, zone=None))
    bed.wire.heal()
    await bed.compute.terminate("begun", ranks=[1])
    again = await bed.compute.create(bed.ask("begun", 2, zone=None))
    assert again[0].machine == first[0].machine
    assert {each["zone"].rpartition("/")[2] for each in bed.everywhere("instances")} == {"us-central1-b"}
    await bed.compute.terminate("begun")
    assert bed.left() == []


async def test_what_is_busy_for_a_moment_is_asked_again(bed):
    bed.wire.fail("compute.instances.insert", "resourceNotReady", times=2, http=400)
    await bed.compute.create(bed.ask("busy"))
    bed.wire.fail("compute.instances.delete", "resourceInUseByAnotherResource", times=2, http=400)
    await bed.compute.terminate("busy")
    assert bed.left() == []


async def test_many_questions_about_quotas_are_one(bed, ahead):
    before = len(ahead.bearers)
    rooms = await asyncio.gather(*(bed.compute.room(offer(cpus=1.0 + n)) for n in range(50)))
    assert set(rooms) == {100} and len(ahead.bearers) - before == 1
