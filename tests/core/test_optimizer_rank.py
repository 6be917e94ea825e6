"""One task: everything that fits, best first, exactly and lazily."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import Shop, stocked

from sky.core.model.catalog import Egress, Market, Quality
from sky.core.model.conditions import Quota, Reservation
from sky.core.model.offers import Offer, Reason
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.conditions import Blocked, Conditions, Repriced, Tempo
from sky.core.optimizer.fit import misfit
from sky.core.optimizer.goals import Goal, expected_run, worth
from sky.core.optimizer.gravity import Holding, bring
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Key, Memory
from sky.core.optimizer.plan import plan_task
from sky.core.optimizer.transfers import tariff
from sky.core.optimizer.wanted import of_task

ANY_OF = {"resources": {"any_of": [{"accelerators": name} for name in ("A100:8", "H100:8", "L4:8", "T4:4")]}}
TASKS = [
    {},
    {"resources": {"cpus": "8"}},
    {"resources": {"cpus": "4+", "memory": "32+"}},
    {"resources": {"accelerators": "H100:8", "use_spot": True}, "num_nodes": 2},
    {"resources": {"accelerators": {"A100": 8, "L4": 4}}},
    {"resources": {"accelerators": "80GB+:8"}},
    {"resources": {"infra": "*/r1", "accelerators": "T4:1"}},
    {"resources": {"instance_type": "g-GH200-1"}},
    {"resources": {"cpus": "2+", "max_hourly_cost": 0.5}},
    {"resources": {"ordered": [{"accelerators": "H100:8"}, {"accelerators": "L4:1"}]}},
    ANY_OF,
]
EGRESS = [
    Egress(f"c{cloud}", "*", to, usd, Quality.LIST, "a price list")
    for cloud in range(4)
    for to, usd in (("internet", 0.05 + 0.02 * cloud), ("region", 0.02))
]


def task(config):
    return TaskSpec.from_config(config)


def ranking(asked: TaskSpec, shop: Shop, conditions: Conditions, goal: Goal = Goal.COST):
    return Search.of(asked, shop, conditions, goal).ranking()


def brute(asked: TaskSpec, shop: Shop, conditions: Conditions, goal: Goal):
    """Every offer judged and sorted, without any bound."""
    rows = {}
    wishes = of_task(asked, shop.accelerators())
    level = asked.resources_order == "ordered"
    on_sale = [conditions.priced(each) for each in shop.on_sale] + list(conditions.extra)
    for wish, offer in itertools.product(wishes, on_sale):
        if misfit(wish, offer, conditions) is not None:
            continue
        transfer = bring(conditions.holdings, (offer.cloud, offer.region), conditions.tariff)
        key = worth(goal, offer, wish.num_nodes, transfer, conditions).key
        name = (offer.cloud, offer.region, offer.zone or "", offer.instance_type, offer.use_spot)
        row = (wish.rank if level else 0, key, name)
        rows[name] = min(rows.get(name, row), row)
    return sorted(rows.values())


def told(ranked):
    return [(each.offer.cloud, each.offer.region, each.offer.zone or "", each.offer.instance_type) for each in ranked]


def conditions_of(number: int, shop: Shop) -> Conditions:
    chance = random.Random(number)
    memory = Memory()
    for each in chance.sample(shop.on_sale, 10):
        memory = memory.remember(Key.of(each), chance.random() < 0.5, 100.0, "no capacity")
    held = chance.choice(shop.on_sale)
    ours = chance.choice(shop.on_sale)
    return [
        Conditions(),
        Conditions(holdings=(Holding("c1", "r1", 100), Holding("c2", "r0", 5, outgoing=True)), tariff=tariff(EGRESS)),
        Conditions(holdings=(Holding("c9", None, 7),), tariff=tariff(EGRESS), enabled=frozenset({"c0", "c2"})),
        Conditions(memory=memory, now=200.0, tempo=Tempo(hours=3.0, value_of_hour=5.0)),
        Conditions(
            reservations=(Reservation(held.cloud, None, None, held.instance_type, 1, "f:1"),),
            price_of=lambda each: replace(each, price_hourly=each.price_hourly * (0.6 if each.cloud == "c1" else 1)),
            least_multiplier=0.6,
        ),
        Conditions(
            blocked=(Blocked("c0", "r1"), Blocked(instance_type=ours.instance_type, market=Market.SPOT)),
            extra=(replace(ours, cloud="mine", price_hourly=ours.price_hourly / 2),),
            quotas=(Quota("c1", "r0", "g-*", None, 1, None, "f:2"),),
        ),
    ][number % 6]


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("number", range(12))
def test_the_order_is_that_of_judging_everything(number, goal):
    shop = stocked(number)
    conditions = conditions_of(number, shop)
    for config in TASKS:
        asked = task(config)
        wanted = brute(asked, shop, conditions, goal)
        found = list(ranking(asked, shop, conditions, goal))
        assert [each.worth.key for each in found] == [row[1] for row in wanted]
        assert told(found) == [row[2][:4] for row in wanted]


def test_only_as_many_offers_are_taken_as_are_given_out():
    shop = stocked(3, clouds=20, regions=10)
    asked = task(ANY_OF)
    made = plan_task(asked, shop, Conditions(), most=20)
    assert len(made.placements) == 20
    assert shop.taken <= 20 + 2 * len(asked.resources) + 2
    assert len(shop.on_sale) > 5000


def test_data_keeps_the_search_lazy():
    shop = stocked(3, clouds=20, regions=10)
    rates = tariff([Egress(f"c{n}", "*", to, usd, Quality.LIST, "l") for n in range(20)
                    for to, usd in (("internet", 0.09), ("region", 0.02))])  # fmt: skip
    conditions = Conditions(holdings=(Holding("c3", "r4", 5000, "s3://b"),), tariff=rates)
    made = plan_task(task({"resources": {"cpus": "8"}}), shop, conditions, most=10)
    assert made.placements[0].offer.place == "c3/r4"
    assert shop.taken <= 10 * 22
    elsewhere = next(each for each in made.standings if each.data)
    assert elsewhere.data == pytest.approx(100.0)
    assert made.data == ""


def test_the_line_about_data():
    rates = tariff([Egress("a", "*", "internet", 0.02, Quality.LIST, "l")])
    shop = Shop([Offer("b", "r", None, "m", 8, 32, 1.0)])
    made = plan_task(task({}), shop, Conditions(holdings=(Holding("a", "us-1", 1200),), tariff=rates))
    assert made.data == "data: 1.2 TB from a/us-1, $24, 16 min"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, len(TASKS) - 1), st.floats(0.01, 50), st.sampled_from(list(Goal)))
def test_one_more_offer_never_raises_the_objective(seed, number, price, goal):
    shop = stocked(seed, clouds=2)
    asked = task(TASKS[number])
    before = next(ranking(asked, shop, Conditions(), goal), None)
    chance = random.Random(seed)
    more = replace(chance.choice(shop.on_sale), cloud="new", price_hourly=price)
    after = next(ranking(asked, Shop([*shop.on_sale, more]), Conditions(), goal), None)
    if before is not None and asked.resources_order != "ordered":
        assert after.worth.key <= before.worth.key


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, len(TASKS) - 1))
def test_without_the_chosen_offer_the_next_one_is_chosen(seed, number):
    shop = stocked(seed, clouds=2)
    asked = task(TASKS[number])
    found = list(itertools.islice(ranking(asked, shop, Conditions()), 2))
    if len(found) == 2:
        fewer = Shop([each for each in shop.on_sale if each != found[0].offer])
        assert next(ranking(asked, fewer, Conditions())).offer == found[1].offer


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, len(TASKS) - 1), st.sampled_from([0.5, 2.0, 8.0]))
def test_prices_times_so_much_cost_so_much(seed, number, scale):
    shop = stocked(seed, clouds=2)
    config = TASKS[number]
    if "max_hourly_cost" in str(config):
        return
    scaled = Shop([replace(each, price_hourly=each.price_hourly * scale) for each in shop.on_sale])
    before = [each.worth.price for each in ranking(task(config), shop, Conditions())]
    after = [each.worth.price for each in ranking(task(config), scaled, Conditions())]
    assert after == pytest.approx([each * scale for each in before])


def test_reserved_machines_are_free_and_finite():
    shop = Shop([Offer("a", "r", None, "m", 8, 32, 1.0), Offer("b", "r", None, "m", 8, 32, 0.7)])
    held = Conditions(reservations=(Reservation("a", "r", None, "m", 2, "mine:1"),))
    for nodes, first, price in ((2, "a", 0.0), (3, "a", 1.0), (6, "a", 4.0), (7, "b", 4.9)):
        best = plan_task(task({"num_nodes": nodes}), shop, held).placements[0]
        assert (best.offer.cloud, best.price_hourly) == (first, pytest.approx(price))
    made = plan_task(task({"num_nodes": 3}), shop, held)
    assert "2 of 3 nodes reserved" in made.standings[0].why


def test_an_ordered_wish_comes_before_price():
    made = plan_task(task(TASKS[9]), stocked(1), Conditions())
    counts = [each.offer.accelerators for each in made.placements]
    assert counts[0] == {"H100": 8}
    assert counts == sorted(counts, key=lambda each: "L4" in each)


def test_standings_go_with_the_placements():
    made = plan_task(task({"resources": {"cpus": "8"}}), stocked(1), Conditions(), most=5)
    assert [each.objective for each in made.standings] == [each.price_hourly for each in made.placements]
    assert made.standings[0].why == "the cheapest"
    assert all(each.why.startswith(("next cheapest: +", "as cheap")) for each in made.standings[1:])
    assert made.more is None
    assert plan_task(task({"resources": {"cpus": "8"}}), stocked(1), Conditions(), most=1000).more == 0


def test_what_is_met_and_does_not_fit_is_a_rejection_with_a_code():
    shop = Shop([Offer("a", "r", None, "t", 8, 32, 0.1, features=frozenset({"burstable"})),
                 Offer("a", "r", None, "m", 8, 32, 1.0)])  # fmt: skip
    made = plan_task(task({}), shop, Conditions())
    assert [each.offer.instance_type for each in made.placements] == ["m"]
    assert [(each.instance_type, each.code) for each in made.rejections] == [("t", Reason.ONLY_BY_NAME)]


def test_a_place_that_refuses_is_worth_less():
    shop = Shop([Offer("a", "r", None, "m", 8, 32, 1.0), Offer("b", "r", None, "m", 8, 32, 1.05)])
    memory = Memory()
    for _ in range(10):
        memory = memory.remember(Key.of(shop.on_sale[0]), False, 0.0, "capacity")
    conditions = Conditions(memory=memory, now=60.0)
    assert plan_task(task({}), shop, conditions, Goal.EXPECTED).placements[0].offer.cloud == "b"
    assert plan_task(task({}), shop, conditions, Goal.COST).placements[0].offer.cloud == "a"


def test_spot_that_is_taken_away_all_the_time_is_not_cheap():
    made = [Offer("a", "r", "z1", "m", 8, 32, 1.0, use_spot=True, interruption=0.9),
            Offer("a", "r", "z2", "m", 8, 32, 1.5, use_spot=True, interruption=0.01)]  # fmt: skip
    conditions = Conditions(tempo=Tempo(hours=10))
    asked = task({"resources": {"use_spot": True}})
    assert plan_task(asked, Shop(made), conditions, Goal.EXPECTED).placements[0].offer.zone == "z2"


@pytest.mark.parametrize(
    ("hours", "nodes", "interruption", "chance", "checkpoint"),
    [(5, 1, 0.1, 0.5, 0.5), (3, 2, 0.2, 1.0, 1.0), (2, 1, 0.3, 0.25, None), (4, 1, 0.0, 0.4, None)],
)
def test_the_closed_forms_are_the_mean_of_many_runs(hours, nodes, interruption, chance, checkpoint):
    tempo = Tempo(hours=hours, checkpoint_hours=checkpoint, refusal_hours=0.1, recovery_hours=0.2)
    dice = random.Random(7)
    rate = -nodes * math.log(1 - interruption)
    runs = 4000
    machine = idle = 0.0
    for _ in range(runs):
        left, piece = float(hours), checkpoint or hours
        while True:
            while dice.random() > chance:
                idle += 0.1
            until = dice.expovariate(rate) if rate else math.inf
            if until >= left:
                machine += left
                break
            machine += until
            idle += 0.2
            # Work since the last checkpoint is lost.
            left -= math.floor(until / piece) * piece
    expected = expected_run(hours, nodes, interruption, chance, tempo)
    assert machine / runs == pytest.approx(expected.machine_hours, rel=0.05)
    assert idle / runs == pytest.approx(expected.idle_hours, rel=0.08)


def test_a_price_of_ones_own_is_found_wherever_it_stands_in_the_catalog():
    shop = stocked(3, clouds=20, regions=10)
    dear = max((each for each in shop.on_sale if each.accelerators == {"H100": 8} and not each.use_spot),
               key=lambda each: each.price_hourly)  # fmt: skip

    def ours(each):
        return (each.cloud, each.region, each.instance_type, each.use_spot) == (
            dear.cloud, dear.region, dear.instance_type, False)  # fmt: skip

    conditions = Conditions(
        price_of=lambda each: replace(each, price_hourly=0.01) if ours(each) else each,
        repriced=(Repriced(dear.cloud, dear.region, None, ours),),
    )
    asked = task({"resources": {"accelerators": "H100:8"}})
    made = plan_task(asked, shop, conditions, most=5)
    assert (made.placements[0].offer.place, made.placements[0].price_hourly) == (dear.place, 0.01)
    assert len({each.offer.place for each in made.placements}) == 5
    assert shop.taken <= 10


def test_a_zone_is_served_by_prices_that_hold_in_its_region():
    shop = Shop(
        [
            Offer("a", "r1", None, "m", 8, 32, 1.0),
            Offer("a", "r1", "r1a", "m", 8, 32, 0.4, use_spot=True),
            Offer("a", "r1", None, "n", 8, 32, 0.5),
            Offer("a", "r1", "r1b", "n", 8, 32, 0.2, use_spot=True),
            Offer("b", "r1", "r1a", "m", 8, 32, 2.0),
        ]
    )
    found = list(ranking(task({"resources": {"infra": "*/*/r1a"}}), shop, Conditions()))
    assert [(each.offer.place, each.offer.instance_type) for each in found] == [("a/r1/r1a", "m"), ("b/r1/r1a", "m")]


def test_time_is_as_lazy_as_money():
    shop = stocked(3, clouds=20, regions=10)
    plan_task(task({"resources": {"cpus": "8"}}), shop, Conditions(), Goal.TIME, most=10)
    assert shop.taken <= 13


def test_the_price_of_a_zone_beats_that_of_its_region_there():
    shop = Shop([Offer("a", "r1", None, "m", 8, 32, 1.0), Offer("a", "r1", "r1a", "m", 8, 32, 1.5)])
    found = list(ranking(task({"resources": {"infra": "*/*/r1a"}}), shop, Conditions()))
    assert [(each.offer.place, each.worth.price) for each in found] == [("a/r1/r1a", 1.5)]


def test_a_zone_is_served_by_own_prices_and_reservations_that_hold_in_its_region():
    shop = Shop(
        [
            Offer("a", "r1", None, "m", 8, 32, 1.0),
            Offer("a", "r1", "r1a", "m", 8, 32, 0.4, use_spot=True),
            Offer("a", "r2", None, "m", 8, 32, 1.0),
            Offer("b", "r1", "r1a", "m", 8, 32, 2.0),
        ]
    )

    def ours(each):
        return each.cloud == "a"

    asked = task({"resources": {"infra": "*/*/r1a"}})
    for conditions, price in (
        (Conditions(reservations=(Reservation("a", None, "r1a", "m", 1, "f:1"),)), 0.0),
        (Conditions(reservations=(Reservation("a", "r1", None, "m", 1, "f:1"),)), 0.0),
        (
            Conditions(
                price_of=lambda each: replace(each, price_hourly=0.1) if ours(each) else each,
                repriced=(Repriced("a", None, None, ours),),
            ),
            0.1,
        ),
    ):
        found = list(ranking(asked, shop, conditions))
        assert [(each.offer.place, each.worth.price) for each in found] == [("a/r1/r1a", price), ("b/r1/r1a", 2.0)]


def test_a_long_list_of_own_prices_is_asked_for_by_type():
    shop = stocked(3, clouds=8, regions=6)
    cheap = {(each.cloud, each.region, each.instance_type) for each in shop.on_sale}

    def rule(cloud, region, name):
        return Repriced(
            cloud, region, name, lambda each: (each.cloud, each.region, each.instance_type) == (cloud, region, name)
        )

    conditions = Conditions(
        price_of=lambda each: replace(each, price_hourly=1 / each.price_hourly),
        repriced=tuple(rule(*each) for each in sorted(cheap)),
    )
    asked = task({"resources": {"accelerators": "H100:8"}})
    found = list(ranking(asked, shop, conditions))
    assert [each.worth.key for each in found] == [row[1] for row in brute(asked, shop, conditions, Goal.COST)]
    # A question for each type of a cloud, not for each rule.
    assert shop.asked <= 2 + len({(cloud, name) for cloud, _, name in cheap})
