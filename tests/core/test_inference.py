"""What a catalog adds to a request, and the contradictions that it finds."""

from collections.abc import Mapping

import pytest

from sky.core.catalog.inference import resolve
from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.catalog import InstanceType, Place
from sky.core.model.offers import Offer
from sky.core.model.resources import Resources

TYPES = (
    InstanceType("aws", "m5.xlarge", 4, 16),
    InstanceType("aws", "p4d.24xlarge", 96, 1152, accelerator="A100", accelerator_count=8, accelerator_memory_gib=40),
    InstanceType("gcp", "n1-standard-8", 8, 30),
    InstanceType("gcp", "n1-standard-8+T4:1", 8, 30, accelerator="T4", accelerator_count=1),
    InstanceType("nebius", "twice", 8, 32),
    InstanceType("oci", "twice", 8, 32),
    InstanceType("vultr", "part", 4, 16, accelerator="A100", accelerator_count=0.5),
    InstanceType("vultr", "odd", 4, 16, accelerator="A100", accelerator_count=1.5),
)
PLACES = (
    Place("aws", "us-east-1"),
    Place("aws", "us-east-1", "us-east-1a", "use1-az1"),
    Place("aws", "us-east-1", "us-east-1b", "use1-az2"),
    Place("aws", "eu-west-1", "eu-west-1a", "euw1-az1"),
    Place("lambda", "us-east-1"),
    Place("azure", "eastus", "1"),
    Place("azure", "westeurope", "1"),
    Place("gcp", "us-central1", "us-central1-a"),
    Place("nebius", "eu-north1"),
    Place("oci", "us-ashburn-1"),
    Place("vultr", "ewr"),
)


class SmallCatalog:
    """A few rows, found by looking at all of them."""

    def places(self, cloud: str | None = None) -> list[Place]:
        return [each for each in PLACES if cloud in (None, each.cloud)]

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        return [each for each in TYPES if each.name == name and cloud in (None, each.cloud)]

    def type_names(self, cloud: str | None = None) -> list[str]:
        return sorted({each.name for each in TYPES if cloud in (None, each.cloud)})

    def accelerators(self) -> Mapping[str, str]:
        return {"a100": "A100", "a100-80gb": "A100-80GB", "h100": "H100", "t4": "T4", "tesla-t4": "T4"}


CATALOG = SmallCatalog()


def made(enabled: tuple[str, ...] | None = None, **asked: object) -> dict[str, object]:
    return resolve(Resources(**asked), CATALOG, enabled).to_yaml_config()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"region": "us-central1"}, "gcp/us-central1"),
        ({"zone": "eu-west-1a"}, "aws/eu-west-1/eu-west-1a"),
        ({"infra": "aws", "zone": None}, "aws"),
        ({"infra": "aws/*/us-east-1b"}, "aws/us-east-1/us-east-1b"),
        ({"infra": "*/us-east-1/us-east-1a"}, "aws/us-east-1/us-east-1a"),
        ({"zone": "use1-az2"}, "aws/us-east-1/us-east-1b"),
        ({"infra": "azure/*/1"}, "azure/*/1"),
        ({"infra": "lambda/us-east-1"}, "lambda/us-east-1"),
        ({"infra": "lambda/us-east-1/a-zone"}, "lambda/us-east-1/a-zone"),
        ({"infra": "lambda/*/a-zone"}, "lambda/*/a-zone"),
        ({"infra": "*/eu-north1/a-zone"}, "nebius/eu-north1/a-zone"),
        ({"infra": "local"}, "local"),
        ({"infra": "k8s/a/context"}, "kubernetes/a/context"),
        ({"infra": "slurm/cluster/gpus"}, "slurm/cluster/gpus"),
    ],
)
def test_a_place_is_made_whole(asked: dict[str, object], place: str) -> None:
    assert made(**asked)["infra"] == place


def test_among_several_the_enabled_one_is_meant() -> None:
    assert made(("aws", "gcp"), region="us-east-1")["infra"] == "aws/us-east-1"
    assert made(("lambda",), region="us-east-1")["infra"] == "lambda/us-east-1"
    assert made(("oci", "local"), instance_type="twice")["infra"] == "oci"


def test_nothing_to_add_gives_the_same_request_back() -> None:
    for asked in (
        Resources(),
        Resources(cpus="4+"),
        Resources(accelerators="H100:8"),
        Resources(infra="aws/us-east-1"),
    ):
        assert resolve(asked, CATALOG) is asked


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"region": "us-east-1"}, ["region 'us-east-1', which aws and lambda have", "infra: aws/us-east-1"]),
        (
            {"region": "us-esat-1"},
            ["'us-esat-1', which no cloud in the catalog has", "did you mean us-east-1 (aws, lambda)"],
        ),
        ({"infra": "gcp/us-central2"}, ["which the catalog does not have for gcp", "did you mean us-central1?"]),
        ({"infra": "oci/mars"}, ["which the catalog does not have for oci; there are us-ashburn-1"]),
        (
            {"infra": "aws/eu-west-1/us-east-1a"},
            ["zone 'us-east-1a', which the catalog does not have for aws/eu-west-1", "us-east-1"],
        ),
        ({"infra": "aws/us-east-1/us-east-1z"}, ["did you mean us-east-1b or us-east-1a?"]),
        ({"infra": "lambda/us-east-2/us-east-2a"}, ["region 'us-east-2', which the catalog does not have for lambda"]),
        ({"infra": "*/oslo/oslo-a"}, ["region 'oslo', which no cloud in the catalog has"]),
        ({"instance_type": "m5.xlrge"}, ["no cloud in the catalog has", "did you mean m5.xlarge?"]),
        ({"infra": "gcp", "instance_type": "m5.xlarge"}, ["which the catalog does not have for gcp; aws has it"]),
        ({"infra": "aws", "instance_type": "qqq"}, ["a type of your own goes into ~/.sky/catalog.d"]),
        ({"instance_type": "twice"}, ["which nebius and oci have", "infra: nebius"]),
        ({"instance_type": "m5.xlarge", "cpus": "8+"}, ["cpus: 8+", "m5.xlarge, which has 4 vCPUs"]),
        ({"instance_type": "m5.xlarge", "cpus": 2}, ["cpus: 2 beside", "4 vCPUs"]),
        ({"instance_type": "m5.xlarge", "memory": "32+"}, ["memory: 32+", "which has 16 GB"]),
        ({"instance_type": "m5.xlarge", "memory": "8x"}, ["memory: 8x", "which has 16 GB"]),
        ({"instance_type": "p4d.24xlarge", "accelerators": "V100:1"}, ["accelerators: V100:1", "which has A100:8"]),
        ({"instance_type": "p4d.24xlarge", "accelerators": "A100:4"}, ["A100:4", "A100:8"]),
        ({"instance_type": "p4d.24xlarge", "accelerators": "80GB+:8"}, ["80GB+:8", "A100:8"]),
        ({"instance_type": "p4d.24xlarge", "accelerators": "amd:24GB+:8"}, ["amd:24GB+:8", "A100:8"]),
        ({"instance_type": "m5.xlarge", "accelerators": "T4"}, ["T4:1", "no accelerators"]),
    ],
)
def test_contradictions_are_told_with_both_sides(asked: dict[str, object], says: list[str]) -> None:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        made(**asked)
    assert isinstance(caught.value, ValueError)
    for each in says:
        assert each in str(caught.value)


def test_the_path_of_the_request_is_told() -> None:
    with pytest.raises(InvalidSkyPilotConfigError) as caught:
        resolve(Resources(instance_type="m5.xlarge", cpus=8), CATALOG, path=("resources", "any_of", 1))
    assert caught.value.path == ("resources", "any_of", 1, "cpus")
    assert "resources.any_of[1].cpus" in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "adds"),
    [
        ({"instance_type": "m5.xlarge"}, {"infra": "aws"}),
        ({"instance_type": "p4d.24xlarge"}, {"infra": "aws", "accelerators": {"A100": 8}}),
        ({"instance_type": "p4d.24xlarge", "accelerators": "40GB:8"}, {"infra": "aws", "accelerators": {"A100": 8}}),
        ({"instance_type": "p4d.24xlarge", "accelerators": "A100:0.5"}, {"infra": "aws"}),
        ({"instance_type": "m5.xlarge", "cpus": 4, "memory": "4x"}, {"infra": "aws"}),
        (
            {"infra": "gcp", "instance_type": "n1-standard-8", "accelerators": "T4"},
            {"instance_type": "n1-standard-8+T4:1"},
        ),
        ({"instance_type": "part"}, {"infra": "vultr", "accelerators": {"A100": 0.5}}),
        ({"instance_type": "odd"}, {"infra": "vultr"}),
    ],
)
def test_an_instance_type_says_the_rest(asked: dict[str, object], adds: dict[str, object]) -> None:
    assert made(**asked) == {**Resources(**asked).to_yaml_config(), **adds}  # type: ignore[arg-type]


def test_what_the_user_sells_himself_is_known_too() -> None:
    own = Offer("aws", "basement", None, "box", 8, 32, 0.0, {"RTX4090": 2}, accelerator_memory_gb=24)
    local = Offer("local", "local", None, "this-machine", 2, 8, 0.0)
    found = resolve(Resources(region="basement", instance_type="box"), CATALOG, own=[own, local])
    assert found.to_yaml_config() == {
        "infra": "aws/basement",
        "instance_type": "box",
        "accelerators": {"RTX4090": 2},
    }
    assert resolve(Resources(instance_type="this-machine"), CATALOG, own=[local]).infra.cloud == "local"


@pytest.mark.parametrize(
    ("accelerator", "given", "settings"),
    [
        ("tpu-v6e-8", None, {"tpu_vm": True, "runtime_version": "v2-alpha-tpuv6e"}),
        ("tpu-v5p-8", None, {"tpu_vm": True, "runtime_version": "v2-alpha-tpuv5"}),
        (
            "tpu-v5litepod-8",
            {"tpu_name": "x"},
            {"tpu_name": "x", "tpu_vm": True, "runtime_version": "v2-alpha-tpuv5-lite"},
        ),
        ("tpu-v3-8", None, {"tpu_vm": True, "runtime_version": "tpu-ubuntu2204-base"}),
        ("tpu-v3-8", {"runtime_version": "mine"}, {"tpu_vm": True, "runtime_version": "mine"}),
        ("tpu-v3-8", {"tpu_vm": False}, {"tpu_vm": False}),
        ("H100", None, None),
    ],
)
def test_a_tpu_has_its_runtime(accelerator: str, given: object, settings: object) -> None:
    assert made(accelerators=accelerator, accelerator_args=given).get("accelerator_args") == settings


@pytest.mark.parametrize(
    "asked",
    [
        {"zone": "use1-az2"},
        {"instance_type": "p4d.24xlarge", "accelerators": "40GB:8", "cpus": "64+", "use_spot": True},
        {"instance_type": "part"},
        {"infra": "gcp", "instance_type": "n1-standard-8", "accelerators": "Tesla T4"},
        {"accelerators": "tpu-v5litepod-8"},
    ],
)
def test_the_answer_is_canonical_and_adds_nothing_the_second_time(asked: dict[str, object]) -> None:
    found = resolve(Resources(**asked), CATALOG)  # type: ignore[arg-type]
    assert resolve(found, CATALOG) is found
    assert Resources.from_yaml_config(found.to_yaml_config()) == {found}


def test_an_accelerator_has_the_name_that_catalogs_use() -> None:
    assert made(accelerators="Tesla T4:2")["accelerators"] == {"T4": 2}
    assert made(accelerators="tpu-v5litepod-8")["accelerators"] == {"tpu-v5e-8": 1}
    assert made(infra="local", accelerators="Tesla T4")["accelerators"] == {"Tesla T4": 1}
    named_so = Offer("local", "local", None, "this-machine", 2, 8, 0.0, {"Tesla T4": 1})
    asked = Resources(accelerators="Tesla T4")
    assert resolve(asked, CATALOG, own=[named_so]) is asked
