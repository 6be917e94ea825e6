"""Amazon's machines from the first call to the last, with real hosts behind the API and a login to each."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from aws_world import HOME, NO_MACHINES, MachineSpec, Stage, World, ask, error_xml, offer, stage, staged, world

from sky.core.errors import CapacityRefused, CredentialsRejected, NotSupportedError
from sky.core.model.clusters import InstanceState
from sky.core.ports import ClonesDisks, Compute, Identified, OpensPorts, Quotas, Stoppable
from sky.remote.keys import KeyRing

__all__ = ["stage", "staged", "world"]

RUNNING, STOPPED, TERMINATED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.TERMINATED


def test_contracts(world: World) -> None:
    compute: Compute = world.compute
    assert all(isinstance(compute, each) for each in (Stoppable, Identified, OpensPorts, ClonesDisks, Quotas))


@pytest.mark.parametrize("nodes", [1, 4])
async def test_a_whole_life(world: World, nodes: int) -> None:
    compute, wanted = world.compute, ask(nodes)
    made = await compute.create(wanted)
    assert [(each.id, each.state) for each in made] == [
        (f"{wanted.cluster_id}-{rank}", RUNNING) for rank in range(nodes)
    ]
    assert len({each.machine for each in made}) == len({each.ip for each in made}) == nodes
    assert await compute.list(wanted.cluster_id, regions=[HOME]) == made
    assert await compute.create(wanted) == made, "the same key gives the same machines"
    for each in made:
        assert each.reach["power"] == "machine"
        assert "notice" not in each.reach
        assert world.login(each.reach, f"echo {each.id} > kept; hostname") == each.machine

    stopped = await compute.stop(wanted.cluster_id, regions=[HOME])
    assert [each.state for each in stopped] == [STOPPED] * nodes
    assert {host["state"] for host in world.wire.hosts()} == {"stopped"}
    started = await compute.start(wanted.cluster_id, regions=[HOME])
    assert [(each.machine, each.state) for each in started] == [(each.machine, RUNNING) for each in made]
    for each in started:
        assert world.login(each.reach, "cat kept") == each.id

    await compute.terminate(wanted.cluster_id, regions=[HOME])
    await compute.terminate(wanted.cluster_id, regions=[HOME])
    assert await compute.list(wanted.cluster_id, regions=[HOME]) == []
    assert world.left(wanted.cluster_id) == []


async def test_machines_carry_marks_and_nothing_secret(world: World) -> None:
    wanted = ask(
        machine=MachineSpec(labels={"mine": "yes"}, ports=("8080", "9000-9010")),
        labels={"sky-user": "ann"},
        config={"labels": {"team": "blue"}},
    )
    await world.compute.create(wanted)
    (raw,) = world.machines(wanted.cluster_id)
    tags = {each["Key"]: each["Value"] for each in raw["Tags"]}
    assert tags["sky-installation"] == world.ring.installation()
    assert (tags["mine"], tags["sky-user"], tags["team"], tags["Name"]) == ("yes", "ann", "blue", wanted.cluster_name)
    assert "IamInstanceProfile" not in raw
    assert raw["KeyName"] == f"sky-{world.ring.installation()}"
    (group,) = world.groups(wanted.cluster_id)
    ports = {(rule.get("FromPort"), rule.get("ToPort")) for rule in group["IpPermissions"]}
    assert ports == {(22, 22), (8080, 8080), (9000, 9010), (None, None)}


async def test_machines_run_the_users_commands_at_their_first_start(world: World) -> None:
    commands = ["echo one > /var/tmp/said", ["sh", "-c", "echo two words >> /var/tmp/said; touch /var/tmp/done"]]
    (made,) = await world.compute.create(ask(config={"post_provision_runcmd": commands}))
    wait = "for i in $(seq 100); do [ -e /var/tmp/done ] && break; sleep 0.1; done; cat /var/tmp/said"
    assert world.login(made.reach, wait) == "one\ntwo words"


async def test_a_key_pair_that_is_there_is_used_again(world: World) -> None:
    first, second = ask(), ask()
    await asyncio.gather(world.compute.create(first), world.compute.create(second))
    pairs = {raw["KeyName"] for each in (first, second) for raw in world.machines(each.cluster_id)}
    assert pairs == {f"sky-{world.ring.installation()}"}


async def test_a_machine_that_ends_itself_is_stopped(world: World) -> None:
    (made,) = await world.compute.create(wanted := ask())
    world.login(made.reach, "sudo sh -c 'shutdown -h now' >/dev/null 2>&1 & exit 0")
    seen = await until_state(world, wanted.cluster_id, STOPPED)
    assert "InstanceInitiatedShutdown" in (seen.reason or "")
    (again,) = await world.compute.start(wanted.cluster_id, regions=[HOME])
    assert world.login(again.reach, "echo up") == "up"


async def test_a_spot_machine_that_is_taken_away_is_told_with_its_reason(world: World) -> None:
    made = await world.compute.create(wanted := ask(2, offer=offer(use_spot=True, zone=f"{HOME}b")))
    assert {each.reach["notice"] for each in made} == {"aws"}
    assert {raw["Placement"]["AvailabilityZone"] for raw in world.machines(wanted.cluster_id)} == {f"{HOME}b"}
    world.wire.do("preempt", made[1].machine)
    await until_state(world, wanted.cluster_id, TERMINATED, rank=1)
    first, second = await world.compute.list(wanted.cluster_id, regions=[HOME])
    assert (first.state, second.state) == (RUNNING, TERMINATED)
    assert "SpotInstanceTermination" in (second.reason or "")
    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert world.left(wanted.cluster_id) == []


async def test_machines_of_another_installation_are_never_seen_nor_touched(world: World) -> None:
    stranger = world.other(KeyRing(world.folder / "stranger"))
    wanted = ask()
    (mine,) = await world.compute.create(wanted)
    assert await stranger.list(regions=[HOME]) == []
    assert await stranger.list(wanted.cluster_id, regions=[HOME]) == []
    await stranger.terminate(wanted.cluster_id, regions=[HOME])
    assert [each.machine for each in await world.compute.list(regions=[HOME])] == [mine.machine]


async def test_a_cluster_grows_and_shrinks_by_ranks(world: World) -> None:
    wanted = ask()
    (head,) = await world.compute.create(wanted)
    more = replace(wanted, key="more", placement=replace(wanted.placement, num_nodes=3), ranks=(1, 2))
    grown = await world.compute.create(more)
    assert [(each.rank, each.machine == head.machine) for each in grown] == [(0, True), (1, False), (2, False)]
    await world.compute.terminate(wanted.cluster_id, regions=[HOME], ranks=[2])
    assert [each.rank for each in await world.compute.list(wanted.cluster_id, regions=[HOME])] == [0, 1]
    refused = replace(more, key="again", ranks=(2,))
    world.wire.fail("RunInstances", "InsufficientInstanceCapacity")
    with pytest.raises(CapacityRefused):
        await world.compute.create(refused)
    assert [each.rank for each in await world.compute.list(wanted.cluster_id, regions=[HOME])] == [0, 1]
    assert world.groups(wanted.cluster_id), "the group of the nodes that stay"


async def test_another_key_makes_the_nodes_anew(world: World) -> None:
    wanted = ask(2)
    first = await world.compute.create(wanted)
    second = await world.compute.create(replace(wanted, key="another"))
    assert not {each.machine for each in first} & {each.machine for each in second}
    assert len(world.machines(wanted.cluster_id)) == 2


async def test_a_gang_that_lost_a_node_gets_that_one_alone_under_the_same_key(world: World) -> None:
    wanted = ask(2)
    first = await world.compute.create(wanted)
    world.client().terminate_instances(InstanceIds=[first[1].machine])
    second = await world.compute.create(wanted)
    assert first[0].machine == second[0].machine and first[1].machine != second[1].machine
    assert len(world.machines(wanted.cluster_id)) == 2
    assert len({raw["Placement"]["AvailabilityZone"] for raw in world.machines(wanted.cluster_id)}) == 1


async def test_the_rest_of_a_gang_that_its_zone_does_not_give_takes_the_first_with_it(world: World) -> None:
    wanted = ask(2)
    first = await world.compute.create(wanted)
    (zone,) = {raw["Placement"]["AvailabilityZone"] for raw in world.machines(wanted.cluster_id)}
    world.client().terminate_instances(InstanceIds=[first[0].machine])
    world.wire.fail("RunInstances", "InsufficientInstanceCapacity", times=1)
    second = await world.compute.create(wanted)
    assert not {each.machine for each in first} & {each.machine for each in second}
    assert {raw["Placement"]["AvailabilityZone"] for raw in world.machines(wanted.cluster_id)} != {zone}
    assert len(world.machines(wanted.cluster_id)) == 2


@pytest.mark.parametrize("listed", [True, False])
async def test_a_newer_image_after_a_crash_makes_no_second_machines(staged: World, stage: Stage, listed: bool) -> None:
    """A server dies before it has written down what it made; the next asks again, when another image is the newest."""
    wanted, images = ask(2), iter(newest(staged))
    image = {"now": next(images)}
    stage.answers["GetParameter"] = lambda _: json.dumps({"Parameter": {"Value": image["now"]}})
    stage.launched = Forgetful()  # the wire itself keeps the promise of tokens
    before = {each.machine for each in await staged.compute.create(wanted)}
    staged.compute = staged.other(staged.ring)
    image["now"] = next(images)
    late = [] if listed else [NO_MACHINES]
    stage.answers["DescribeInstances"] = lambda fields: late.pop() if late and "Filter.1.Name" in fields else None
    made = await staged.compute.create(wanted)
    assert {each.machine for each in made} == before
    assert {raw["InstanceId"] for raw in staged.machines(wanted.cluster_id)} == before
    asked = stage.calls("RunInstances")
    assert len(asked) == (1 if listed else 2) and len({each["ImageId"] for each in asked}) == len(asked)


async def test_what_a_late_list_had_not_is_ended_when_it_shows(staged: World, stage: Stage) -> None:
    """An attempt that died had begun in one zone; the next one finds no trace of it, and room in another."""
    wanted = ask()
    first = await staged.compute.create(wanted)
    staged.compute = staged.other(staged.ring)
    zone = staged.machines(wanted.cluster_id)[0]["Placement"]["AvailabilityZone"]
    late, full = [NO_MACHINES], [error_xml("InsufficientInstanceCapacity")]
    stage.answers["DescribeInstances"] = lambda fields: late.pop() if late else None
    stage.answers["RunInstances"] = lambda fields: full.pop() if full else None
    second = await staged.compute.create(wanted)
    assert first[0].machine != second[0].machine
    (raw,) = staged.machines(wanted.cluster_id)
    assert raw["InstanceId"] == second[0].machine and raw["Placement"]["AvailabilityZone"] != zone


class Forgetful(dict[str, Any]):
    """Keeps nothing."""

    def __setitem__(self, key: str, value: Any) -> None:
        pass


def newest(world: World) -> list[str]:
    """Images that may be the newest one after the other."""
    filters = [{"Name": "architecture", "Values": ["x86_64"]}, {"Name": "name", "Values": ["al2023-ami-2023*"]}]
    found = world.client().describe_images(Owners=["amazon"], Filters=filters)["Images"]
    assert len(found) > 1
    return [str(each["ImageId"]) for each in found]


async def test_the_token_of_a_launch_is_the_same_until_its_machines_are_gone(staged: World, stage: Stage) -> None:
    wanted = ask(offer=offer(zone=f"{HOME}a"))
    (made,) = await staged.compute.create(wanted)
    await staged.compute.terminate(wanted.cluster_id, regions=[HOME])
    await staged.compute.create(wanted)
    tokens = [each["ClientToken"] for each in stage.calls("RunInstances")]
    assert len(tokens) == len(set(tokens)) == 2
    other = staged.other(staged.ring)  # a server that came back after a crash
    stage.answers["DescribeInstances"] = lambda _: (
        "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"
    )
    crashed = asyncio.create_task(other.create(wanted))
    while len(stage.calls("RunInstances")) < 3:
        await asyncio.sleep(0.01)
    assert stage.calls("RunInstances")[2]["ClientToken"] == tokens[0], "nothing listed yet: the same launch"
    stage.answers.pop("DescribeInstances")
    crashed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crashed
    assert made.machine not in {raw["InstanceId"] for raw in staged.machines()}


@pytest.mark.parametrize("when", ["CreateSecurityGroup", "RunInstances", "DescribeInstances"])
async def test_a_cancelled_creation_leaves_nothing(staged: World, stage: Stage, when: str) -> None:
    reached, wanted = threading.Event(), ask(2)

    def seen(fields: Mapping[str, str]) -> None:
        if when != "DescribeInstances" or stage.calls("RunInstances"):
            reached.set()

    stage.answers[when] = seen
    making = asyncio.create_task(staged.compute.create(wanted))
    assert await asyncio.to_thread(reached.wait, 20)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert staged.left(wanted.cluster_id) == []


async def test_ports_are_opened_while_a_cluster_lives(world: World) -> None:
    wanted = ask(config={"security_group_name": "ours"})
    world.config = {"security_group_name": "ours"}
    await world.compute.create(wanted)
    assert world.groups(wanted.cluster_id) == []
    await world.compute.open_ports(wanted.cluster_id, ["8080", "9000-9001"], regions=[HOME])
    await world.compute.open_ports(wanted.cluster_id, ["8080"], regions=[HOME])
    (group,) = world.groups(wanted.cluster_id)
    assert {rule["FromPort"] for rule in group["IpPermissions"]} == {8080, 9000}
    (raw,) = world.machines(wanted.cluster_id)
    assert {each["GroupName"] for each in raw["NetworkInterfaces"][0]["Groups"]} == {"ours", group["GroupName"]}
    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert world.left(wanted.cluster_id) == []
    left = world.client().describe_security_groups(Filters=[{"Name": "group-name", "Values": ["ours"]}])
    assert len(left["SecurityGroups"]) == 1, "what the user named outlives the cluster"


async def test_a_disk_becomes_the_image_of_another_cluster(world: World) -> None:
    wanted = ask()
    await world.compute.create(wanted)
    await world.compute.stop(wanted.cluster_id, regions=[HOME])
    image = await world.compute.image_of(wanted.cluster_id, "ask-1", regions=[HOME])
    assert await world.compute.image_of(wanted.cluster_id, "ask-1", regions=[HOME]) == image, (
        "asked again, there is one"
    )
    copy = ask(machine=MachineSpec(clone_of=image))
    await world.compute.create(copy)
    assert [raw["ImageId"] for raw in world.machines(copy.cluster_id)] == [image]
    with pytest.raises(NotSupportedError, match="no head machine"):
        await world.compute.image_of("nobody", "ask-1", regions=[HOME])
    assert [(each.name, each.key) for each in await world.compute.images(regions=[HOME])] == [(image, "ask-1")]
    for _ in range(2):
        await world.compute.remove_image(image, regions=[HOME])
    assert await world.compute.images(regions=[HOME]) == [] == images_left(world)
    assert len(world.machines(copy.cluster_id)) == 1, "what came of it stays"


async def test_an_image_that_was_removed_in_part_is_found_again(world: World) -> None:
    wanted = ask()
    await world.compute.create(wanted)
    image = await world.compute.image_of(wanted.cluster_id, "ask-2", regions=[HOME])
    theirs = world.client().create_image(InstanceId=world.machines(wanted.cluster_id)[0]["InstanceId"], Name="theirs")
    world.wire.fail("DeleteSnapshot", "UnauthorizedOperation")
    with pytest.raises(CredentialsRejected):
        await world.compute.remove_image(image, regions=[HOME])
    world.wire.heal()
    (left,) = await world.compute.images(regions=[HOME])
    assert left.name.startswith("snap-") and (left.key, left.region) == ("ask-2", HOME)
    for name in (left.name, theirs["ImageId"]):
        await world.compute.remove_image(name, regions=[HOME])
    assert images_left(world) == []
    assert len(world.client().describe_images(ImageIds=[theirs["ImageId"]])["Images"]) == 1
    world.client().deregister_image(ImageId=theirs["ImageId"])


def images_left(world: World) -> list[str]:
    ours = [{"Name": "tag-key", "Values": ["sky-installation"]}]
    images = world.client().describe_images(Owners=["self"], Filters=ours)["Images"]
    snapshots = world.client().describe_snapshots(OwnerIds=["self"], Filters=ours)["Snapshots"]
    return [each["ImageId"] for each in images] + [each["SnapshotId"] for each in snapshots]


async def test_starting_what_is_gone_says_so(world: World) -> None:
    with pytest.raises(CapacityRefused, match="gone"):
        await world.compute.start("nobody", regions=[HOME])


async def test_a_start_that_is_refused_leaves_all_stopped(world: World) -> None:
    wanted = ask(2)
    await world.compute.create(wanted)
    await world.compute.stop(wanted.cluster_id, regions=[HOME])
    world.wire.fail("StartInstances", "InsufficientInstanceCapacity", times=1)
    with pytest.raises(CapacityRefused) as refused:
        await world.compute.start(wanted.cluster_id, regions=[HOME])
    assert refused.value.scope == "zone"
    assert {raw["State"]["Name"] for raw in world.machines(wanted.cluster_id)} == {"stopped"}
    assert len(await world.compute.start(wanted.cluster_id, regions=[HOME])) == 2


async def until_state(world: World, cluster_id: str, state: InstanceState, rank: int = 0):
    """The node once it is in a state; bounded."""
    for _ in range(400):
        for each in await world.compute.list(cluster_id, regions=[HOME]):
            if each.rank == rank and each.state is state:
                return each
        await asyncio.sleep(0.05)
    raise AssertionError(f"never {state}")


async def test_machines_tell_since_when_and_are_remembered_when_they_are_gone(world: World) -> None:
    wanted = ask(2)
    made = await world.compute.create(wanted)
    began = {raw["InstanceId"]: raw["LaunchTime"].timestamp() for raw in world.machines(wanted.cluster_id)}
    assert {each.machine: each.since for each in made} == began
    spans = {each.machine: each for each in await world.compute.spans(regions=[HOME]) if each.mark == wanted.cluster_id}
    assert {machine: (each.began, each.ended) for machine, each in spans.items()} == {
        machine: (at, None) for machine, at in began.items()
    }
    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    over = [each for each in await world.compute.spans(regions=[HOME]) if each.mark == wanted.cluster_id]
    assert {each.machine for each in over} == set(began)
    for each in over:
        assert each.ended is not None and each.began <= each.ended < each.began + 300
        assert (each.region, each.instance_type) == (HOME, wanted.placement.offer.instance_type)


async def test_what_outlives_a_cluster_is_found_by_its_mark_and_removed(world: World) -> None:
    wanted, ec2 = ask(), world.client()
    await world.compute.create(wanted)
    tags = [{"Key": "sky-installation", "Value": world.ring.installation()}]
    marked = [*tags, {"Key": "sky-cluster-id", "Value": wanted.cluster_id}]

    def volume(tagged: list[dict[str, str]]) -> str:
        on = [{"ResourceType": "volume", "Tags": tagged}]
        made = ec2.create_volume(AvailabilityZone=f"{HOME}a", Size=8, TagSpecifications=on)
        return str(made["VolumeId"])

    left, shared = volume(marked), volume(tags)
    foreign = volume([{"Key": "sky-installation", "Value": "another"}, marked[1]])
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": marked}])[
        "AllocationId"
    ]
    found = {each.name: each for each in await world.compute.remnants(regions=[HOME])}
    assert {"volume", "address", "security-group"} <= {each.kind for each in found.values() if not each.used}
    assert found[left].mark == found[address].mark == wanted.cluster_id
    assert found[left].region == HOME and found[left].since is not None
    assert shared not in found and foreign not in found

    await world.compute.terminate(wanted.cluster_id, regions=[HOME])
    for each in (found[left], found[address]):
        await world.compute.remove_remnant(each)
        await world.compute.remove_remnant(each)
    assert not [each for each in await world.compute.remnants(regions=[HOME]) if each.mark == wanted.cluster_id]
    volumes = {each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]}
    assert left not in volumes and {shared, foreign} <= volumes
    assert address not in {each["AllocationId"] for each in ec2.describe_addresses()["Addresses"]}
    for each in (shared, foreign):
        ec2.delete_volume(VolumeId=each)
