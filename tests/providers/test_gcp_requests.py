"""What is asked of Google Cloud, held against its own description: shapes, disks, images, networks, reservations."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from gcp_bed import PROJECT, ZONE, Bed, offer
from gcp_front import Description, front

from sky.core.errors import CapacityRefused, NotSupportedError, RequestInvalid
from sky.core.model.machines import Login, MachineSpec
from sky.core.model.offers import Placement
from sky.core.ports import CreateAsk
from sky.providers.gcp import groups, instances, names, network, quotas, shapes, tpu
from sky.providers.gcp.config import GcpConfig, Queue, read_config
from sky.providers.gcp.network import Network

COMPUTE, TPU = Description("compute.v1"), Description("tpu.v2")
LOGIN = Login("ssh-ed25519 AAAA sky", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END-----\n", "ssh-ed25519 BBBB")
NET = Network(PROJECT, "default")


def built(config=None, spec=None, affinities=None, policies=(), **more):
    made = offer(**more)
    placement = Placement(made, 2, made.cpus, made.memory_gb, made.accelerators)
    ask = CreateAsk("key", "c1", "mine", placement, {"sky-user": "U@x"}, spec or MachineSpec(labels={"team": "red"}))
    kept = read_config(config or {})
    shape = shapes.shape(made)
    cards = [network.interface(NET, kept, ask.machine, shape)]
    image = "projects/p/global/images/i"
    parts = instances.Parts(
        shape, "sky-0123", "sky-all-1", "inst", ZONE, image, 10, cards, kept, LOGIN, policies, affinities or {}
    )
    return ask, parts


def body(**more):
    ask, parts = built(**more)
    made = instances.request(ask, 1, parts)
    COMPUTE.check("Instance", made)
    return made


T4 = {"instance_type": "n1-standard-8+T4:2", "accelerators": {"T4": 2.0}}
A100 = {"instance_type": "a2-highgpu-1g", "accelerators": {"A100": 1.0}}


@pytest.mark.parametrize("tier", [None, "low", "medium", "high", "best"])
@pytest.mark.parametrize("kind", ["n2-standard-8", "e2-medium", "g2-standard-4", "c4-standard-8", "a3-ultragpu-8g"])
def test_every_shape_takes_a_disk_of_every_tier(kind, tier):
    made = body(instance_type=kind, spec=MachineSpec(disk_size_gb=99, disk_tier=tier))
    disk = made["disks"][0]["initializeParams"]
    assert disk["diskSizeGb"] == "99" and made["disks"][0]["autoDelete"] and made["disks"][0]["boot"]
    assert disk["diskType"].startswith(f"zones/{ZONE}/diskTypes/")
    assert ("hyperdisk" in disk["diskType"]) == (kind in ("c4-standard-8", "a3-ultragpu-8g"))


def test_disks_that_are_not_to_be_had_are_refused():
    assert body(spec=MachineSpec(disk_tier="ultra"))["disks"][0]["initializeParams"]["provisionedIops"] == "20000"
    with pytest.raises(RequestInvalid) as told:
        body(instance_type="e2-medium", spec=MachineSpec(disk_tier="ultra"))
    assert told.value.scope == "instance_type" and "high or best" in told.value.reason
    with pytest.raises(RequestInvalid, match="allowed: low"):
        body(spec=MachineSpec(disk_tier="fast"))
    assert body(spec=MachineSpec(disk_size_gb=5))["disks"][0]["initializeParams"]["diskSizeGb"] == "10"


def test_gpus_are_attached_or_a_part_of_the_type():
    made = body(**T4)
    kind = f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"
    assert made["machineType"] == f"zones/{ZONE}/machineTypes/n1-standard-8"
    assert made["guestAccelerators"] == [{"acceleratorType": kind, "acceleratorCount": 2}]
    assert made["scheduling"]["onHostMaintenance"] == "TERMINATE"
    made = body(**A100)
    assert "guestAccelerators" not in made and made["machineType"].endswith("/a2-highgpu-1g")
    assert made["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert body()["scheduling"]["onHostMaintenance"] == "MIGRATE"
    with pytest.raises(RequestInvalid) as told:
        body(instance_type="n1-standard-8+H100:1", accelerators={"H100": 1.0})
    assert told.value.scope == "instance_type"


def test_spot_machines_go_with_their_disks():
    rules = body(use_spot=True)["scheduling"]
    assert rules == {
        "automaticRestart": False,
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE",
    }


def test_labels_and_tags_say_whose_a_machine_is():
    made = body(config={"labels": {"team": "blue", "cost": "42"}})
    assert made["labels"]["team"] == "red" and made["labels"]["cost"] == "42"
    assert made["labels"][names.RANK] == "1" and made["labels"][names.CLUSTER] == "c1"
    assert made["labels"]["sky-user"].startswith("u-x-") and made["tags"]["items"] == ["sky-0123", "sky-all-1"]
    taken = body(spec=MachineSpec(labels={names.INSTALLATION: "other"}))
    assert taken["labels"][names.INSTALLATION] == "inst"


def test_keys_reach_a_machine_by_its_metadata_alone():
    made = body()
    items = {each["key"]: each["value"] for each in made["metadata"]["items"]}
    assert items["ssh-keys"] == "sky:ssh-ed25519 AAAA sky" and items["block-project-ssh-keys"] == "TRUE"
    assert items["enable-oslogin"] == "FALSE" and "install-nvidia-driver" not in items
    told = json.loads(items["user-data"].removeprefix("#cloud-config\n"))
    assert told["ssh_keys"] == {"ed25519_private": LOGIN.host_private_key, "ed25519_public": "ssh-ed25519 BBBB"}
    assert "PRIVATE KEY" in items["startup-script"] and "serviceAccounts" not in made
    assert "PRIVATE" not in json.dumps({key: value for key, value in made.items() if key != "metadata"})


@pytest.mark.parametrize(
    ("identity", "account"),
    [
        (None, None),
        ("LOCAL_CREDENTIALS", None),
        ("no_upload", None),
        ("SERVICE_ACCOUNT", "default"),
        ("me@p.iam.gserviceaccount.com", "me@p.iam.gserviceaccount.com"),
        ([{"other-*": "a@b"}, {"mi*": "c@d"}], "c@d"),
        ([{"other-*": "a@b"}], None),
    ],
)
def test_programs_on_a_machine_have_rights_only_if_asked_for(identity, account):
    made = body(config={"remote_identity": identity})
    assert [each["email"] for each in made.get("serviceAccounts", ())] == ([account] if account else [])


def test_networks_of_a_machine():
    card = body()["networkInterfaces"][0]
    assert card["network"] == f"projects/{PROJECT}/global/networks/default" and "nicType" not in card
    assert card["accessConfigs"][0]["type"] == "ONE_TO_ONE_NAT"
    assert "accessConfigs" not in body(config={"use_internal_ips": True})["networkInterfaces"][0]
    both = {"use_internal_ips": True, "force_enable_external_ips": True}
    assert body(config=both)["networkInterfaces"][0]["accessConfigs"]
    assert body(config={"enable_gvnic": True})["networkInterfaces"][0]["nicType"] == "GVNIC"
    best = body(spec=MachineSpec(network_tier="best"), cpus=32.0)
    assert best["networkPerformanceConfig"] == {"totalEgressBandwidthTier": "TIER_1"}
    assert best["networkInterfaces"][0]["accessConfigs"][0]["networkTier"] == "PREMIUM"
    assert "networkPerformanceConfig" not in body(spec=MachineSpec(network_tier="best"), cpus=8.0)
    low = body(spec=MachineSpec(network_tier="standard"))["networkInterfaces"][0]
    assert low["accessConfigs"][0]["networkTier"] == "STANDARD"


def test_groups_and_policies_by_the_description():
    ask, parts = built(**A100)
    queue = Queue(3600.0, 60.0)
    made = groups.template(ask, parts, queue)
    COMPUTE.check("InstanceTemplate", made)
    assert made["properties"]["machineType"] == "a2-highgpu-1g" and "name" not in made["properties"]
    COMPUTE.check("InstanceGroupManager", groups.group(SimpleNamespace(project=PROJECT), parts))
    COMPUTE.check("InstanceGroupManagerResizeRequest", groups.resize(ask, parts, queue))
    placed = body(policies=["projects/p/regions/r/resourcePolicies/m"])
    assert placed["resourcePolicies"] and placed["scheduling"]["onHostMaintenance"] == "TERMINATE"


@pytest.mark.parametrize(
    "name", ["tpu-v2-8", "tpu-v3-8", "tpu-v4-8", "tpu-v5e-1", "tpu-v5e-8", "tpu-v5p-8", "tpu-v6e-4"]
)
@pytest.mark.parametrize("spot", [False, True])
def test_tpus_by_the_description(name, spot):
    config = {"use_internal_ips": True, "remote_identity": "SERVICE_ACCOUNT"}
    ask, parts = built(config, instance_type=name, accelerators={name: 1.0}, use_spot=spot)
    made = tpu.node(ask, parts, replace(NET, subnet="projects/p/regions/r/subnetworks/s"))
    TPU.check("Node", made)
    assert made["networkConfig"]["enableExternalIps"] is False and made["serviceAccount"]["scope"]
    assert ("schedulingConfig" in made) == spot and made["tags"] and made["metadata"]["ssh-keys"]
    asked = tpu.queued(ask, parts, NET, Queue(60, 60), "projects/p/locations/z", "n")
    TPU.check("QueuedResource", asked)
    assert ("spot" in asked) == spot


def test_words_for_tpus():
    def google(name):
        return tpu.accelerator_type(offer(instance_type=name))

    assert [google(name) for name in ("tpu-v5e-16", "tpu-v5p-128", "tpu-v6e-8")] == ["v5litepod-16", "v5p-128", "v6e-8"]
    sizes = {
        "v2-8": 1,
        "v3-32": 4,
        "v4-8": 1,
        "v4-16": 2,
        "v5p-128": 16,
        "v5litepod-8": 1,
        "v5litepod-16": 4,
        "v6e-256": 64,
    }
    assert {name: tpu.hosts(name) for name in sizes} == sizes
    with pytest.raises(RequestInvalid):
        google("tpu-x")
    ask, parts = built(instance_type="tpu-v6e-8", accelerators={"tpu-v6e": 8.0}, spec=MachineSpec(image="v2-alpha-x"))
    assert tpu.node(ask, parts, NET)["runtimeVersion"] == "v2-alpha-x"


def test_records_from_outside_are_judged():
    mark = names.mark("inst", "c1")
    good = {
        "name": f"{mark}-3",
        "zone": f"https://x/projects/p/zones/{ZONE}",
        "status": "RUNNING",
        "labels": {names.INSTALLATION: "inst", names.CLUSTER: "c1"},
        "networkInterfaces": [{"networkIP": "10.0.0.3"}],
    }
    made = instances.read(good, "inst")
    assert (made.rank, made.cluster_id, made.zone, made.ip, made.external_ip) == (3, "c1", ZONE, "10.0.0.3", None)
    assert made.boot_disk == f"zones/{ZONE}/disks/{mark}-3"
    for wrong in (
        None,
        [],
        {},
        good | {"labels": None},
        good | {"labels": {names.INSTALLATION: "other"}},
        good | {"name": "sky-000000000000-3"},
        good | {"name": f"{mark}-x"},
        good | {"name": "../../x-3"},
        good | {"zone": "a b"},
    ):
        assert instances.read(wrong, "inst") is None
    odd = good | {"networkInterfaces": "x", "disks": 7, "metadata": [], "scheduling": None, "status": "NEW_WORD"}
    assert instances.read(odd, "inst").state.value == "PENDING"
    assert tpu.machines({"name": "x"}, "inst") == [] and tpu.machines(None, "inst") == []
    assert set(COMPUTE.schemas["Instance"]["properties"]["status"]["enum"]) <= set(instances.STATES)
    words = set(TPU.schemas["Node"]["properties"]["state"]["enum"]) - {"STATE_UNSPECIFIED", "UNKNOWN"}
    assert words <= set(instances.STATES)


def test_names_and_labels_fit():
    long = "A very long Name! " * 9
    assert len(names.label_value(long)) <= 63 and names.label_value(long) != names.label_value(long + "x")
    assert names.label_value("plain-1_x") == "plain-1_x"
    assert names.mark("a", "b") != names.mark("b", "a") and len(names.machine(names.mark("a", "b"), 99999)) < 63
    assert names.rank_of("sky-12-3") == 3 and names.rank_of("sky") is None and names.rank_of("sky-x") is None


def test_quotas_of_a_region():
    def left(limits, **more):
        listed = [{"metric": name, "limit": limit, "usage": used} for name, (limit, used) in limits.items()]
        return quotas.room(offer(**more), listed)

    assert left({"N2_CPUS": (20.0, 4.0)}) == 2
    assert left({"N2_CPUS": (4.0, 8.0)}) == 0
    assert left({"CPUS": (0.0, 0.0)}) is None
    assert left({"PREEMPTIBLE_CPUS": (0.0, 0.0), "CPUS": (8.0, 0.0)}, instance_type="e2-x", use_spot=True) == 1
    assert left({"NVIDIA_T4_GPUS": (1.0, 0.0)}, **T4) == 0
    assert left({"NVIDIA_T4_GPUS": (1.0, 0.0), "PREEMPTIBLE_NVIDIA_T4_GPUS": (4.0, 0.0)}, use_spot=True, **T4) == 2
    assert quotas.room(offer(), "nonsense") is None and quotas.room(offer(), [None, {"metric": "CPUS"}]) is None
    known = set(COMPUTE.schemas["Quota"]["properties"]["metric"]["enum"])
    assert set(quotas.GPUS.values()) - {"NVIDIA_H100_GPUS"} <= known


# --- on the wire ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bed(gcp_wire, tmp_path):
    with front(gcp_wire.url) as ahead:
        made = Bed(gcp_wire, tmp_path, url=ahead.url)
        yield made
        made.sweep()


@pytest.mark.parametrize(
    ("more", "image"),
    [
        ({}, "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"),
        ({"arch": "arm64"}, "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"),
        (A100, "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"),
        ({"image": "skypilot:cpu-debian-11"}, "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"),
        ({"image": "my-image"}, f"projects/{PROJECT}/global/images/my-image"),
        ({"image": "projects/a/global/images/family/f"}, "projects/a/global/images/family/f"),
        ({"image": "https://www.googleapis.com/compute/v1/projects/a/global/images/b"}, "projects/a/global/images/b"),
    ],
)
async def test_images(bed, more, image):
    await bed.compute.create(bed.ask("image", **more))
    (machine,) = bed.everywhere("instances")
    assert machine["disks"][0]["initializeParams"]["sourceImage"] == image
    await bed.compute.terminate("image")
    assert bed.left() == []


async def test_a_name_that_is_no_image_is_refused(bed):
    with pytest.raises(RequestInvalid, match="allowed: projects/PROJECT/global/images/NAME"):
        await bed.compute.create(bed.ask("image", image="ami-123/x"))


async def test_a_network_of_ones_own(bed):
    bed.config |= {"vpc_name": "mine", "subnet_names": ["s0", "s1"], "use_internal_ips": True}
    bed.config["ssh_proxy_command"] = {"us-central1": "connect %h %p"}
    with pytest.raises(RequestInvalid, match=r"gcp\.vpc_name"):
        await bed.compute.create(bed.ask("vpc"))
    bed.post("global/networks", {"name": "mine", "autoCreateSubnetworks": False})
    with pytest.raises(RequestInvalid, match=r"gcp\.subnet_names") as told:
        await bed.compute.create(bed.ask("vpc"))
    assert told.value.scope == "region"
    where = f"projects/{PROJECT}/global/networks/mine"
    bed.post("regions/us-central1/subnetworks", {"name": "s1", "network": where, "ipCidrRange": "10.0.0.0/20"})
    for subnets in (["s0", "s1"], None):
        bed.config["subnet_names"] = subnets
        (node,) = await bed.compute.create(bed.ask("vpc"))
        assert node.reach["proxy_command"] == "connect %h %p" and node.external_ip is None
        card = bed.everywhere("instances")[0]["networkInterfaces"][0]
        assert card["subnetwork"] == f"projects/{PROJECT}/regions/us-central1/subnetworks/s1"
        await bed.compute.open_ports("vpc", ["80"])
        rules = [each for each in bed.get("global/firewalls")["items"] if each["network"] == where]
        assert {each["name"].rpartition("-")[2] for each in rules} == {"inside", "ports"}
        await bed.compute.terminate("vpc")
        assert bed.left() == []


async def test_machines_close_to_each_other(bed):
    bed.config["placement_policy"] = "compact"
    await bed.compute.create(bed.ask("close", 2))
    (policy,) = bed.everywhere("resourcePolicies")
    assert policy["groupPlacementPolicy"] == {"collocation": "COLLOCATED"}
    assert all(each["resourcePolicies"][0].endswith(policy["name"]) for each in bed.everywhere("instances"))
    # What it was made with may have changed, and its machines may be gone.
    del bed.config["placement_policy"]
    for machine in bed.everywhere("instances"):
        bed.delete(f"zones/{ZONE}/instances/{machine['name']}")
    await bed.compute.terminate("close")
    assert bed.everywhere("resourcePolicies") == []
    bed.config["placement_policy"] = "compact"
    bed.wire.fail("compute.instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED")
    with pytest.raises(CapacityRefused, match="EXHAUSTED"):
        await bed.compute.create(bed.ask("close", 2))
    assert bed.left() == []


async def test_reservations_are_taken_as_far_as_they_reach(bed):
    block = {"count": "2", "inUseCount": "1", "instanceProperties": {"machineType": "n2-standard-8"}}
    bed.post(f"zones/{ZONE}/reservations", {"name": "paid", "specificReservation": block})
    bed.config["specific_reservations"] = ["absent", f"projects/{PROJECT}/reservations/paid"]
    await bed.compute.create(bed.ask("reserved", 2))
    taken = {each["labels"]["sky-rank"]: each["reservationAffinity"] for each in bed.everywhere("instances")}
    assert taken["0"]["values"] == [f"projects/{PROJECT}/reservations/paid"]
    assert taken["1"] == {"consumeReservationType": "NO_RESERVATION"}
    await bed.compute.terminate("reserved")
    bed.delete(f"zones/{ZONE}/reservations/paid")


async def test_a_launch_may_not_name_another_project(bed):
    with pytest.raises(NotSupportedError, match=r"gcp\.project_id"):
        await bed.compute.create(bed.ask("other", config={**bed.config, "project_id": "elsewhere"}))
    assert GcpConfig().network == "default"


async def test_gpus_have_networks_of_their_own(bed):
    bed.config["enable_gpu_direct"] = True
    h100 = {"instance_type": "a3-highgpu-8g", "accelerators": {"H100": 8.0}, "cpus": 208.0}
    await bed.compute.create(bed.ask("direct", 2, **h100))
    for machine in bed.everywhere("instances"):
        cards = machine["networkInterfaces"]
        assert [card["nicType"] for card in cards] == ["GVNIC"] * 5 and len({card["network"] for card in cards}) == 5
        assert [bool(card.get("accessConfigs")) for card in cards] == [True, False, False, False, False]
    made = [each for each in bed.everywhere("subnetworks") if each["name"].startswith("sky-gpu-")]
    await bed.compute.create(bed.ask("direct-2", **h100))
    await bed.compute.create(bed.ask("plain"))
    assert (
        len([each for each in bed.everywhere("subnetworks") if each["name"].startswith("sky-gpu-")]) == len(made) == 4
    )
    for cluster in ("direct", "direct-2", "plain"):
        await bed.compute.terminate(cluster)
    assert bed.left() == []
    for each in made:
        bed.delete(f"regions/us-central1/subnetworks/{each['name']}")
