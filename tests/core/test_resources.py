"""``Resources``: every keyword, its canonical form, and what a value owes: equality, copies, round trips."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError
from sky.core.model import clouds
from sky.core.model.autostop import AutostopConfig, AutostopWaitFor
from sky.core.model.infra import Infra
from sky.core.model.requirements import DEFAULT_DISK_SIZE_GB
from sky.core.model.resources import Resources, format_resources

amounts = st.integers(1, 512)
plus = st.sampled_from(["", "+"])

#: One strategy per key of the interface; together they make any valid resources.
KEYS = {
    "infra": st.sampled_from(
        ["aws", "gcp/us-central1", "aws/us-east-1/us-east-1a", "*/r", "k8s/a/b/c", "local", "ssh/p"]
    ),
    "instance_type": st.sampled_from(["p5.48xlarge", "n2-standard-8"]),
    "cpus": amounts | st.builds("{}{}".format, amounts, plus),
    "memory": amounts
    | st.builds("{}{}{}".format, amounts, st.sampled_from(["", "GB", "gi", "TB"]), plus)
    | st.just("4x"),
    "accelerators": st.sampled_from(["H100", "h100:8", "80GB+", "nvidia:24GB+:2", "A100:0.5", "tpu-v4-8"])
    | st.dictionaries(st.sampled_from(["H100", "l4"]), st.integers(1, 8), min_size=1, max_size=1),
    "accelerator_args": st.just({"runtime_version": "v2", "tpu_vm": True}),
    "use_spot": st.booleans(),
    "job_recovery": st.sampled_from(["failover", "none", {"strategy": "x", "recover_on_exit_codes": 7}]),
    "image_id": st.sampled_from(["docker:ubuntu", {"us-east-1": "docker:a", "us-west-2": "docker:b"}]),
    "disk_size": amounts | st.sampled_from(["100GB", "1TB", "2t"]),
    "disk_tier": st.sampled_from(["low", "Medium", "best"]),
    "network_tier": st.sampled_from(["standard", "BEST"]),
    "local_disk": st.sampled_from(["nvme", "nvme:300+", "ssd100", "500+", 300]),
    "max_hourly_cost": st.floats(0.01, 1000),
    "ports": st.integers(1, 65535) | st.sampled_from(["80", "8080-8090,22", [22, "80-90", 91]]),
    "labels": st.dictionaries(st.sampled_from(["a", "b"]), st.text("xyz", max_size=3), max_size=2),
    "autostop": st.booleans()
    | st.sampled_from([5, "90s", "2h", {"idle_minutes": "10m", "down": True, "wait_for": "JOBS"}]),
    "priority": st.integers(-1000, 1000),
    "priority_class": st.just("high"),
    "volumes": st.just([{"path": "/mnt", "size": "1TB", "attach_mode": "ro"}]),
}

CONFIGS = st.fixed_dictionaries({}, optional=KEYS)


@given(CONFIGS)
def test_the_canonical_form_is_read_back_unchanged(config: dict[str, object]) -> None:
    (made,) = Resources.from_yaml_config(config)
    canonical = made.to_yaml_config()
    assert Resources.from_yaml_config(canonical) == {made}
    assert made.to_yaml_config() == canonical
    assert Resources(**canonical) == made
    assert made.copy() == made
    assert copy.deepcopy(made) is made
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(Resources(**canonical))
    assert repr(made)
    assert made.less_demanding_than(made)


@given(CONFIGS, CONFIGS)
def test_a_copy_differs_in_what_was_given_and_nothing_else(config: dict[str, object], other: dict[str, object]) -> None:
    (made,), (override,) = Resources.from_yaml_config(config), Resources.from_yaml_config(other)
    copied = made.copy(**override.to_yaml_config())
    assert copied.to_yaml_config() == {**made.to_yaml_config(), **override.to_yaml_config()}


@given(st.lists(CONFIGS, min_size=1, max_size=4), st.booleans())
def test_several_candidates_are_read_back(configs: list[dict[str, object]], ordered: bool) -> None:
    for config in configs:
        for shared in ("priority", "priority_class", "job_recovery"):
            config.pop(shared, None)
    key = "ordered" if ordered else "any_of"
    found = Resources.from_yaml_config({key: configs})
    assert isinstance(found, list if ordered else set)
    assert Resources.from_yaml_config({key: [one.to_yaml_config() for one in found]}) == found


def test_properties_have_the_shapes_that_programs_expect() -> None:
    made = Resources(
        clouds.AWS(),
        "p4d",
        cpus=4,
        memory="16GB+",
        accelerators="h100:8",
        region="us-east-1",
        image_id="ami-1",
        disk_tier="HIGH",
        ports=[8081, "8080", "22"],
        autostop="10m",
        labels={"a": "b"},
    )
    assert made.cloud == clouds.AWS()
    assert str(made.cloud) == "AWS"
    assert made.infra == Infra("aws", "us-east-1")
    assert (made.region, made.zone) == ("us-east-1", None)
    assert (made.cpus, made.memory) == ("4", "16+")
    assert made.accelerators == {"H100": 8}
    assert made.image_id == {"us-east-1": "ami-1"}
    assert made.disk_tier is not None
    assert (made.disk_tier.value, made.disk_tier) == ("high", "high")
    assert made.ports == ["22", "8080-8081"]
    assert made.autostop_config == AutostopConfig(True, 10)
    assert made.is_launchable()
    assert made.assert_launchable() is made
    assert repr(made).startswith("aws/us-east-1(p4d, cpus=4, memory=16+, H100:8")


def test_everything_is_open_by_default() -> None:
    empty = Resources()
    assert empty.is_empty()
    assert (empty.cloud, empty.accelerators, empty.ports, empty.autostop_config, empty.priority) == (None,) * 5
    assert empty.disk_size == DEFAULT_DISK_SIZE_GB
    assert empty.use_spot is False
    assert not empty.use_spot_specified
    assert repr(empty) == "any()"
    assert repr(Resources(infra="aws/us-east-1")) == "aws/us-east-1"
    assert Resources.from_yaml_config(None) == {empty}


def test_old_and_new_ways_to_name_a_place_are_the_same() -> None:
    new = Resources(infra="aws/us-east-1/us-east-1a")
    assert new == Resources(cloud="AWS", region="us-east-1", zone="us-east-1a")
    assert new == Resources(infra=Infra("aws", "us-east-1", "us-east-1a"))
    assert Resources(infra="k8s/ctx") == Resources(cloud=clouds.K8s(), region="ctx")


def test_a_copy_moves_to_another_place() -> None:
    here = Resources(infra="aws/us-east-1", cpus=4)
    assert here.copy(infra="gcp") == Resources(infra="gcp", cpus=4)
    assert here.copy(region="us-west-2") == Resources(infra="aws/us-west-2", cpus=4)
    assert here.copy(cloud=clouds.GCP(), region=None) == Resources(infra="gcp", cpus=4)
    assert here.copy(cpus=None) == Resources(infra="aws/us-east-1")


def test_values_handed_out_are_copies() -> None:
    made = Resources(labels={"a": "b"}, volumes=[{"path": "/m"}])
    made.to_yaml_config()["labels"]["a"] = "c"
    assert made.labels is not None
    made.labels["a"] = "c"
    assert made.volumes is not None
    made.volumes[0]["path"] = "/n"
    assert made == Resources(labels={"a": "b"}, volumes=[{"path": "/m"}])


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match=r"use copy\(cpus=\.\.\.\)"):
        Resources().cpus = "4"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"cpus": 0}, r"\(cpus\): found '0'; allowed: a positive number"),
        ({"cpus": "4++"}, "found '4\\+\\+'"),
        ({"cpus": "nan"}, "found 'nan'"),
        ({"cpus": True}, "found the boolean true"),
        ({"memory": "16XB"}, r"found '16XB'; allowed: a positive size in GB"),
        ({"memory": "-4x"}, "found '-4x'"),
        ({"disk_size": "1.5GB"}, "a size in whole GB"),
        ({"disk_size": 0}, "of at least 1"),
        ({"disk_tier": "fastest"}, "allowed: low, medium, high, ultra, best"),
        ({"network_tier": "bst"}, "did you mean 'best'"),
        ({"accelerators": "H100:0"}, "found the count 0 for 'H100:0'; allowed: a number above 0"),
        ({"accelerators": "H100:1.5"}, "a whole number, or a fraction below 1"),
        ({"accelerators": "H100:many"}, "found the count 'many'"),
        ({"accelerators": ""}, "allowed: a name with an optional count"),
        ({"accelerators": "acme:24GB+"}, "found the vendor 'acme'"),
        ({"accelerators": {"A100": 1, "H100": 1}}, "found 2 accelerators; allowed: one here"),
        ({"infra": "aws/a/b/c"}, "4 parts; allowed: at most aws/region/zone"),
        ({"infra": "local/x"}, "at most local"),
        ({"infra": "aws//b"}, "with an empty part"),
        ({"infra": "awss"}, "did you mean 'aws'"),
        ({"infra": "aws", "cloud": "aws"}, "found 'cloud' beside 'infra'"),
        ({"ports": 0}, "a port from 1 to 65535"),
        ({"ports": "90-80"}, "found '90-80'"),
        ({"ports": [80, "x"]}, "found 'x'"),
        ({"image_id": "ami-1"}, "the image of a machine without its cloud"),
        ({"image_id": ""}, "found an empty image"),
        ({"labels": {"a": 1}}, r"\(labels\.a\): found the number 1; allowed: a text"),
        ({"labels": {"": "x"}}, "a label without a name"),
        ({"priority": 1001}, "at least -1000 and at most 1000"),
        ({"max_hourly_cost": 0}, "dollars above 0"),
        ({"local_disk": "floppy"}, "allowed: a kind and size in GB"),
        ({"autostop": "soon"}, "found 'soon'; allowed: a duration"),
        ({"autostop": -1}, "at least 0"),
        ({"autostop": {"idle": 3}}, r"\(autostop\.idle\): found unknown field 'idle' in autostop; did you mean 'idle_"),
        ({"job_recovery": {"recover_on_exit_codes": [256]}}, "at most 255"),
        ({"volumes": [{"size": 1}]}, "without 'path'"),
        ({"accelerator_args": {"tpu_nam": "x"}}, "did you mean 'tpu_name'"),
        ({"gpus": "H100", "accelerators": "A100"}, "found both 'gpus' and 'accelerators'"),
        ({"_odd": object()}, "a value that cannot be sent"),
    ],
)
def test_what_is_refused(keywords: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidSkyPilotConfigError, match=words) as caught:
        Resources(**keywords)
    assert str(caught.value).startswith("Invalid resources YAML: ")


def test_an_unknown_keyword_is_a_type_error_with_a_hint() -> None:
    with pytest.raises(TypeError, match="no parameter 'accelerator'; did you mean 'accelerators'"):
        Resources(accelerator="H100")


def test_internal_keywords_are_carried() -> None:
    made = Resources(_cluster_config_overrides={"a": {"b": 1}}, _docker_login_config={"password": "x"})
    assert made.cluster_config_overrides == {"a": {"b": 1}}
    assert "_docker_login_config" not in made.to_yaml_config(redact_secrets=True)
    assert Resources.from_yaml_config(made.to_yaml_config()) == {made}


@pytest.mark.parametrize(
    ("asked", "has", "fits"),
    [
        ({}, {"infra": "local"}, True),
        ({"infra": "aws"}, {"infra": "gcp"}, False),
        ({"infra": "aws"}, {"infra": "aws/us-east-1"}, True),
        ({"infra": "aws/us-east-1"}, {"infra": "aws"}, False),
        ({"cpus": "4+"}, {"cpus": 8}, True),
        ({"cpus": 4}, {"cpus": 8}, False),
        ({"cpus": "16+"}, {"cpus": 8}, False),
        ({"memory": "4x"}, {"memory": 8}, True),
        ({"accelerators": "H100:2"}, {"accelerators": "H100:8"}, True),
        ({"accelerators": "H100:0.5"}, {"accelerators": "H100:1"}, True),
        ({"accelerators": "H100:2"}, {"accelerators": "A100:8"}, False),
        ({"accelerators": "H100"}, {}, False),
        ({"use_spot": True}, {"use_spot": False}, False),
        ({"disk_size": 512}, {}, False),
        ({"instance_type": "a"}, {"instance_type": "b"}, False),
        ({"accelerators": "80GB+:8"}, {"accelerators": "H100:8"}, True),
        ({"accelerators": "80GB+:8"}, {"accelerators": "A100:8"}, False),
        ({"accelerators": "16GB"}, {"accelerators": "L4"}, False),
        ({"accelerators": "amd:24GB+"}, {"accelerators": "L4"}, False),
        ({"accelerators": "24GB+"}, {"accelerators": "Nameless"}, True),
        ({"disk_tier": "high"}, {"disk_tier": "low"}, False),
        ({"disk_tier": "low"}, {"disk_tier": "high"}, True),
        ({"network_tier": "best"}, {"network_tier": "standard"}, False),
        ({"accelerator_args": {"runtime_version": "a"}}, {"accelerator_args": {"runtime_version": "b"}}, False),
    ],
)
def test_what_a_node_can_serve(asked: dict[str, object], has: dict[str, object], fits: bool) -> None:
    assert Resources(**asked).less_demanding_than(Resources(**has)) is fits  # type: ignore[arg-type]


def test_ports_count_only_when_asked_for() -> None:
    asked, has = Resources(ports=[80, 8085]), Resources(ports=["80", "8080-8090"])
    assert asked.less_demanding_than(has, check_ports=True)
    assert not has.less_demanding_than(asked, check_ports=True)
    assert has.less_demanding_than(asked)


def test_prices_need_the_catalog_except_here() -> None:
    assert Resources(infra="local").get_cost(3600) == 0
    with pytest.raises(NotSupportedError, match="catalog"):
        Resources(infra="aws").get_cost(3600)
    assert Resources(infra="aws", _price_hourly=3.0).get_cost(1800) == 1.5
    with pytest.raises(ValueError, match="-1"):
        Resources(infra="local").get_cost(-1)


def test_regions_are_those_that_are_fixed_or_planned() -> None:
    fixed = Resources(infra="aws/us-east-1/us-east-1a", instance_type="m5.large")
    assert fixed.get_valid_regions_for_launchable() == [("us-east-1", ("us-east-1a",))]
    assert Resources(infra="local").get_valid_regions_for_launchable() == [("local", ())]
    planned = Resources(infra="aws", instance_type="m5.large", _regions=["us-east-1", "eu-west-1"])
    assert [each.name for each in planned.get_valid_regions_for_launchable()] == ["us-east-1", "eu-west-1"]
    with pytest.raises(NotSupportedError, match="list_accelerators"):
        Resources(infra="aws", instance_type="m5.large").get_valid_regions_for_launchable()
    with pytest.raises(NotSupportedError, match="catalog"):
        fixed.get_reservations_available_resources()


@pytest.mark.parametrize(
    ("blocked", "rules_out"),
    [
        ({"infra": "aws"}, True),
        ({"infra": "aws/us-east-1", "use_spot": True}, True),
        ({"instance_type": "p5.48xlarge"}, True),
        ({"accelerators": "H100:8"}, True),
        ({"infra": "gcp"}, False),
        ({"infra": "aws/us-east-1/us-east-1b"}, False),
        ({"use_spot": False}, False),
        ({"accelerators": "H100:4"}, False),
        ({"instance_type": "p5.4xlarge"}, False),
    ],
)
def test_what_a_blocked_place_rules_out(blocked: dict[str, object], rules_out: bool) -> None:
    made = Resources("aws", "p5.48xlarge", accelerators="H100:8", region="us-east-1", zone="us-east-1a", use_spot=True)
    assert made.should_be_blocked_by(Resources(**blocked)) is rules_out  # type: ignore[arg-type]


def test_what_is_launchable() -> None:
    with pytest.raises(ValueError, match="does not fix cloud and instance type"):
        Resources(infra="aws").assert_launchable()


def test_autostop_from_a_command_line() -> None:
    assert Resources().override_autostop_config() == Resources()
    assert Resources().override_autostop_config(down=True).autostop_config == AutostopConfig(True, 0, True)
    made = Resources(autostop={"idle_minutes": 3, "wait_for": "jobs"}).override_autostop_config(idle_minutes=7)
    assert made.autostop_config == AutostopConfig(True, 7, False, AutostopWaitFor.JOBS)
    assert Resources(autostop=False).autostop_config == AutostopConfig(False)
    assert Resources(autostop=True).autostop_config == AutostopConfig(True, 5)


@pytest.mark.parametrize("cls", clouds.Cloud.__subclasses__(), ids=lambda cls: cls.__name__)
def test_clouds_are_values(cls: type[clouds.Cloud]) -> None:
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    assert clouds.CLOUD_REGISTRY.from_str(cls.NAME.upper()) == cls()
    assert Resources(cloud=cls()).cloud == cls()
    assert Resources(infra=cls.NAME).cloud == cls()
    assert len([one for one in clouds.CLOUD_REGISTRY.values() if cls().is_same_cloud(one)]) == 1


def test_one_line_for_tables() -> None:
    assert format_resources(Resources(accelerators="h100:2", cpus="4+", memory=16)) == "gpus=H100:2, cpus=4+, mem=16"
    assert format_resources(Resources()) == "-"
