"""A catalog file gives what a search of every row gives, in the order of price, and gives it lazily."""

import itertools
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sky.core.catalog.rows import gather
from sky.core.model.catalog import Egress, InstanceType, Market, Place, Price, Quality, Quarantined, Query, Source
from sky.store.catalog.build import build
from sky.store.catalog.read import CatalogFile

OD, SPOT = Market.ON_DEMAND, Market.SPOT
URL = "https://prices.example/list"
NAMES = ["A100", "A100-80GB", "T4", "MI300X"]
VENDORS = {"A100": "nvidia", "A100-80GB": "nvidia", "T4": "nvidia", "MI300X": "amd"}


def a_type(cloud="one", name="m.4", cpus=4.0, memory=16.0, **more):
    return InstanceType(cloud, name, cpus, memory, **more)


def a_price(made, region="r1", zone=None, market=OD, price=1.0, **more):
    return Price(made.cloud, made.name, region, zone, market, price, Quality.LIST, 100.0, URL, **more)


def opened(path, rows):
    clouds = sorted({row.cloud for row in rows})
    build(path, [gather(cloud, [row for row in rows if row.cloud == cloud]) for cloud in clouds])
    return CatalogFile.open(path)


# --- the same as by brute force --------------------------------------------------------------------------------------

types = st.builds(
    lambda cloud, number, cpus, ratio, accelerator, count, memory, arch: a_type(
        cloud,
        f"t{number}",
        float(cpus),
        float(cpus * ratio),
        arch=arch,
        accelerator=accelerator,
        accelerator_count=float(count) if accelerator else 0.0,
        accelerator_memory_gib=memory if accelerator else None,
        features=frozenset(["burstable", "efa"][: number % 3]),
    ),
    st.sampled_from(["one", "two", "three"]),
    st.integers(0, 5),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([None, *NAMES]),
    st.sampled_from([0.5, 1, 2, 8]),
    st.sampled_from([None, 16.0, 40.0, 80.0]),
    st.sampled_from(["x86_64", "arm64"]),
)
spots = st.tuples(
    st.sampled_from(["r1", "r2", "r3"]), st.sampled_from([None, "a", "b"]), st.sampled_from([OD, SPOT]),
    st.one_of(st.none(), st.integers(1, 30)),
)  # fmt: skip


@st.composite
def worlds(draw):
    kinds = {(made.cloud, made.name): made for made in draw(st.lists(types, min_size=1, max_size=8))}
    rows = list(kinds.values())
    for made in kinds.values():
        sold = {spot[:3]: spot[3] for spot in draw(st.lists(spots, max_size=6))}
        # Where a region has a price and its zones have none, the file spreads it: not the matter of this test.
        for (region, zone, market), price in sold.items():
            if price is not None or zone is None:
                rows.append(
                    a_price(made, region, zone and f"{region}{zone}", market, None if price is None else price / 10)
                )
    return rows


maybe = st.none
queries = st.builds(
    Query,
    clouds=maybe() | st.frozensets(st.sampled_from(["one", "two", "nowhere"])),
    region=maybe() | st.sampled_from(["r1", "r2", "r9"]),
    zone=maybe() | st.sampled_from(["r1a", "r2b"]),
    instance_type=maybe() | st.sampled_from(["t0", "t1"]),
    accelerator=maybe() | st.sampled_from(["", *NAMES]),
    accelerator_count=maybe() | st.sampled_from([0.5, 1.0, 8.0]),
    vendor=maybe() | st.sampled_from(["nvidia", "amd", "google"]),
    min_accelerator_memory_gib=maybe() | st.sampled_from([0.0, 40.0]),
    max_accelerator_memory_gib=maybe() | st.sampled_from([16.0, 40.0]),
    min_cpus=maybe() | st.sampled_from([2.0, 8.0]),
    max_cpus=maybe() | st.sampled_from([2.0, 4.0]),
    min_memory_gib=maybe() | st.sampled_from([4.0, 16.0]),
    max_memory_gib=maybe() | st.sampled_from([4.0, 16.0]),
    memory_per_cpu=maybe() | st.sampled_from([2.0, 4.0]),
    arch=maybe() | st.just("arm64"),
    market=maybe() | st.sampled_from(list(Market)),
    max_price=maybe() | st.sampled_from([0.5, 2.0]),
)


def within(low, value, high):
    return (low is None or (value is not None and value >= low)) and (
        high is None or (value is not None and value <= high)
    )


def fits_type(query, made):
    memory_asked = query.min_accelerator_memory_gib is not None or query.max_accelerator_memory_gib is not None
    device = made.accelerator_memory_gib
    return (
        (query.clouds is None or made.cloud in query.clouds)
        and query.instance_type in (None, made.name)
        and (query.accelerator is None or query.accelerator == (made.accelerator or ""))
        and query.accelerator_count in (None, made.accelerator_count)
        and (query.vendor is None or VENDORS.get(made.accelerator) == query.vendor)
        and (not memory_asked or made.accelerator is not None)
        and (query.min_accelerator_memory_gib is None or (device or 0.0) >= query.min_accelerator_memory_gib)
        and within(None, device, query.max_accelerator_memory_gib)
        and within(query.min_cpus, made.cpus, query.max_cpus)
        and within(query.min_memory_gib, made.memory_gib, query.max_memory_gib)
        and (query.memory_per_cpu is None or made.memory_gib >= query.memory_per_cpu * made.cpus)
        and query.arch in (None, made.arch)
    )


def expected(query, rows):
    kinds = {(row.cloud, row.name): row for row in rows if isinstance(row, InstanceType)}
    found = []
    for row in rows:
        if not isinstance(row, Price) or row.price is None:
            continue
        if (
            fits_type(query, kinds[row.cloud, row.instance_type])
            and query.region in (None, row.region)
            and query.zone in (None, row.zone)
            and query.market in (None, row.market)
            and within(None, row.price, query.max_price)
        ):
            found.append((row.price, row.cloud, row.region, row.zone or "", row.instance_type, row.market))
    return sorted(found)


def told(offer):
    return offer.price_hourly, offer.cloud, offer.region, offer.zone or "", offer.instance_type, offer.market


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=worlds(), asked=st.lists(queries, min_size=1, max_size=25))
def test_offers_are_those_of_a_search_of_every_row(rows, asked, tmp_path_factory):
    catalog = opened(tmp_path_factory.mktemp("catalog") / "c.sqlite", rows)
    for query in asked:
        found = [told(offer) for offer in catalog.offers(query)]
        assert [each[0] for each in found] == sorted(each[0] for each in found)
        assert sorted(found) == expected(query, rows)
        assert found == [told(offer) for offer in catalog.offers(query)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=worlds(), asked=st.lists(queries, min_size=1, max_size=10))
def test_listings_have_the_cheapest_price_of_each_region(rows, asked, tmp_path_factory):
    catalog = opened(tmp_path_factory.mktemp("catalog") / "c.sqlite", rows)
    kinds = [row for row in rows if isinstance(row, InstanceType)]
    for query in (each._replace(max_price=None) for each in asked):
        wanted = {}
        for made in (each for each in kinds if fits_type(query, each)):
            sold = [
                row
                for row in rows
                if isinstance(row, Price) and (row.cloud, row.instance_type) == (made.cloud, made.name)
                and query.region in (None, row.region) and query.zone in (None, row.zone)
                and query.market in (None, row.market)
            ]  # fmt: skip
            for region in {row.region for row in sold}:
                cheapest = {
                    market: min(
                        (r.price for r in sold if (r.region, r.market) == (region, market) and r.price), default=None
                    )
                    for market in (OD, SPOT)
                }
                wanted[made, region] = (cheapest[OD], cheapest[SPOT])
        listed = list(catalog.listings(query))
        assert {(each.type, each.region): (each.price, each.spot_price) for each in listed} == wanted
        assert len(listed) == len(wanted)
        keys = [(each.type.accelerator or "", each.type.accelerator_count) for each in listed]
        assert keys == sorted(keys)


# --- what an offer says ----------------------------------------------------------------------------------------------


def test_an_offer_says_all_that_is_known(tmp_path):
    made = a_type(
        "one", "p.96", 96.0, 1152.0, arch="x86_64", accelerator="A100", accelerator_count=8.0,
        accelerator_memory_gib=40.0, local_disk_gb=8000.0, local_disk_kind="nvme", network_gbps=400.0, family="p",
        features=frozenset(["efa", "nvlink"]),
    )  # fmt: skip
    price = a_price(made, "r1", "r1a", SPOT, 9.5, interruption=0.05)
    (offer,) = opened(tmp_path / "c.sqlite", [made, price]).offers(Query())
    assert (offer.cloud, offer.region, offer.zone, offer.instance_type) == ("one", "r1", "r1a", "p.96")
    assert (offer.cpus, offer.memory_gb, offer.price_hourly, offer.accelerators) == (96, 1152, 9.5, {"A100": 8})
    assert (offer.use_spot, offer.accelerator_memory_gb, offer.local_disk_gb) == (True, 40, 8000)
    assert (offer.local_disk_kind, offer.network_gbps, offer.family) == ("nvme", 400, "p")
    assert offer.features == {"efa", "nvlink"}
    assert (offer.quality, offer.observed, offer.source, offer.interruption) == (Quality.LIST, 100.0, URL, 0.05)


def test_a_price_of_a_region_is_spread_over_the_zones_that_sell_the_type(tmp_path):
    big, small = a_type(name="big"), a_type(name="small")
    rows = [big, small, a_price(big, "r1", price=2.0), a_price(small, "r1", price=1.0)]
    rows += [a_price(big, "r1", zone, price=None) for zone in ("r1a", "r1b")]
    rows += [a_price(big, "r1", "r1c", price=3.0), a_price(big, "r1", "r1c", price=None)]
    catalog = opened(tmp_path / "c.sqlite", rows)
    found = [(offer.instance_type, offer.zone, offer.price_hourly) for offer in catalog.offers(Query())]
    assert found == [("small", None, 1.0), ("big", "r1a", 2.0), ("big", "r1b", 2.0), ("big", "r1c", 3.0)]


def test_all_of_a_kind_come_back_as_they_were(tmp_path):
    made = a_type(accelerator="tpu-v5e-8", accelerator_count=1.0)
    place = Place("one", "r1", None, None, "DE", "eu")
    source = Source("one", URL, 99.0, 7, "etag", "yesterday", "abc", "CC0")
    egress = Egress("one", "*", "internet", 0.09, Quality.LIST, URL)
    rows = [made, a_price(made, "r1", "r1a"), place, source, egress]
    catalog = opened(tmp_path / "c.sqlite", rows)
    assert catalog.types("m.4") == catalog.types("m.4", "one") == [made]
    assert catalog.types("m.4", "two") == []
    assert catalog.places() == [place, Place("one", "r1", "r1a", None, "DE", "eu")]
    assert catalog.places("two") == []
    assert catalog.sources() == [source]
    assert catalog.egress() == [egress]
    spelt = catalog.accelerators()
    assert (spelt["tpu-v5e-8"], spelt["a100-sxm4-80gb"], spelt["t4g"]) == ("tpu-v5e-8", "A100-80GB", "T4g")


def test_what_was_not_believed_is_kept(tmp_path):
    rows = gather("one", [a_type(), Place("two", "r1")])
    rows.quarantined.append(Quarantined("one", "m.4 in r1", "zero price", "0.0"))
    build(tmp_path / "c.sqlite", [rows])
    kept = CatalogFile.open(tmp_path / "c.sqlite").quarantined()
    assert [each.rule for each in kept] == ["foreign", "zero price"]


# --- lazily, and without dependencies --------------------------------------------------------------------------------


def test_the_first_offers_do_not_read_the_rest(tmp_path):
    rows = []
    for number in range(400):
        made = a_type(name=f"t{number}")
        rows += [made, *(a_price(made, f"r{region}", price=1.0 + number + region / 100) for region in range(40))]
    catalog = opened(tmp_path / "c.sqlite", rows)
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    catalog._db.set_progress_handler(count, 100)
    first = list(itertools.islice(catalog.offers(Query()), 20))
    few, steps = steps, 0
    everything = list(catalog.offers(Query()))
    assert first == everything[:20]
    assert len(everything) == 16_000
    assert few * 50 < steps


READ = """
import sys, json, itertools
from pathlib import Path
from sky.core.model.catalog import Query
from sky.store.catalog.generations import Generations
catalog = Generations(Path(sys.argv[1]), None).reader()
found = [offer.price_hourly for offer in itertools.islice(catalog.offers(Query()), 20)]
loaded = list(sys.modules.items())
import sysconfig
foreign = [name for name, module in loaded
           if (getattr(module, "__file__", None) or "").startswith(sysconfig.get_paths()["purelib"])
           and name.partition(".")[0] not in ("sky", "sitecustomize") and not name.startswith(("_", "distutils"))]
print(json.dumps([found, foreign, "sqlalchemy" in sys.modules, "asyncio" in sys.modules]))
"""


def test_reading_imports_nothing_foreign(tmp_path):
    from sky.store.catalog.generations import Generations

    made = a_type()
    Generations(tmp_path, None).publish(lambda path: build(path, [gather("one", [made, a_price(made, price=2.5)])]))
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[2.5], [], False, False]


@pytest.mark.parametrize("query", [Query(clouds=frozenset()), Query(region="nowhere"), Query(accelerator="H999")])
def test_nothing_fits(tmp_path, query):
    made = a_type()
    assert list(opened(tmp_path / "c.sqlite", [made, a_price(made)]).offers(query)) == []
