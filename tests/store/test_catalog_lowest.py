"""The cheapest of every region in one question is what asking region by region gives."""

import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import worlds

from sky.core.model.catalog import Egress, InstanceType, Market, Price, Quality, Query
from sky.core.model.dags import DagSpec
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.conditions import Blocked, Conditions
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.locations import Search
from sky.core.optimizer.several import plan_dag
from sky.core.optimizer.transfers import tariff
from sky.core.optimizer.wanted import of_task
from sky.store.catalog.generations import Generations
from sky.store.catalog.merge import Fresh, rebuild


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    generations = Generations(tmp_path_factory.mktemp("catalog"), None)
    rebuild(generations, {cloud: Fresh(worlds.rows(cloud, size=0.15)) for cloud in worlds.clouds()})
    return generations.reader()


@pytest.mark.parametrize(
    "asked",
    [
        Query(accelerator="A100", accelerator_count=8, market=Market.ON_DEMAND),
        Query(accelerator="L4", market=Market.SPOT),
        Query(min_accelerator_memory_gib=80, market=Market.SPOT),
        Query(min_cpus=8, memory_per_cpu=4, accelerator="", arch="x86_64", market=Market.ON_DEMAND),
        Query(min_cpus=32, accelerator="", market=Market.SPOT, clouds=frozenset({"alta", "neo03"})),
        Query(instance_type="m1.8", market=Market.ON_DEMAND),
        Query(min_cpus=8, accelerator="", market=Market.ON_DEMAND, max_price=0.4),
        Query(min_cpus=8, accelerator="", market=Market.ON_DEMAND, region="alta-r1"),
        Query(min_cpus=100_000, market=Market.ON_DEMAND),
    ],
)
def test_it_is_the_first_offer_of_every_region(catalog, asked):
    first = {}
    for offer in catalog.offers(asked):
        first.setdefault((offer.cloud, offer.region), offer.price_hourly)
    found = list(catalog.lowest(asked))
    assert {(each.cloud, each.region): each.price_hourly for each in found} == first
    assert len(found) == len(first)


def test_a_region_much_dearer_than_the_rest_of_its_cloud_is_found_when_it_is_asked_for(tmp_path):
    rows = [
        InstanceType("alta", "m1.8", 8, 32),
        *(Price("alta", "m1.8", region, None, Market.ON_DEMAND, usd, Quality.LIST, 1e9, "https://a/list")
          for region, usd in (("near", 0.4), ("far", 0.95))),
    ]  # fmt: skip
    generations = Generations(tmp_path, None)
    rebuild(generations, {"alta": Fresh(rows)}, golden={})
    asked = Query(min_cpus=8, accelerator="", market=Market.ON_DEMAND, region="far")
    assert [(each.region, each.price_hourly) for each in generations.reader().lowest(asked)] == [("far", 0.95)]


class Slow:
    """The same catalog without that question."""

    def __init__(self, catalog):
        for name in ("offers", "listings", "types", "places", "accelerators"):
            setattr(self, name, getattr(catalog, name))


@pytest.mark.parametrize("goal", list(Goal))
@pytest.mark.parametrize("resources", [{}, {"accelerators": {"A100": 8, "H100": 4}}, {"accelerators": "80GB+:1"}])
def test_the_best_of_each_location_is_the_same_either_way(catalog, resources, goal):
    task = TaskSpec.from_config({"resources": resources})
    blocked = Conditions(blocked=(Blocked("alta", "alta-r1"), Blocked("mid1", instance_type="ga100.8")))
    search = Search(of_task(task, catalog.accelerators()), catalog, blocked, goal)
    places = {(place.cloud, place.region) for place in catalog.places()}
    one = search.at_each(places)
    slow = Search(search.wishes, Slow(catalog), blocked, goal).at_each(places)
    assert {where: each.worth.key for where, each in one.items()} == {
        where: each.worth.key for where, each in slow.items()
    }
    assert ("alta", "alta-r1") not in one


@pytest.mark.parametrize("goal", list(Goal))
def test_a_pipeline_costs_the_same_either_way(catalog, goal):
    rates = tariff([Egress(cloud, "*", to, usd, Quality.LIST, "l") for cloud in worlds.clouds()
                    for to, usd in (("internet", 0.09), ("region", 0.02))])  # fmt: skip
    kinds = [{"accelerators": "L4:1"}, {"cpus": "8"}, {"accelerators": "H100:8"}]
    tasks = [TaskSpec.from_config({"resources": kind, "outputs": {"s3://b": 30}}) for kind in kinds]
    one = plan_dag(DagSpec(tuple(tasks)), catalog, Conditions(tariff=rates), goal)
    other = plan_dag(DagSpec(tuple(tasks)), Slow(catalog), Conditions(tariff=rates), goal)
    assert one.total == pytest.approx(other.total)
    assert len(list(islice(one.plans, 3))) == 3
