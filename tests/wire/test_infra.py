"""Accelerators as they are told: what a catalog file lists and what providers offer now, with every filter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sky.core.catalog.rows import gather
from sky.core.model.catalog import InstanceType, Market, Place, Price, Quality, Row, Source
from sky.core.model.offers import Offer
from sky.core.ports import Catalog
from sky.store.catalog.build import build
from sky.store.catalog.read import CatalogFile
from sky.wire.infra import AcceleratorsBody, accelerator_counts, accelerator_listings, accelerator_offers

URL = "https://prices.example/{}"


def sold(
    cloud: str, name: str, accelerator: str, count: float, prices: dict[str, tuple[float, float]]
) -> Iterator[Row]:
    """A type with an accelerator, and its prices on demand and spot by region; 0 is not known."""
    yield InstanceType(
        cloud, name, 96, 1024, accelerator=accelerator, accelerator_count=count, accelerator_memory_gib=80
    )
    for region, both in prices.items():
        yield Place(cloud, region)
        for market, price in zip((Market.ON_DEMAND, Market.SPOT), both, strict=True):
            yield Price(cloud, name, region, None, market, price or None, Quality.LIST, 1000.0, URL.format(cloud))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    path: Path = tmp_path_factory.mktemp("catalog") / "c.sqlite"
    aws = [
        Source("aws", URL.format("aws"), 1000.0),
        *sold("aws", "p5", "H100", 8, {"us-east-1": (55.0, 20.0), "eu-north-1": (50.0, 0), "ap-south-1": (0, 0)}),
        *sold("aws", "p4d", "A100", 8, {"us-east-1": (22.0, 0)}),
        *sold("aws", "trn1", "Trainium", 16, {"us-east-1": (21.5, 0)}),
    ]
    gcp = [
        Source("gcp", URL.format("gcp"), 1000.0),
        *sold("gcp", "a2", "A100-80GB", 8, {"us-central1": (40.0, 0)}),
        *sold("gcp", "a3", "H100", 8, {"us-central1": (0, 0)}),
    ]
    build(path, [gather("aws", aws), gather("gcp", gcp)])
    opened = CatalogFile.open(path)
    yield opened
    opened.close()


LIVE = Offer("local", "local", None, "this-machine", 8, 32, 0.0, {"H100": 1})


def told(catalog: Catalog, **asked: object) -> list[tuple[str, str, str]]:
    wanted = AcceleratorsBody(**asked)  # type: ignore[arg-type]
    found = accelerator_offers([LIVE], wanted, accelerator_listings(catalog, wanted))
    assert list(found) == sorted(found)
    return [(row.cloud, row.instance_type, row.region) for rows in found.values() for row in rows]


P5, P4D, A2 = ("aws", "p5", "eu-north-1"), ("aws", "p4d", "us-east-1"), ("gcp", "a2", "us-central1")
HERE = ("local", "this-machine", "local")


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({}, [P4D, A2, HERE, P5]),
        ({"gpus_only": False}, [P4D, A2, HERE, P5, ("aws", "trn1", "us-east-1")]),
        ({"name_filter": "A100"}, [P4D, A2]),
        ({"name_filter": "a100"}, []),
        ({"name_filter": "a100", "case_sensitive": False}, [P4D, A2]),
        ({"name_filter": "A100-SXM4-80GB", "case_sensitive": False}, [A2]),
        ({"name_filter": "H100", "quantity_filter": 8}, [P5]),
        ({"quantity_filter": 1}, [HERE]),
        ({"clouds": ["GCP"]}, [A2]),
        ({"clouds": ["gcp"], "require_price": False}, [A2, ("gcp", "a3", "us-central1")]),
        ({"name_filter": "H100", "region_filter": "us-east-1"}, [("aws", "p5", "us-east-1")]),
        ({"region_filter": "central"}, [A2]),
        ({"region_filter": "nowhere"}, []),
        ({"name_filter": "H100", "clouds": ["aws"], "all_regions": True}, [P5, ("aws", "p5", "us-east-1")]),
        (
            {"name_filter": "H100", "clouds": ["aws"], "all_regions": True, "require_price": False},
            [P5, ("aws", "p5", "us-east-1"), ("aws", "p5", "ap-south-1")],
        ),
    ],
)
def test_filters(catalog: Catalog, asked: dict[str, object], rows: list[tuple[str, str, str]]) -> None:
    assert told(catalog, **asked) == rows


def test_a_row_says_where_its_price_is_from(catalog: Catalog) -> None:
    wanted = AcceleratorsBody(name_filter="H100", region_filter="us-east-1")
    row = accelerator_offers((), wanted, accelerator_listings(catalog, wanted))["H100"][0]
    assert (row.price, row.spot_price, row.device_memory, row.memory) == (55.0, 20.0, 80, 1024)
    assert (row.quality, row.observed, row.source) == ("list", 1000.0, URL.format("aws"))


def test_counts(catalog: Catalog) -> None:
    wanted = AcceleratorsBody(gpus_only=False)
    found = accelerator_counts([LIVE], wanted, accelerator_listings(catalog, wanted))
    assert found == {"A100": [8], "A100-80GB": [8], "H100": [1, 8], "Trainium": [16]}
    wanted = AcceleratorsBody(region_filter="eu-")
    assert accelerator_counts([], wanted, accelerator_listings(catalog, wanted)) == {"H100": [8]}
