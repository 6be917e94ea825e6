"""Google Cloud on the wire, whose machines are real hosts: the whole life of clusters of one and of four nodes."""

import asyncio
from dataclasses import replace

import pytest
from gcp_bed import PROJECT, ZONE, Bed, offer

from sky.core.errors import CapacityRefused
from sky.core.model.clusters import InstanceState


@pytest.fixture
def bed(gcp_wire, tmp_path):
    made = Bed(gcp_wire, tmp_path)
    yield made
    made.sweep()


async def test_a_machine_lives_its_whole_life(bed):
    compute = bed.compute
    (node,) = await compute.create(bed.ask("life-1"))
    assert node.id == "life-1-0" and node.state is InstanceState.RUNNING and node.rank == 0
    assert node.reach["kind"] == "ssh" and node.reach["power"] == "machine" and "notice" not in node.reach
    assert (await bed.reached(node, "sudo id -un; hostname")).split() == ["root", node.machine]
    assert [each.id for each in await compute.list("life-1", regions=["us-central1"])] == ["life-1-0"]
    assert await compute.list("life-1", regions=["us-east1"]) == []

    await bed.reached(node, "echo kept > note")
    (stopped,) = await compute.stop("life-1")
    assert stopped.state is InstanceState.STOPPED and stopped.machine == node.machine
    (started,) = await compute.start("life-1")
    assert started.state is InstanceState.RUNNING
    assert await bed.reached(started, "cat note") == "kept\n"

    await compute.terminate("life-1")
    await compute.terminate("life-1")
    assert await compute.list("life-1") == [] and bed.left() == []


async def test_a_gang_of_four_with_ports(bed):
    compute = bed.compute
    nodes = await compute.create(bed.ask("gang-4", 4, ports=("8080", "9000-9010")))
    assert [node.rank for node in nodes] == [0, 1, 2, 3] and len({node.ip for node in nodes}) == 4
    assert {node.reach["host_key"] for node in nodes} == {nodes[0].reach["host_key"]}
    names = await asyncio.gather(*(bed.reached(node, "hostname") for node in nodes))
    assert [name.strip() for name in names] == [node.machine for node in nodes]

    mark = nodes[0].machine.rpartition("-")[0]
    rules = {each["name"]: each for each in bed.get("global/firewalls")["items"]}
    assert rules[f"{mark}-internal"]["sourceTags"] == rules[f"{mark}-internal"]["targetTags"] == [mark]
    assert rules[f"{mark}-ports"]["allowed"] == [{"IPProtocol": "tcp", "ports": ["8080", "9000-9010"]}]
    await compute.open_ports("gang-4", ["7000"])
    await compute.open_ports("gang-4", ["8080"])
    rules = {each["name"]: each for each in bed.get("global/firewalls")["items"]}
    assert rules[f"{mark}-ports"]["allowed"][0]["ports"] == ["7000", "8080", "9000-9010"]

    await compute.terminate("gang-4", ranks=[3])
    assert [node.rank for node in await compute.list("gang-4")] == [0, 1, 2] and len(bed.wire.hosts()) == 3
    grown = await compute.create(bed.ask("gang-4", 4, key="key-2", ranks=(3,)))
    assert [node.rank for node in grown] == [0, 1, 2, 3]
    assert [node.machine for node in grown[:3]] == [node.machine for node in nodes[:3]]

    assert {node.state for node in await compute.stop("gang-4")} == {InstanceState.STOPPED}
    assert {node.state for node in await compute.start("gang-4")} == {InstanceState.RUNNING}
    await compute.terminate("gang-4", regions=["us-central1"])
    assert bed.left() == []


async def test_the_same_ask_gives_the_same_machines(bed):
    first = await bed.compute.create(bed.ask("same", 2))
    born = {each["name"]: each["id"] for each in bed.everywhere("instances")}
    again = await Bed(bed.wire, bed.settings.state_dir).compute.create(bed.ask("same", 2))
    assert [node.machine for node in again] == [node.machine for node in first]
    assert {each["name"]: each["id"] for each in bed.everywhere("instances")} == born
    # One of them was lost meanwhile: the other stays.
    await bed.compute.terminate("same", ranks=[1])
    await bed.compute.create(bed.ask("same", 2))
    now = {each["name"]: each["id"] for each in bed.everywhere("instances")}
    assert now[first[0].machine] == born[first[0].machine] and now[first[1].machine] != born[first[1].machine]
    # Another ask for the same cluster wants other machines.
    await bed.compute.create(bed.ask("same", 1, key="another"))
    (only,) = bed.everywhere("instances")
    assert only["id"] not in born.values()
    await bed.compute.terminate("same")
    assert bed.left() == []


async def test_a_machine_that_a_late_list_does_not_show_is_ended_all_the_same(bed):
    (node,) = await bed.compute.create(bed.ask("late"))
    # Such a record is passed over by every list: as if Google had not yet heard of the machine.
    zone = f"zones/{ZONE}/instances/{node.machine}"
    record = bed.get(zone)
    assert record["labels"]["sky-rank"] == "0"
    bed.post(f"{zone}/setLabels", {"labels": {}, "labelFingerprint": "x"})
    assert await bed.compute.list("late") == []
    await bed.compute.terminate("late")
    assert bed.left() == []


@pytest.mark.parametrize("after", [0.0, 0.05, 0.3, 0.6, 1.0])
async def test_a_cancelled_ask_leaves_nothing(bed, after):
    making = asyncio.ensure_future(bed.compute.create(bed.ask("called-off", 4, ports=("80",))))
    await asyncio.sleep(after)
    if making.cancel():
        with pytest.raises(asyncio.CancelledError):
            await making
    else:  # a fast machine: it was done before
        await bed.compute.terminate("called-off")
    assert bed.left() == []


async def test_a_second_cancellation_does_not_stop_the_clearing_away(bed):
    making = asyncio.ensure_future(bed.compute.create(bed.ask("twice", 3)))
    while not bed.everywhere("instances"):
        await asyncio.sleep(0.01)
    for _ in range(20):
        making.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await making
    assert bed.left() == []


async def test_the_machines_of_others_are_not_seen(bed, tmp_path):
    other = Bed(bed.wire, tmp_path / "other")
    (mine,) = await bed.compute.create(bed.ask("twin"))
    (theirs,) = await other.compute.create(other.ask("twin"))
    assert mine.machine != theirs.machine and mine.reach["host_key"] != theirs.reach["host_key"]
    assert [node.machine for node in await bed.compute.list()] == [mine.machine]
    with pytest.raises(OSError, match="Permission denied"):
        other.login(mine, "true")
    with pytest.raises(OSError, match="Host key verification failed"):
        bed.login(replace(mine, reach=theirs.reach | {"host": mine.reach["host"]}), "true")
    await bed.compute.terminate("twin")
    assert [node.machine for node in await other.compute.list("twin")] == [theirs.machine]
    await other.compute.terminate("twin")
    assert bed.left() == []


async def test_a_preemption_is_seen(bed):
    (node,) = await bed.compute.create(bed.ask("spot", use_spot=True))
    assert node.reach["notice"] == "gcp"
    rules = bed.everywhere("instances")[0]["scheduling"]
    assert rules["provisioningModel"] == "SPOT" and rules["instanceTerminationAction"] == "DELETE"
    await asyncio.to_thread(bed.wire.do, "preempt", node.machine)
    (taken,) = await bed.compute.list("spot")
    assert taken.state is InstanceState.STOPPED and "preempted" in taken.reason
    # As it is on the real one: the machine is deleted with its disk.
    await asyncio.to_thread(bed.delete, f"zones/{ZONE}/instances/{node.machine}")
    assert await bed.compute.list("spot") == []
    with pytest.raises(CapacityRefused, match="gone"):
        await bed.compute.start("spot")
    await bed.compute.terminate("spot")
    assert bed.left() == []


async def test_a_machine_that_shuts_itself_down_is_stopped(bed):
    (node,) = await bed.compute.create(bed.ask("self-stop"))
    await bed.reached(node, "(sleep 0.3; sudo shutdown -h now) </dev/null >/dev/null 2>&1 &")
    for _ in range(100):
        (seen,) = await bed.compute.list("self-stop")
        if seen.state is InstanceState.STOPPED:
            break
        await asyncio.sleep(0.1)
    assert seen.state is InstanceState.STOPPED and "inside" in seen.reason
    await bed.compute.terminate("self-stop")
    assert bed.left() == []


async def test_a_zone_is_found_where_none_is_named(bed):
    bed.wire.fail("compute.instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED", match={"zone": ZONE})
    said = []
    nodes = await bed.compute.create(bed.ask("anywhere", 2, zone=None, say=said.append))
    assert {each["zone"].rpartition("/")[2] for each in bed.everywhere("instances")} == {"us-central1-b"}
    assert len(nodes) == 2 and ZONE in said[0]
    await bed.compute.terminate("anywhere")
    assert bed.left() == []


async def test_a_disk_becomes_the_image_of_another_cluster(bed):
    await bed.compute.create(bed.ask("origin"))
    await bed.compute.stop("origin")
    image = await bed.compute.image_of("origin", "ask-1")
    assert await bed.compute.image_of("origin", "ask-1") == image, "asked again, there is one"
    other = await bed.compute.image_of("origin", "ask-2")
    assert {(each.name, each.key) for each in await bed.compute.images()} == {(image, "ask-1"), (other, "ask-2")}
    assert bed.get(image.partition(f"/{PROJECT}/")[2])["labels"]["sky-cluster-id"] == "origin"
    await bed.compute.create(bed.ask("copy", clone_of=image))
    copy = next(each for each in bed.everywhere("instances") if each["labels"]["sky-cluster-id"] == "copy")
    assert copy["disks"][0]["initializeParams"]["sourceImage"] == image
    theirs = f"projects/{PROJECT}/global/images/theirs"
    bed.post("global/images", {"name": "theirs", "sourceDisk": "zones/z/disks/d"})
    for name in (image, image, other, theirs):
        await bed.compute.remove_image(name)
    assert await bed.compute.images() == []
    assert [
        each["name"] for each in bed.get("global/images")["items"] if "labels" in each or each["name"] == "theirs"
    ] == ["theirs"]
    bed.delete("global/images/theirs")
    for cluster in ("origin", "copy"):
        await bed.compute.terminate(cluster)
    assert bed.left() == []


async def test_who_asks_and_whether_it_works(bed):
    assert await bed.compute.identity() == f"{PROJECT}/anonymous"
    access = await bed.compute.check()
    assert access.enabled and access.capabilities == ("compute",) and PROJECT in access.account
    bed.wire.fail("compute.regions.list", "accessNotConfigured", http=403)
    access = await bed.compute.check()
    assert not access.enabled and access.credentials and "1. Enable the API" in access.hint
    assert await bed.compute.offers() == ()


async def test_quotas_are_read_before_they_are_hit(bed):
    assert await bed.compute.room(offer(cpus=8.0, instance_type="n1-standard-8")) == 12
    gpus = offer(instance_type="n1-standard-8+T4:4", accelerators={"T4": 4.0}, cpus=8.0)
    assert await bed.compute.room(gpus) == 12
    assert await bed.compute.room(offer(instance_type="n1-standard-4+T4:4", accelerators={"T4": 4.0}, cpus=1.0)) == 25
    assert await bed.compute.room(offer(region="mars-north1")) is None
    assert await bed.compute.room(offer(instance_type="tpu-v5e-8")) is None


async def test_what_outlives_a_cluster_is_found_by_its_labels_and_removed(bed):
    labels = {"sky-installation": bed.keys.installation(), "sky-cluster-id": "gone-1"}
    where = f"zones/{ZONE}/disks"
    bed.post(where, {"name": "left", "sizeGb": "10", "labels": labels})
    bed.post(where, {"name": "of-others", "sizeGb": "10", "labels": {**labels, "sky-installation": "another"}})
    bed.post(where, {"name": "shared", "sizeGb": "10", "labels": {"sky-installation": bed.keys.installation()}})
    (found,) = await bed.compute.remnants(regions=["us-central1"])
    assert (found.kind, found.name, found.mark, found.region) == ("disk", "left", "gone-1", ZONE)
    assert await bed.compute.remnants(regions=["us-east1"]) == []
    await bed.compute.remove_remnant(found)
    await bed.compute.remove_remnant(found)
    assert {each["name"] for each in bed.everywhere("disks")} == {"of-others", "shared"}
    for name in ("of-others", "shared"):
        bed.delete(f"{where}/{name}")


async def test_rules_and_policies_that_outlive_a_cluster_are_known_by_what_they_tell(bed):
    bed.config["placement_policy"] = "compact"
    await bed.compute.create(bed.ask("gone-2", 2, ports=("8080",)))
    # Machines that ended behind our back leave what was made beside them.
    for each in bed.everywhere("instances"):
        bed.delete(f"zones/{ZONE}/instances/{each['name']}")
    bed.post("global/firewalls", {"name": "of-others", "network": "global/networks/default", "description": "mine"})
    rules = bed.get("global/firewalls")["items"]
    told = next(each["description"] for each in rules if "gone-2" in each.get("description", ""))
    copied = {"name": "copied", "network": "global/networks/default", "description": told}
    bed.post("global/firewalls", copied)
    found = await bed.compute.remnants(regions=["us-central1"])
    kinds = sorted((each.kind, each.mark, each.region) for each in found)
    assert kinds == [
        ("firewall-rule", "gone-2", ""),
        ("firewall-rule", "gone-2", ""),
        ("placement-policy", "gone-2", "us-central1"),
    ]
    assert [each.kind for each in await bed.compute.remnants(regions=["us-east1"])] == ["firewall-rule"] * 2
    other = Bed(bed.wire, bed.keys.identity().parent.parent / "other")
    assert await other.compute.remnants() == []
    for each in found:
        await bed.compute.remove_remnant(each)
    assert await bed.compute.remnants() == []
    assert sorted(bed.left()) == ["firewalls/copied", "firewalls/of-others"]
    bed.sweep()
