"""What costs money is on record from its first moment to its last, and then as its provider remembers it."""

from dataclasses import replace

import pytest

from sky.core.errors import ProviderDown
from sky.core.lifecycle.billing import LISTED, NO_PRICE, bill
from sky.core.lifecycle.machine import Step
from sky.core.model.catalog import Market
from sky.core.model.clusters import Cluster, Phase, Refusal, Site
from sky.core.model.ledger import Billed, Question, Span
from sky.core.model.offers import Offer, Placement
from sky.engine.ledger import Settling


async def test_a_cluster_is_in_the_ledger_while_it_runs_and_afterwards(plane, ask):
    await ask("launch", {"task": {"run": "true", "num_nodes": 2}, "cluster_name": "c"})
    lines = [line.entry for line in await plane.ledger(Question())]
    assert [(each.cluster_name, each.kind, each.cloud, each.ended) for each in lines] == [
        ("c", Billed.MACHINE, "local", None),
        ("c", Billed.MACHINE, "local", None),
    ]
    assert len({each.resource for each in lines}) == 2
    await ask("stop", {"cluster_name": "c"})
    assert await plane.ledger(Question()) == []
    await ask("start", {"cluster_name": "c"})
    assert len(await plane.ledger(Question(cluster="c"))) == 2
    await ask("down", {"cluster_name": "c"})
    assert await plane.ledger(Question()) == []
    (cluster,) = await plane.cost_report(None)
    entries = (await plane.bills([cluster.id]))[cluster.id]
    assert len(entries) == 4 and all(each.ended >= each.began for each in entries)
    now = plane.clock.now()
    by_lines, by_record = bill(cluster, entries, now), bill(cluster, (), now)
    for line, interval in zip(by_lines.times, by_record.times, strict=True):
        assert line == pytest.approx(interval, abs=0.1)
    assert by_lines.cost == pytest.approx(by_record.cost, abs=0.005)


class Metering:
    """A cloud that remembers, and may not answer."""

    def __init__(self, *spans):
        self.told, self.down, self.asked = list(spans), False, []

    async def spans(self, *, regions=None):
        self.asked.append(regions)
        if self.down:
            raise ProviderDown("no answer")
        return self.told


async def nobody_sells(line):
    return None


def settling_over(plane, cloud, listed=nobody_sells, doubts=lambda cluster: False):
    class One:
        def compute(self, name):
            return cloud

    return Settling(plane.store, One(), plane.clock, listed, doubts)


async def test_machines_of_a_launch_that_failed_are_entered_once_its_cluster_is_gone(plane):
    now = plane.clock.now()
    refused = Refusal("cloud/r1/r1-a", "t1", "zone", "none left", now, 3.6)
    offer = Offer("cloud", "r2", None, "t2", 1, 1, 7.2)
    drawn = Cluster("c6", "six", "u", "default", Phase.TERMINATED, 0, now, now, 1, refusals=(refused,), ended_at=now,
                    placement=Placement(offer, 1, 1, 1), sites=(Site("cloud", "r2", "c6"),), entered=True)  # fmt: skip
    await plane.store.clusters.open(Step(drawn, ()), now)
    made = Span("c6-h1", "i-1", "r1", "r1-a", "t1", Market.ON_DEMAND, now - 30, None)
    cloud = Metering(made)
    settling = settling_over(plane, cloud)
    await settling.once()
    assert await plane.ledger(Question(ended=True)) == [], "it runs, and may be told otherwise"
    cloud.down = True
    await settling.once()
    cloud.down, cloud.told = False, [made._replace(ended=now - 20)]
    for _ in range(8):
        await settling.once()
    (line,) = await plane.ledger(Question(ended=True))
    assert (line.entry.resource, line.entry.mark, line.entry.price_hourly) == ("i-1", "c6-h1", 3.6)
    assert line.entry.cost(now) == pytest.approx(0.01)
    assert cloud.asked[0] == {"r1", "r2"}
    assert len(cloud.asked) == 7, "two in vain, and then as often as a list may lag behind"


@pytest.mark.parametrize(("price", "told"), [(1.8, (1.8, LISTED)), (None, (0.0, NO_PRICE))])
async def test_what_was_ordered_at_a_price_on_no_record_has_the_one_of_the_list(plane, price, told):
    now, asked = plane.clock.now(), []

    async def listed(line):
        asked.append((line.cloud, line.region, line.instance_type, line.market))
        if len(asked) == 1:
            raise ProviderDown("no answer")
        return price

    drawn = Cluster("c7", "seven", "u", "default", Phase.TERMINATED, 0, now, now, 1, ended_at=now, entered=True,
                    sites=(Site("cloud", "r1", "c7"),))  # fmt: skip
    await plane.store.clusters.open(Step(drawn, ()), now)
    cloud = Metering(Span("c7", "i-1", "r1", "r1-a", "t1", Market.SPOT, now - 30, now - 20))
    settling = settling_over(plane, cloud, listed)
    await settling.once()
    assert await plane.ledger(Question(ended=True)) == [], "who tells the price did not answer"
    for _ in range(3):
        await settling.once()
    (line,) = await plane.ledger(Question(ended=True))
    assert (line.entry.price_hourly, line.entry.note) == told
    assert asked == [("cloud", "r1", "t1", Market.SPOT)] * 2


@pytest.mark.parametrize("doubted", [True, False])
async def test_of_a_cluster_that_the_records_may_have_forgotten_every_cloud_is_asked(plane, doubted):
    now = plane.clock.now()
    drawn = Cluster("c8", "eight", "u", "default", Phase.TERMINATED, 0, now, now, 1, ended_at=now, entered=True)
    await plane.store.clusters.open(Step(drawn, ()), now)
    cloud = Metering(Span("c8", "i-1", "r1", "r1-a", "t1", Market.ON_DEMAND, now - 30, now - 20))
    await settling_over(plane, cloud, doubts=lambda cluster: doubted).once({"cloud"})
    lines = await plane.ledger(Question(ended=True))
    assert [each.entry.resource for each in lines] == (["i-1"] if doubted else [])
    assert cloud.asked == ([None] if doubted else []), "in all its regions"


async def test_who_lives_is_not_settled(plane):
    now = plane.clock.now()
    drawn = Cluster("c5", "five", "u", "default", Phase.UP, 0, now, now, 1, sites=(Site("cloud", "r", "c5"),),
                    entered=True)  # fmt: skip
    await plane.store.clusters.open(Step(replace(drawn, version=0), ()), now)
    cloud = Metering()
    await settling_over(plane, cloud).once()
    assert cloud.asked == []
