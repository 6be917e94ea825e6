"""What a task asks for with its defaults, and every rule by which an offer does not meet it."""

from dataclasses import replace

import pytest
from small_shop import matches, stocked

from sky.core.model.catalog import Market
from sky.core.model.conditions import Quota
from sky.core.model.offers import Offer, Reason
from sky.core.model.resources import Resources
from sky.core.optimizer.conditions import Blocked, Conditions
from sky.core.optimizer.fit import misfit, since
from sky.core.optimizer.wanted import query, wish, wishes

PLAIN = Offer("a", "r1", "z1", "m8", 8, 32, 0.4)
GPU = Offer("b", "r2", None, "g8", 96, 1000, 30.0, {"H100": 8}, accelerator_memory_gb=80, local_disk_gb=900,
            local_disk_kind="nvme")  # fmt: skip
SLICE = Offer("d", "r1", None, "g6f", 2, 8, 0.2, {"L4": 0.25})
HOST = Offer("here", "here", None, "host", 4, 16, 0.0, {"L4": 2}, shared=True)


def asked(num_nodes=1, **given):
    return wish(Resources(**given), 0, num_nodes, (), {"h100": "H100", "l4": "L4"})


def code(offer, conditions=None, num_nodes=1, **given):
    found = misfit(asked(num_nodes, **given), offer, conditions or Conditions())
    return found and found.code


def test_nothing_said_is_eight_vcpus_and_four_gb_each():
    found = query(asked(), None)
    assert (found.min_cpus, found.max_cpus, found.memory_per_cpu) == (8, None, 4)
    assert (found.accelerator, found.arch, found.market) == ("", "x86_64", Market.ON_DEMAND)


@pytest.mark.parametrize(
    ("given", "cpus", "memory", "ratio"),
    [
        ({"cpus": 4}, (4, 4), (None, None), 4),
        ({"cpus": "4+"}, (4, None), (None, None), 4),
        ({"memory": "16+"}, (None, None), (16, None), None),
        ({"memory": "16"}, (None, None), (16, 16), None),
        ({"memory": "2x"}, (None, None), (None, None), 2),
        ({"cpus": "4+", "memory": 8}, (4, None), (8, 8), None),
        ({"accelerators": "H100"}, (None, None), (None, None), None),
        ({"instance_type": "m8", "infra": "aws"}, (None, None), (None, None), None),
    ],
)
def test_the_bounds_that_a_catalog_is_asked_for(given, cpus, memory, ratio):
    found = query(asked(**given), None)
    assert (found.min_cpus, found.max_cpus) == cpus
    assert (found.min_memory_gib, found.max_memory_gib) == memory
    assert found.memory_per_cpu == ratio


@pytest.mark.parametrize(
    ("given", "name", "count", "memory", "vendor", "arch"),
    [
        ({"accelerators": "h100:8"}, "H100", 8, (None, None), None, None),
        ({"accelerators": "L4:0.5"}, "L4", 1, (None, None), None, None),
        ({"accelerators": "80GB+:4"}, None, 4, (77.6, None), None, "x86_64"),
        ({"accelerators": "16GB"}, None, 1, (15.52, 16.48), None, "x86_64"),
        ({"accelerators": "nvidia:24GB+:2"}, None, 2, (23.28, None), "nvidia", "x86_64"),
        ({"instance_type": "x", "infra": "aws"}, None, None, (None, None), None, None),
    ],
)
def test_the_accelerators_that_a_catalog_is_asked_for(given, name, count, memory, vendor, arch):
    found = query(asked(**given), None)
    assert (found.accelerator, found.accelerator_count, found.vendor, found.arch) == (name, count, vendor, arch)
    low, high = found.min_accelerator_memory_gib, found.max_accelerator_memory_gib
    assert (low and round(low, 2), high and round(high, 2)) == memory


@pytest.mark.parametrize(
    ("infra", "clouds", "region", "zone"),
    [
        ("*/us-east-1", None, "us-east-1", None),
        ("aws/*/us-east-1a", {"aws"}, None, "us-east-1a"),
        ("aws", {"aws"}, None, None),
        ("*", None, None, None),
    ],
)
def test_places_with_parts_left_open(infra, clouds, region, zone):
    found = query(asked(infra=infra), None)
    assert (found.clouds and set(found.clouds), found.region, found.zone) == (clouds, region, zone)


def test_a_question_that_nobody_can_answer_is_not_asked():
    assert query(asked(infra="aws"), frozenset({"gcp"})) is None
    assert query(asked(), frozenset()) is None
    assert query(asked(infra="aws/r1"), None, "r2") is None


@pytest.mark.parametrize(
    ("expected", "offer", "given"),
    [
        (None, PLAIN, {}),
        (None, GPU, {"accelerators": "H100:8"}),
        (None, HOST, {}),
        (Reason.PLACE, PLAIN, {"infra": "aws"}),
        (Reason.PLACE, PLAIN, {"infra": "*/r2"}),
        (Reason.PLACE, PLAIN, {"infra": "*/r1/z2"}),
        (Reason.INSTANCE_TYPE, PLAIN, {"instance_type": "m9"}),
        (Reason.MARKET, PLAIN, {"use_spot": True}),
        (Reason.MARKET, replace(PLAIN, use_spot=True), {}),
        (None, replace(PLAIN, use_spot=True), {"use_spot": True}),
        (Reason.CPUS, PLAIN, {"cpus": 4}),
        (None, PLAIN, {"cpus": "4+"}),
        (Reason.CPUS, PLAIN, {"cpus": "16+"}),
        (None, HOST, {"cpus": 2}),
        (Reason.CPUS, HOST, {"cpus": 8}),
        (Reason.MEMORY, PLAIN, {"memory": "64+"}),
        (Reason.MEMORY, PLAIN, {"memory": 16}),
        (Reason.MEMORY, PLAIN, {"memory": "8x"}),
        (None, HOST, {"cpus": 1, "memory": "8x"}),
        (Reason.MEMORY, HOST, {"cpus": 4, "memory": "8x"}),
        (Reason.MEMORY, replace(PLAIN, memory_gb=16), {}),
        (Reason.ACCELERATORS, PLAIN, {"accelerators": "H100"}),
        (Reason.ACCELERATORS, GPU, {"accelerators": "H100:4"}),
        (Reason.ACCELERATORS, GPU, {}),
        (None, HOST, {"accelerators": "L4:0.5"}),
        (None, HOST, {"accelerators": "L4:1"}),
        (Reason.ACCELERATORS, HOST, {"accelerators": "L4:4"}),
        (None, GPU, {"accelerators": "80GB+:8"}),
        (None, replace(GPU, accelerator_memory_gb=79.6), {"accelerators": "80GB+:8"}),
        (Reason.ACCELERATOR_MEMORY, GPU, {"accelerators": "96GB+:8"}),
        (Reason.ACCELERATOR_MEMORY, GPU, {"accelerators": "16GB:8"}),
        (Reason.ACCELERATOR_MEMORY, replace(GPU, accelerator_memory_gb=None), {"accelerators": "16GB:8"}),
        (Reason.ACCELERATORS, GPU, {"accelerators": "80GB+:4"}),
        (Reason.ACCELERATORS, SLICE, {"accelerators": "L4:0.25"}),
        (None, SLICE, {"instance_type": "g6f", "accelerators": "L4:0.25"}),
        (None, SLICE, {"instance_type": "g6f", "accelerators": "L4:0.125"}),
        (Reason.ACCELERATORS, SLICE, {"instance_type": "g6f", "accelerators": "L4:0.5"}),
        (Reason.ACCELERATORS, GPU, {"instance_type": "g8", "accelerators": "H100:4"}),
        (Reason.LOCAL_DISK, PLAIN, {"local_disk": "nvme:300+"}),
        (None, GPU, {"local_disk": "nvme:300+", "accelerators": "H100:8"}),
        (None, GPU, {"local_disk": "ssd:300+", "accelerators": "H100:8"}),
        (Reason.LOCAL_DISK, GPU, {"local_disk": "nvme:300", "accelerators": "H100:8"}),
        (Reason.LOCAL_DISK, replace(GPU, local_disk_kind="hdd"), {"local_disk": "ssd:300+", "accelerators": "H100:8"}),
        (Reason.ARCH, replace(PLAIN, arch="arm64"), {}),
        (None, replace(PLAIN, arch="arm64"), {"instance_type": "m8"}),
        (None, replace(GPU, arch="arm64"), {"accelerators": "H100:8"}),
        (Reason.ARCH, replace(GPU, arch="arm64"), {"accelerators": "80GB+:8"}),
        (Reason.ONLY_BY_NAME, replace(PLAIN, features=frozenset({"burstable"})), {}),
        (Reason.ONLY_BY_NAME, replace(PLAIN, features=frozenset({"reservation_only"})), {}),
        (None, replace(PLAIN, features=frozenset({"shared_core"})), {"instance_type": "m8"}),
        (Reason.PRICE_LIMIT, PLAIN, {"max_hourly_cost": 0.39}),
        (None, PLAIN, {"max_hourly_cost": 0.4}),
    ],
)
def test_each_rule(expected, offer, given):
    assert code(offer, **given) is expected


@pytest.mark.parametrize(
    ("expected", "conditions"),
    [
        (Reason.NOT_ENABLED, Conditions(enabled=frozenset({"b"}))),
        (None, Conditions(enabled=frozenset({"a"}))),
        (Reason.FEATURE, Conditions(features={"a": frozenset({"spot"})})),
        (None, Conditions(features={"a": frozenset({"multi_node"}), "b": frozenset()})),
        (Reason.DENIED, Conditions(denied=lambda offer: f"no {offer.cloud} here")),
        (Reason.QUOTA, Conditions(quotas=(Quota("a", None, "m*", None, 1, None, "q:1"),))),
        (Reason.QUOTA, Conditions(quotas=(Quota("a", "r1", "*", Market.ON_DEMAND, None, 15, "q:1"),))),
        (None, Conditions(quotas=(Quota("a", "r1", "*", Market.SPOT, 0, None, "q:1"),))),
        (Reason.REFUSED, Conditions(blocked=(Blocked("a", "r1"),))),
        (None, Conditions(blocked=(Blocked("a", "r1", "z2"), Blocked(market=Market.SPOT)))),
    ],
)
def test_each_condition(expected, conditions):
    assert code(PLAIN, conditions, num_nodes=2) is expected


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({"use_spot": True}, {"spot"}),
        ({"ports": 80}, {"ports"}),
        ({"image_id": "docker:x"}, {"docker"}),
        ({"image_id": "ami-1", "infra": "aws/r"}, {"image"}),
        ({"disk_tier": "ultra"}, {"disk_tier"}),
        ({"disk_tier": "medium"}, set()),
        ({"network_tier": "best"}, {"network_tier"}),
        ({"local_disk": "300+"}, {"local_disk"}),
    ],
)
def test_features_that_resources_need(given, needs):
    assert asked(**given).needs == needs


def test_a_caller_may_need_more():
    assert wishes([Resources()], 2, needs=["clone_disk"], spellings={})[0].needs == {"multi_node", "clone_disk"}


def test_a_refusal_says_when_and_how_many():
    found = misfit(asked(), PLAIN, Conditions(blocked=(Blocked("a", why="capacity", since=80.0),), now=800.0))
    assert found.words == "refused 12 minutes ago: capacity"
    found = misfit(asked(cpus="16+"), PLAIN, Conditions())
    assert (found.words, found.asked, found.found) == ("asked for 16+ vCPUs, it has 8", "16+ vCPUs", "8 vCPUs")
    assert found.remedy == "ask for less: cpus: 8+"
    assert found.of(PLAIN).place == "a/r1/z1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "a moment"), (1, "1 second"), (125, "2 minutes"), (7200, "2 hours"), (9e4, "1 day")]
)
def test_spans_of_time(seconds, text):
    assert since(seconds) == text


@pytest.mark.parametrize(
    "given",
    [{}, {"cpus": 8}, {"accelerators": "H100:8"}, {"accelerators": "24GB+:4"}, {"use_spot": True, "memory": "60+"},
     {"instance_type": "m8"}, {"infra": "*/r1", "cpus": "2+"}],
)  # fmt: skip
def test_a_query_leaves_out_nothing_that_fits(given):
    shop = stocked(5)
    one = asked(**given)
    fitting = [each for each in shop.on_sale if misfit(one, each, Conditions()) is None]
    assert fitting
    assert all(matches(query(one, None), each) for each in fitting)
