"""What is asked of EC2 for a machine: valid by EC2's own description, and what the task and configuration say."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from aws_world import HOME, MachineSpec, Stage, World, ask, offer, stage, staged, world
from botocore.validate import validate_parameters

from sky.core.errors import RequestInvalid
from sky.core.model.offers import Offer
from sky.providers.aws import marks, reservations
from sky.providers.aws.config import read
from sky.providers.aws.first_start import user_data
from sky.providers.aws.images import Image
from sky.providers.aws.launch import Fabric, Launch
from sky.providers.aws.network import Subnet
from sky.providers.aws.quotas import quota_code
from sky.providers.aws.reservations import Reserved
from sky.remote.keys import KeyRing

__all__ = ["stage", "staged", "world"]

MODEL = botocore.session.Session().get_service_model("ec2")
SUBNET = Subnet("subnet-1", f"{HOME}a", "use1-az1", "vpc-1", True, 100)


def request(nodes: int = 1, *, fabric: Fabric | None = None, image_gb: int = 8, **changes: Any) -> dict[str, Any]:
    """A request, which EC2's description takes."""
    wanted, fabric = ask(nodes, **changes), fabric or Fabric()
    image = Image("ami-12345678", "/dev/sda1", image_gb, "x86_64")
    grouped = "sky-a-b" if fabric.efa else None
    launch = Launch(wanted, read(wanted.config), "inst", image, "#cloud-config", "pair", ["sg-1"], grouped, fabric)
    made = launch.request(SUBNET, wanted.wanted, "token")
    validate_parameters(made, MODEL.operation_model("RunInstances").input_shape)
    return made


def test_all_or_nothing_and_safe_by_default() -> None:
    made = request(4)
    assert (made["MinCount"], made["MaxCount"], made["ClientToken"]) == (4, 4, "token")
    assert made["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert made["InstanceInitiatedShutdownBehavior"] == "stop"
    assert "IamInstanceProfile" not in made and "InstanceMarketOptions" not in made and "Placement" not in made
    assert made["NetworkInterfaces"] == [
        {
            "DeviceIndex": 0,
            "SubnetId": "subnet-1",
            "Groups": ["sg-1"],
            "DeleteOnTermination": True,
            "AssociatePublicIpAddress": True,
        }
    ]


def test_spot_is_asked_once_and_ends_when_taken() -> None:
    made = request(offer=offer(use_spot=True))
    spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    assert made["InstanceMarketOptions"] == {"MarketType": "spot", "SpotOptions": spot}
    assert made["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "spot-instances-request" in {each["ResourceType"] for each in made["TagSpecifications"]}


@pytest.mark.parametrize(
    ("tier", "size", "disk"),
    [
        (None, 256, {"VolumeSize": 256, "VolumeType": "gp3"}),
        ("low", 50, {"VolumeSize": 50, "VolumeType": "gp3"}),
        ("medium", 50, {"VolumeSize": 50, "VolumeType": "gp3", "Iops": 3500, "Throughput": 250}),
        ("high", 10, {"VolumeSize": 10, "VolumeType": "gp3", "Iops": 5000, "Throughput": 500}),
        ("best", 500, {"VolumeSize": 500, "VolumeType": "gp3", "Iops": 8000, "Throughput": 500}),
        ("ultra", 10, {"VolumeSize": 10, "VolumeType": "io2", "Iops": 10000}),
        ("ultra", 500, {"VolumeSize": 500, "VolumeType": "io2", "Iops": 20000}),
    ],
)
def test_disks_by_tier(tier: str | None, size: int, disk: dict[str, object]) -> None:
    made = request(machine=MachineSpec(disk_size_gb=size, disk_tier=tier))
    assert made["BlockDeviceMappings"] == [{"DeviceName": "/dev/sda1", "Ebs": {**disk, "DeleteOnTermination": True}}]


def test_a_disk_is_never_smaller_than_its_image() -> None:
    made = request(image_gb=75, machine=MachineSpec(disk_size_gb=20), config={"disk_encrypted": True})
    disk = made["BlockDeviceMappings"][0]["Ebs"]
    assert (disk["VolumeSize"], disk["Encrypted"]) == (75, True)


def test_roles_only_when_asked_for() -> None:
    named = request(config={"remote_identity": "my-role"})
    assert named["IamInstanceProfile"] == {"Name": "my-role"}
    assert named["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    arn = "arn:aws:iam::123456789012:instance-profile/p"
    assert request(config={"remote_identity": arn})["IamInstanceProfile"] == {"Arn": arn}


def test_fabric_of_a_gang() -> None:
    made = request(2, fabric=Fabric(4, 4))
    assert made["Placement"] == {"GroupName": "sky-a-b"}
    assert [each["InterfaceType"] for each in made["NetworkInterfaces"]] == ["efa"], "a public address takes one card"
    inside = request(2, fabric=Fabric(4, 4), config={"use_internal_ips": True})["NetworkInterfaces"]
    assert [(each["DeviceIndex"], each.get("NetworkCardIndex")) for each in inside] == [
        (0, None),
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    assert not any("AssociatePublicIpAddress" in each for each in inside)


def test_our_tags_win_and_amazons_own_are_left_out() -> None:
    many = {f"k{number}": "v" for number in range(80)}
    made = request(machine=MachineSpec(labels={**many, "sky-installation": "theirs", "aws:x": "y"}))
    tags = {each["Key"]: each["Value"] for each in made["TagSpecifications"][0]["Tags"]}
    assert (tags["sky-installation"], tags["sky-ranks"], len(tags)) == ("inst", "0", 50)
    assert "aws:x" not in tags


def test_ranks_in_a_tag() -> None:
    for ranks in ((0,), (0, 1, 2, 3), (1, 2, 7), (5, 9, 10, 11, 40)):
        text = marks.ranks_text(ranks)
        assert [marks.rank_at(text, place) for place in range(len(ranks) + 1)] == [*ranks, None]
    for nonsense in ("", "x", "1-", "-1", "5-2", "0-99999999999", "1-2-3", "²"):
        assert marks.rank_at(nonsense, 0) in (None, 1) and marks.rank_at(nonsense, 50) is None


def test_user_data_holds_no_more_than_it_must(tmp_path: Any) -> None:
    login = KeyRing(tmp_path).login("c1")
    text = user_data(login, read({"post_provision_runcmd": ["echo one", ["echo", "two words"]]}))
    head, _, body = text.partition("\n")
    told = json.loads(body)
    assert head == "#cloud-config"
    assert told["ssh_keys"] == {"ed25519_private": login.host_private_key, "ed25519_public": login.host_public_key}
    assert told["ssh_authorized_keys"] == [login.public_key]
    assert told["runcmd"][-2:] == ["echo one", ["echo", "two words"]]
    assert {each["path"]: each["permissions"] for each in told["write_files"]} == {
        "/etc/ssh/ssh_host_ed25519_key": "0600",
        "/etc/ssh/ssh_host_ed25519_key.pub": "0644",
    }
    assert len(text) < 8000, "EC2 takes 16 KB"


@pytest.mark.parametrize(
    ("instance_type", "use_spot", "code"),
    [
        ("m5.large", False, "L-1216C47A"),
        ("m5.large", True, "L-34B43A08"),
        ("g6e.12xlarge", False, "L-DB2E81BA"),
        ("p4d.24xlarge", True, "L-7212CCBC"),
        ("p5.48xlarge", True, "L-C4BD4855"),
        ("p5.48xlarge", False, "L-417A185B"),
        ("trn1.32xlarge", False, "L-2C3B7624"),
        ("t3.micro", False, "L-1216C47A"),
        ("inf2.xlarge", True, "L-B5D1601B"),
        ("im4gn.large", False, "L-1216C47A"),
        ("dl1.24xlarge", False, "L-6E869C2A"),
        ("hpc7a.96xlarge", False, "L-F7808C92"),
        ("x2idn.16xlarge", False, "L-7295265B"),
        ("mac2.metal", False, ""),
        ("?", False, ""),
    ],
)
def test_the_quota_that_counts_a_type(instance_type: str, use_spot: bool, code: str) -> None:
    assert quota_code(instance_type, use_spot) == code


def test_reserved_capacity_comes_first() -> None:
    reserved = [Reserved("cr-1", "b", 2, True), Reserved("cr-2", "b", 1, True), Reserved("cr-3", "c", 9, False)]
    assert reservations.zones_first(reserved, ["a", "b", "c"]) == ["c", "b", "a"]
    assert reservations.parts(reserved, "b", [0, 1, 2, 3]) == [([0, 1], "cr-1"), ([2], "cr-2"), ([3], None)]
    assert reservations.parts(reserved, "b", [0, 1]) == [([0, 1], "cr-1")]
    assert reservations.parts(reserved, "c", [0, 1]) == [([0, 1], None)]


# --- on the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def reserve(world: World) -> Iterator[Callable[[str, int, str], str]]:
    """Pay for capacity, as the account's owner does: zone, machines, criteria. Its id."""
    made: list[str] = []

    def create(zone: str, count: int, criteria: str) -> str:
        asked = {"InstanceType": "m5.large", "InstancePlatform": "Linux/UNIX", "AvailabilityZone": zone}
        told = world.client().create_capacity_reservation(**asked, InstanceCount=count, InstanceMatchCriteria=criteria)
        made.append(told["CapacityReservation"]["CapacityReservationId"])
        return made[-1]

    yield create
    for each in made:
        world.client().cancel_capacity_reservation(CapacityReservationId=each)


def zones_of(world: World, cluster_id: str) -> set[str]:
    return {raw["Placement"]["AvailabilityZone"] for raw in world.machines(cluster_id)}


async def test_a_reservation_that_is_named_is_launched_into(
    world: World, reserve: Callable[[str, int, str], str]
) -> None:
    mine = reserve(f"{HOME}c", 2, "targeted")
    reserve(f"{HOME}d", 5, "targeted")
    wanted = ask(3, config={"specific_reservations": [mine]})
    made = await world.compute.create(wanted)
    assert [each.rank for each in made] == [0, 1, 2]
    assert zones_of(world, wanted.cluster_id) == {f"{HOME}c"}
    assert free(world, mine) == 0, "two of the three are in it"


async def test_open_reservations_are_looked_for_when_they_come_first(
    world: World, reserve: Callable[[str, int, str], str]
) -> None:
    reserve(f"{HOME}d", 5, "open")
    reserve(f"{HOME}c", 9, "targeted")
    wanted, nobody = ask(config={"prioritize_reservations": True}), ask()
    await world.compute.create(wanted)
    await world.compute.create(nobody)
    assert zones_of(world, wanted.cluster_id) == {f"{HOME}d"}
    assert zones_of(world, nobody.cluster_id) == {f"{HOME}a"}


def free(world: World, reservation: str) -> int:
    found = world.client().describe_capacity_reservations()["CapacityReservations"]
    return next(each["AvailableInstanceCount"] for each in found if each["CapacityReservationId"] == reservation)


async def test_nodes_that_want_the_best_network_stand_together(staged: World, stage: Stage) -> None:
    best = MachineSpec(network_tier="best")
    fast = offer(instance_type="p4d.24xlarge", cpus=96, zone=f"{HOME}a")
    wanted = ask(2, offer=fast, machine=best)
    await staged.compute.create(wanted)
    (group,) = staged.client().describe_placement_groups()["PlacementGroups"]
    tags = {each["Key"]: each["Value"] for each in group["Tags"]}
    assert (tags["sky-installation"], tags["sky-cluster-id"]) == (staged.ring.installation(), wanted.cluster_id)
    assert group["Strategy"] == "cluster"
    names = {raw["Placement"]["GroupName"] for raw in staged.machines(wanted.cluster_id)}
    assert names == {group["GroupName"]}
    # The wire takes interfaces and does not tell their kind: what was asked for is all that can be seen.
    (launch,) = stage.calls("RunInstances")
    assert launch["NetworkInterface.1.InterfaceType"] == "efa"
    await staged.compute.terminate(wanted.cluster_id, regions=[HOME])
    assert staged.client().describe_placement_groups()["PlacementGroups"] == []
    assert staged.left(wanted.cluster_id) == []


async def test_a_type_without_the_best_network_says_so(staged: World, stage: Stage) -> None:
    said: list[str] = []
    await staged.compute.create(ask(2, machine=MachineSpec(network_tier="best"), say=said.append))
    assert len(said) == 1 and "no Elastic Fabric Adapter" in said[0]
    assert stage.calls("CreatePlacementGroup") == []


@pytest.mark.parametrize(
    ("sold", "image", "asked"),
    [
        ({}, None, "canonical/ubuntu/server/24.04/stable/current/amd64"),
        ({"instance_type": "m7g.large", "arch": "arm64"}, None, "server/24.04/stable/current/arm64"),
        ({"instance_type": "g6.xlarge", "accelerators": {"L4": 1}}, None, "ami/x86_64/base-oss-nvidia-driver-gpu"),
        ({"instance_type": "trn1.2xlarge", "accelerators": {"Trainium": 1}}, None, "neuron/dlami"),
        ({}, "skypilot:gpu-ubuntu-2204", "driver-gpu-ubuntu-22.04"),
        ({}, "skypilot:custom-cpu-ubuntu-2204", "server/22.04/stable/current/amd64"),
    ],
)
async def test_the_newest_image_is_told_by_the_parameter_store(
    staged: World, stage: Stage, sold: dict[str, Any], image: str | None, asked: str
) -> None:
    arch = sold.get("arch", "x86_64")
    mine = newest(staged, arch)
    stage.answers["GetParameter"] = lambda _: json.dumps({"Parameter": {"Value": mine}})
    wanted = ask(offer=offer(**sold), machine=MachineSpec(image=image))
    await staged.compute.create(wanted)
    assert [raw["ImageId"] for raw in staged.machines(wanted.cluster_id)] == [mine]
    assert asked in stage.calls("GetParameter")[0]["Name"]


async def test_images_are_found_by_name_where_no_parameter_tells_them(world: World) -> None:
    wanted, gpus = ask(), ask(offer=offer(instance_type="g4dn.xlarge", accelerators={"T4": 1}))
    await world.compute.create(wanted)
    await world.compute.create(gpus)
    names = [name_of(world, each.cluster_id) for each in (wanted, gpus)]
    assert names[0].startswith("ubuntu/images/") and names[1].startswith("Deep Learning AMI Ubuntu")


@pytest.mark.parametrize(
    ("image", "sold", "scope"),
    [
        ("ubuntu", {}, "request"),
        ("ami-1234567890abcdef0", {}, "region"),
        ("skypilot:windows", {}, "request"),
        ("skypilot:tpu-ubuntu-2204", {}, "request"),
        ("arm", {}, "instance_type"),
    ],
)
async def test_images_that_do_not_fit(world: World, image: str, sold: dict[str, Any], scope: str) -> None:
    named = newest(world, "arm64") if image == "arm" else image
    with pytest.raises(RequestInvalid) as refused:
        await world.compute.create(ask(offer=offer(**sold), machine=MachineSpec(image=named)))
    assert refused.value.scope == scope
    assert world.machines() == []


@pytest.mark.parametrize("value", [1, 10, 1000])
async def test_the_room_that_a_quota_leaves(world: World, value: float) -> None:
    await world.compute.create(ask(2))
    grant(world, value)
    try:
        large: Offer = offer()
        assert await world.compute.room(large) == max(0, int((value - 4) // 2)), "two machines of two vCPUs are there"
        assert await world.compute.room(offer(instance_type="mac2.metal")) is None
    finally:
        grant(world, 1e6)


def grant(world: World, vcpus: float) -> None:
    """Have the quota of common machines changed."""
    asked = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
    world.client("service-quotas").request_service_quota_increase(**asked, DesiredValue=vcpus)


async def test_a_quota_that_cannot_be_asked_for_is_not_known(world: World) -> None:
    world.wire.fail("GetServiceQuota", "AccessDeniedException")
    assert await world.compute.room(offer()) is None


def newest(world: World, arch: str) -> str:
    filters = [{"Name": "architecture", "Values": [arch]}, {"Name": "name", "Values": ["al2023-ami-2023*"]}]
    return str(world.client().describe_images(Owners=["amazon"], Filters=filters)["Images"][0]["ImageId"])


def name_of(world: World, cluster_id: str) -> str:
    (raw,) = world.machines(cluster_id)
    return str(world.client().describe_images(ImageIds=[raw["ImageId"]])["Images"][0]["Name"])
