"""The reviewed facts: every price has a source, a day and a quality, nothing is doubted, and public data agrees."""

import datetime
import json
import lzma
import os
import tomllib
from pathlib import Path

import pytest

from sky.core.catalog.accelerators import canonical
from sky.core.catalog.golden import GOLDEN
from sky.core.model.catalog import Market, Quality
from sky.store.catalog import facts, seed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "facts"
CLOUDS = [
    "aws", "azure", "coreweave", "crusoe", "cudo", "do", "fluidstack", "gcp", "hetzner", "hyperbolic", "ibm", "lambda",
    "mithril", "nebius", "oci", "ovhcloud", "paperspace", "primeintellect", "runpod", "scaleway", "scp", "seeweb",
    "shadeform", "vast", "verda", "vultr", "yotta",
]  # fmt: skip
#: Clouds of which no price in dollars was found that is recent enough; their types are listed.
WITHOUT_PRICES = {"fluidstack", "hetzner", "hyperbolic", "mithril", "scaleway", "seeweb"}
#: Facts that public data contradicts by more than a quarter, and why we are right.
ACKNOWLEDGED = {
    ("azure", "Standard_D64as_v5", "eastus"): "the public record has the price of Windows here",
    ("azure", "Standard_D96as_v5", "eastus"): "the public record has the price of Windows here",
}


@pytest.fixture(scope="module")
def known():
    return {each.cloud: each for each in facts.read_all(FOLDER)}


def public(name):
    """A file of the public data, where it is at hand."""
    folders = [Path(os.environ["SKY_TEST_DATA"])] if "SKY_TEST_DATA" in os.environ else []
    for folder in [*folders, ROOT.parent / "shared" / "catalog-data"]:
        if (folder / name).is_file():
            with lzma.open(folder / name, "rt") as opened:
                return json.load(opened)
    pytest.skip(f"the public data ({name}) is not beside this checkout")


def test_a_file_for_each_cloud(known):
    assert sorted(known) == CLOUDS


def test_every_cloud_has_types_and_a_place(known):
    assert [cloud for cloud, each in known.items() if not each.types or not each.places] == []


def test_clouds_without_prices_are_the_ones_we_know_of(known):
    silent = {cloud for cloud, each in known.items() if not any(price.price for price in each.prices)}
    assert silent == WITHOUT_PRICES


def test_every_price_says_where_it_is_from_and_of_when(known):
    first, last = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    for each in known.values():
        told = {source.url: source for source in each.sources}
        for price in each.prices:
            assert price.source in told, price
            assert first.timestamp() < price.observed <= told[price.source].fetched < last.timestamp(), price
            assert price.quality in (Quality.LIST, Quality.LIVE, Quality.DERIVED, Quality.ESTIMATE), price
            assert price.currency == "USD", price


def test_every_price_is_of_a_type_and_a_place_of_its_file(known):
    for each in known.values():
        regions = {place.region for place in each.places}
        for price in each.prices:
            assert price.instance_type in each.types, price
            assert price.region in regions, price


def test_every_type_can_be_shown(known):
    for each in known.values():
        assert set(each.types) == {price.instance_type for price in each.prices}, each.cloud


def test_accelerators_have_canonical_names(known):
    for each in known.values():
        for kind in each.types.values():
            if kind.accelerator is not None:
                assert canonical(kind.accelerator, kind.accelerator_memory_gib) == kind.accelerator, kind


def test_second_hand_sources_are_public_addresses():
    for path in FOLDER.glob("*.toml"):
        for source in tomllib.loads(path.read_text())["source"]:
            assert source.get("via", "https://").startswith("https://"), (path.name, source["id"])


def test_no_fact_is_doubted(known):
    assert [each.cloud for each in seed.judged(known.values(), None)] == CLOUDS


def test_golden_prices_are_among_the_facts(known):
    prices = {
        (price.cloud, price.instance_type, price.region): price.price
        for each in known.values()
        for price in each.prices
        if price.market is Market.ON_DEMAND
    }
    assert {key for key in GOLDEN if key[0] in ("aws", "gcp", "azure")} <= prices.keys()
    for key, golden in GOLDEN.items():
        assert prices[key] == pytest.approx(golden, rel=0.01), key


def contradicted(prices, told):
    """How many facts `told(type, region, market)` has a figure for, and those that lie further than a quarter away."""
    compared, far = 0, []
    for price in prices:
        figure = told(price.instance_type, price.region, price.market)
        if figure:
            compared += 1
            if abs(price.price / figure - 1) > 0.25:
                far.append((price.cloud, price.instance_type, price.region))
    return compared, [each for each in far if each not in ACKNOWLEDGED]


def test_amazon_agrees_with_public_data(known):
    record = public("aws-ondemand-us-east-1.json.xz")
    prices = [price for price in known["aws"].prices if price.price is not None]
    compared, far = contradicted(prices, lambda kind, region, _: record.get(kind) if region == "us-east-1" else None)
    assert (compared > 300, far) == (True, [])


def test_google_agrees_with_public_data(known):
    record = public("gcp-ondemand-spot.json.xz")["prices"]
    prices = [price for price in known["gcp"].prices if price.price is not None]
    compared, far = contradicted(
        prices, lambda kind, region, market: record.get(region, {}).get(market.value, {}).get(kind)
    )
    assert (compared > 400, far) == (True, [])


def test_microsoft_agrees_with_public_data(known):
    record = public("azure-ondemand.json.xz")
    prices = [price for price in known["azure"].prices if price.price is not None]
    compared, far = contradicted(
        prices, lambda kind, region, market: record.get(region, {}).get(kind) if market is Market.ON_DEMAND else None
    )
    assert (compared > 200, far) == (True, [])
