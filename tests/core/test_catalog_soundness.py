"""Rules against rows that catalogs in the wild get wrong; each is set aside, and its right neighbour is not."""

import pytest

from sky.core.catalog import soundness
from sky.core.catalog.golden import GOLDEN
from sky.core.catalog.regression import Change, lost, moved, off_golden, refused
from sky.core.catalog.rows import gather
from sky.core.catalog.soundness import Book, judge, lowest_per_device, medians
from sky.core.model.catalog import InstanceType, Market, Place, Price, Quality

OD, SPOT = Market.ON_DEMAND, Market.SPOT


def a_type(name, cpus=4.0, memory=16.0, accelerator=None, count=0.0, device=None, cloud="aws", **more):
    return InstanceType(
        cloud, name, float(cpus), float(memory), accelerator=accelerator, accelerator_count=float(count),
        accelerator_memory_gib=device, **more,
    )  # fmt: skip


def a_price(name, price, region="us-east-1", market=OD, zone=None, cloud="aws", quality=Quality.LIST, currency="USD"):
    return Price(cloud, name, region, zone, market, price, quality, 1.0, "u", currency)


def judged(*rows, **more):
    return judge(gather(rows[0].cloud, rows), **more)


def kept(made):
    return {(each.instance_type, each.region, each.market): each.price for each in made.prices}


def rules(made):
    return [each.rule for each in made.quarantined]


def m5(*sizes):
    return [a_type(f"m5.{size}", cpus, cpus * 4, family="m5") for size, cpus in sizes]


SIZES = (("large", 2), ("xlarge", 4), ("2xlarge", 8), ("4xlarge", 16), ("8xlarge", 32), ("12xlarge", 48))
P5 = a_type("p5.48xlarge", 192, 2048, "H100", 8, 80.0)


# --- prices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_price_of_zero_is_none(price):
    # A widely used list has m5.xlarge in us-east-1 at 0.0, and 2,753 more like it.
    made = judged(a_type("m5.xlarge"), a_price("m5.xlarge", price), a_price("m5.xlarge", 0.192, "us-west-2"))
    assert kept(made) == {("m5.xlarge", "us-west-2", OD): 0.192}
    assert rules(made) == ["zero price"]
    assert made.quarantined[0].what == "m5.xlarge in us-east-1, on-demand"


def test_a_windows_price_among_linux_ones_is_found():
    # D4s_v5 in eastus: 0.192; one catalog has the Windows price, 0.376, for one size.
    types = [a_type(f"D{cpus}s_v5", cpus, cpus * 4, cloud="azure", family="Dsv5") for cpus in (2, 4, 8, 16, 32, 48, 64)]
    rows = [a_price(each.name, 0.048 * each.cpus, "eastus", cloud="azure") for each in types]
    rows[1] = a_price("D4s_v5", 0.376, "eastus", cloud="azure")
    made = judged(*types, *rows)
    assert ("D4s_v5", "eastus", OD) not in kept(made)
    assert len(kept(made)) == 6
    assert rules(made) == ["uneven size"]
    assert "0.094 per vCPU where the family asks 0.048" in made.quarantined[0].detail


def test_sizes_of_metal_and_of_a_family_that_is_not_linear_are_left_alone():
    types = [*m5(*SIZES), a_type("m5.metal", 96, 384, family="m5", features=frozenset(["metal"]))]
    rows = [a_price(each.name, 0.048 * each.cpus) for each in types[:-1]] + [a_price("m5.metal", 9.0)]
    assert rules(judged(*types, *rows)) == []
    uneven = [a_price(each.name, 0.048 * each.cpus * (1 + number % 3)) for number, each in enumerate(types[:-1])]
    assert rules(judged(*types, *uneven)) == []


def test_another_price_in_one_region_alone_is_found():
    types = m5(*SIZES)
    home = [a_price(each.name, 0.048 * each.cpus, "us-east-1", zone="a") for each in types]
    away = [a_price(each.name, 0.0535 * each.cpus, "eu-west-1") for each in types]
    # Dedicated tenancy costs some six to ten per cent more: 1.19 here where the family has 1.115.
    away[3] = a_price(types[3].name, 0.0611 * types[3].cpus, "eu-west-1")
    made = judged(*types, *home, *away)
    assert rules(made) == ["uneven size"] or rules(made) == ["uneven region"]
    assert (types[3].name, "eu-west-1", OD) not in kept(made)
    assert len(kept(made)) == 11


@pytest.mark.parametrize(("factor", "found"), [(1.6, False), (0.55, False), (2.6, True), (0.45, True)])
def test_the_ratio_to_the_usual_price_is_bounded(factor, found):
    regions = ("us-east-1", "us-east-2", "us-west-2")
    rows = [*(a_price("p5.48xlarge", 55.04, each) for each in regions), a_price("p5.48xlarge", 55.04 * factor, "sa")]
    made = judged(P5, *rows)
    assert (rules(made) == ["uneven region"]) is found
    assert (("p5.48xlarge", "sa", OD) in kept(made)) is not found
    assert rules(judged(P5, *(each._replace(quality=Quality.LIVE) for each in rows))) == []


def test_a_committed_price_in_some_regions_is_found_among_the_others():
    # One catalog has H100:8 devices at 33.61 in seven regions, at 78 to 102 in the others.
    made = a_type("a3-highgpu-8g", 208, 1872, "H100", 8, 80.0, cloud="gcp")
    prices = {f"r{number}": 78.0 + 3 * number for number in range(8)} | {"us-central1": 33.61, "us-west1": 33.61}
    found = judged(made, *(a_price(made.name, usd, region, cloud="gcp") for region, usd in prices.items()))
    assert {region for _, region, _ in kept(found)} == {f"r{number}" for number in range(8)}


def test_a_price_that_nobody_converted_is_not_taken_for_dollars():
    # 598 rows of one catalog are in CNY.
    made = judged(a_type("m5.xlarge"), a_price("m5.xlarge", 1.3, "cn-north-1", currency="CNY"))
    assert (kept(made), rules(made)) == ({}, ["currency"])


def test_a_row_told_twice_counts_once_and_the_dearer_one():
    # Every tpu-v4 row of one catalog comes twice.
    made = judged(a_type("m5.xlarge"), a_price("m5.xlarge", 0.192), a_price("m5.xlarge", 0.192))
    assert (len(made.prices), rules(made)) == (1, ["duplicate"])
    for prices in ((0.1, 0.192), (0.192, 0.1)):
        made = judged(a_type("m5.xlarge"), *(a_price("m5.xlarge", each) for each in prices))
        assert list(kept(made).values()) == [0.192]


def test_a_price_without_a_type_is_explained_by_the_generation_before_or_not_at_all():
    rows = gather("aws", [a_price("m5.xlarge", 0.192), a_price("x9.huge", 9.0)])
    made = judge(rows, earlier={"m5.xlarge": a_type("m5.xlarge")})
    assert list(made.types) == ["m5.xlarge"]
    assert len(made.prices) == 1
    assert rules(made) == ["unknown type"]


# --- accelerators ----------------------------------------------------------------------------------------------------


def test_an_accelerator_named_after_all_of_its_memory_is_not_known():
    # One catalog has A100-80GB-640GB for eight A100-80GB, so that whoever asks for A100-80GB:8 misses it.
    odd = a_type("8A100", 176, 960, "A100-80GB-640GB", 8, 80.0, cloud="verda")
    good = a_type("1A100", 22, 120, "A100-80GB", 1, 80.0, cloud="verda")
    prices = [a_price(each.name, 1.3 * each.accelerator_count, cloud="verda") for each in (odd, good)]
    made = judged(odd, good, *prices)
    assert [each.instance_type for each in made.prices] == ["1A100"]
    assert rules(made) == ["accelerator name"]


@pytest.mark.parametrize(
    ("name", "count", "said", "why"),
    [
        ("A100-80GB", 8, 640.0, "that of all devices"),  # total memory of a marketplace's offer
        ("RTX4090", 4, 96.0, "that of all devices"),
        ("A100-80GB", 1, 80 / 1024, "another unit"),  # "SizeInMiB: 80"
        ("H100", 8, 81559.0, "another unit"),
        ("A100-80GB", 8, 40.0, "another unit"),
    ],
)
def test_memory_is_that_of_one_device(name, count, said, why):
    made = judged(a_type("x", 8, 64, name, count, said), a_price("x", 10.0 * count))
    assert (made.types, made.prices, rules(made)) == ({}, [], ["device memory"])
    assert why in made.quarantined[0].detail


@pytest.mark.parametrize(
    ("name", "count", "said", "nominal"),
    [
        ("L4", 1, 22.35, 24), ("H100", 8, 79.65, 80), ("L4", 0.125, 2.79, 24), ("T4", 1, None, 16),
        ("H100-NVL", 1, 94, 94), ("A100", 8, 80, 80), ("Tesla V100", 8, 32, 32),
    ],
)  # fmt: skip
def test_memory_becomes_what_the_device_is_sold_by(name, count, said, nominal):
    (made,) = judged(a_type("x", 8, 64, name, count, said), a_price("x", 2.0 * count)).types.values()
    assert made.accelerator_memory_gib == nominal


@pytest.mark.parametrize(
    ("price", "found"),
    [(55.04, False), (98.32, False), (0.3, True), (8 * 25.1 + 30, True), (0.02, True)],
)
def test_a_device_costs_what_devices_can_cost(price, found):
    # Azure H100 at $0.00-something, B200 at the cent that is the lowest bid.
    assert (rules(judged(P5, a_price("p5.48xlarge", price))) == ["price per device"]) is found


def test_a_device_costs_about_what_it_costs_elsewhere():
    middle = {"H100": 4.0, "T4": 0.4}
    assert rules(judged(P5, a_price("p5.48xlarge", 7.9), medians=middle)) == ["price per device"]
    assert rules(judged(P5, a_price("p5.48xlarge", 190.0), medians=middle)) == ["price per device"]
    # What a market says of itself at this moment, and spot, may be cheap.
    assert rules(judged(P5, a_price("p5.48xlarge", 7.9, quality=Quality.LIVE), medians=middle)) == []
    assert rules(judged(P5, a_price("p5.48xlarge", 7.9, market=SPOT), medians=middle)) == []
    # A small device in a large host is not a dear device: g4dn.16xlarge has one T4 and 64 vCPUs.
    host = a_type("g4dn.16xlarge", 64, 256, "T4", 1, 16.0)
    assert rules(judged(host, a_price("g4dn.16xlarge", 4.352), medians=middle)) == []


def test_a_tpu_is_counted_by_its_chips():
    tpu = a_type("tpu-v5e-256", 896, 1536, "tpu-v5e-256", 1, cloud="gcp")
    assert rules(judged(tpu, a_price("tpu-v5e-256", 307.2, cloud="gcp"))) == []


def test_the_median_is_over_clouds_that_sell_it():
    clouds = []
    for cloud, price in (("aws", 55.04), ("gcp", 88.49), ("lambda", 23.92)):
        made = a_type("h", 192, 2048, "NVIDIA H100 80GB", 8, 80.0, cloud=cloud)
        rows = [made, a_price("h", price, cloud=cloud), a_price("h", 1.0, market=SPOT, cloud=cloud)]
        clouds.append(lowest_per_device(gather(cloud, rows)))
    assert medians(clouds) == {"H100": 55.04 / 8}
    assert medians(clouds[:2]) == {}


@pytest.mark.parametrize(
    "made", [a_type("x", -1), a_type("x", 4, 1e9), a_type("x", 4, 16, "T4", 0), a_type("x", 4, 16, None, 2)]
)
def test_a_machine_has_a_shape(made):
    assert rules(judged(made, a_price("x", 1.0))) == ["shape"]


# --- spot ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_demand", "spot", "rule"),
    [
        (1.39, 1.39, "spot not below on-demand"),  # a place without a spot market
        (98.32, 98.32, "spot not below on-demand"),
        (0.192, 0.2, "spot not below on-demand"),
        (75.955, 7.5955, "spot floor"),  # p5 in regions where nobody bids
        (55.04, 14.2, None),
        (27.0, 2.99, None),
    ],
)
def test_a_spot_price_is_below_and_no_floor(on_demand, spot, rule):
    spot_row = a_price("g", spot, zone="us-east-1a", market=SPOT)
    made = judged(a_type("g", 8, 32), a_price("g", on_demand), spot_row)
    assert rules(made) == ([rule] if rule else [])
    assert kept(made)["g", "us-east-1", OD] == on_demand
    assert (("g", "us-east-1", SPOT) in kept(made)) is (rule is None)


def test_the_lowest_bid_is_not_a_price():
    # H200:8 for $8.00 is the floor of $1 a device; B200 at $0.01 another one.
    h200 = a_type("h200", 192, 2048, "H200", 8, 141.0, cloud="mithril")
    made = judged(h200, a_price("h200", 8.0, market=SPOT, cloud="mithril"))
    assert (made.prices, rules(made)) == ([], ["spot floor"])
    assert rules(judged(h200, a_price("h200", 9.6, market=SPOT, cloud="mithril"))) == []
    cheap = [a_price("h200", 15.0, cloud="mithril"), a_price("h200", 8.0, market=SPOT, cloud="mithril")]
    assert rules(judged(h200, *cheap)) == []


# --- whole clouds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(100, 79, 30, 30, 79, 0), "79 rows where there were 100"),
        (Change(100, 100, 30, 20, 79, 0), "20 types where there were 30"),
        (Change(100, 81, 30, 30, 81, 1), None),
        (Change(100, 100, 30, 30, 100, 3), "3 of 100 prices moved more than 3 times"),
        (Change(100, 30, 30, 20, 30, 0, live=True), None),
        (Change(100, 10, 30, 20, 10, 0, live=True), "10 rows"),
        (Change(5, 1, 5, 1, 1, 1), None),
        (Change(17, 9, 9, 5, 9, 0), None),
        (Change(17, 8, 9, 8, 8, 0), "8 rows where there were 17: more than 50% are gone"),
        (Change(17, 12, 12, 5, 12, 0), "5 types where there were 12"),
        (Change(17, 1, 9, 1, 1, 0, live=True), None),
    ],
)
def test_a_cloud_that_changes_too_much_is_refused(change, words):
    told = refused("aws", [], change, {})
    assert told is None if words is None else words in told
    assert told == (lost(change) or moved(change))


def test_a_price_that_was_checked_by_hand_must_come_out():
    # One catalog has H100:8 in us-central1 for 43.07 an hour, host and devices; the list says 88.49.
    wrong = a_price("a3-highgpu-8g", 43.07, "us-central1", cloud="gcp")
    assert "88.49" in off_golden("gcp", [wrong], GOLDEN)
    assert off_golden("gcp", [wrong._replace(price=87.83)], GOLDEN) is None
    assert off_golden("gcp", [wrong._replace(market=SPOT)], GOLDEN) is None
    # Old list prices of before the cuts of 2025.
    assert "55.04" in off_golden("aws", [a_price("p5.48xlarge", 98.32)], GOLDEN)
    assert refused("aws", [a_price("p5.48xlarge", 98.32)], None, GOLDEN)
    assert off_golden("lambda", [], GOLDEN) is None


# --- together --------------------------------------------------------------------------------------------------------


def test_right_rows_come_through_and_are_the_same_rows():
    types = [*m5(*SIZES), P5]
    rows = [a_price(each.name, 0.048 * each.cpus, zone=zone) for each in types[:-1] for zone in ("a", "b")]
    rows += [a_price("p5.48xlarge", 55.04), a_price("p5.48xlarge", 21.0, market=SPOT)]
    unpriced = a_price("p5.48xlarge", None, "eu-north-1")
    made = judged(*types, *rows, unpriced, Place("aws", "us-east-1"))
    assert (made.prices, made.unpriced, made.quarantined) == (rows, [unpriced], [])
    assert list(made.types.values()) == types
    again = judge(made)
    assert (again.prices, again.types) == (made.prices, made.types)


def test_findings_of_one_rule_are_told_up_to_a_number():
    types = [a_type(f"t{number}") for number in range(250)]
    made = judged(*types, *(a_price(each.name, 0.0) for each in types))
    assert len(made.quarantined) == 101
    assert made.quarantined[-1].what == "150 more"


def test_a_source_speaks_for_its_own_cloud():
    rows = gather("aws", [a_type("x"), a_price("x", 1.0), a_price("x", 1.0, cloud="gcp")])
    assert len(rows.prices) == 1
    assert [each.rule for each in rows.quarantined] == ["foreign"]


def test_every_rule_of_the_table_exists():
    named = soundness.__doc__.split("on types")[1].split("on a cloud")[0].replace(",", " ").split()
    for word in (each for each in named if "_" in each):
        assert callable(getattr(soundness, word)), word
    assert Book.of([], {}).pairs == []
