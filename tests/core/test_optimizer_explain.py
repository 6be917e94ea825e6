"""Why not there, what would help, what if, and when."""

from dataclasses import replace

import pytest
from small_shop import Shop

from sky.core.model.catalog import Egress, Market, Quality
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer, Reason
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer import gravity
from sky.core.optimizer.compare import what_if, when
from sky.core.optimizer.conditions import Blocked, Conditions
from sky.core.optimizer.explain import Question, every_cloud, why_not
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.gravity import Holding
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Key, Memory
from sky.core.optimizer.relax import relaxations, similar_accelerators
from sky.core.optimizer.transfers import Transfer, tariff
from sky.core.optimizer.wanted import of_task

SHOP = Shop(
    [
        Offer("a", "r1", None, "p8", 96, 1000, 10.0, {"A100": 8}, accelerator_memory_gb=40),
        Offer("a", "r2", None, "p8", 96, 1000, 13.8, {"A100": 8}, accelerator_memory_gb=40),
        Offer("a", "r2", "r2a", "p8", 96, 1000, 4.0, {"A100": 8}, use_spot=True, accelerator_memory_gb=40),
        Offer("a", "r1", None, "p4", 48, 500, 5.0, {"A100": 4}, accelerator_memory_gb=40),
        Offer("b", "r1", None, "h8", 96, 1000, 25.0, {"H100": 8}, accelerator_memory_gb=80),
        Offer("c", "r1", None, "m8", 8, 32, 0.4),
    ]
)
A100 = {"accelerators": "A100:8"}


def search(resources, conditions=None, goal=Goal.COST, shop=SHOP, **more):
    task = TaskSpec.from_config({"resources": resources, **more})
    wishes = of_task(task, shop.accelerators())
    return Search(wishes, shop, conditions or Conditions(), goal, task.resources_order == "ordered")


def answer(question, resources=None, conditions=None, goal=Goal.COST):
    asked = search(resources or A100, conditions, goal)
    return why_not(asked, question, next(asked.ranking(), None))


def test_dearer_by_so_much():
    told = answer(Question(Infra("a", "r2"), "p8"))
    assert (told.code, told.reason) == (Reason.DEARER, "38 % dearer than the choice")
    assert (told.asked, told.found, told.place) == ("$10", "$14", "a/r2")


def test_the_choice_is_the_choice():
    assert answer(Question(Infra("a"))).reason == "this is the choice"


@pytest.mark.parametrize(
    ("question", "resources", "conditions", "code", "words"),
    [
        (Question(Infra("a", "r9")), A100, None, Reason.NOT_SOLD, "no A100:8 in a/r9"),
        (Question(Infra("b", "r1")), A100, None, Reason.ACCELERATORS, "asked for A100:8, it has H100:8"),
        (Question(accelerator="h100"), A100, None, Reason.ACCELERATORS, "asked for A100:8, it has H100:8"),
        (Question(instance_type="p4"), A100, None, Reason.ACCELERATORS, "asked for A100:8, it has A100:4"),
        (Question(Infra("a", "r2"), market=Market.SPOT), A100, None, Reason.MARKET, "a spot offer, and spot was"),
        (Question(Infra("a", "r2")), {**A100, "max_hourly_cost": 12}, None, Reason.PRICE_LIMIT,
         "excluded by max_hourly_cost"),
        (Question(Infra("a", "r2")), A100, Conditions(blocked=(Blocked("a", "r2", since=0.0),), now=720.0),
         Reason.REFUSED, "refused 12 minutes ago: capacity (38 % dearer than the choice)"),
        (Question(Infra("b")), {"accelerators": "H100:8"}, Conditions(enabled=frozenset({"a"})),
         Reason.NOT_ENABLED, "b is not enabled ($25, and nothing else fits)"),
    ],
)  # fmt: skip
def test_why_not(question, resources, conditions, code, words):
    told = answer(question, resources, conditions)
    assert told.code is code
    assert told.reason.startswith(words)
    assert told.remedy


@pytest.mark.parametrize(
    "question",
    [
        Question(Infra("a"), accelerator="t4"),
        Question(Infra("a"), market=Market.ON_DEMAND),
        Question(Infra("a"), instance_type="t8"),
        Question(Infra("a")),
    ],
)
@pytest.mark.parametrize("asked_for", ["T4:8", "16GB:8"])
def test_what_fits_is_found_behind_any_number_of_cheaper_things(question, asked_for):
    cheap = [Offer("a", f"r{n}", None, "t1", 8, 32, 0.1, {"T4": 1}, accelerator_memory_gb=16) for n in range(600)]
    dear = [Offer(cloud, "r1", None, "t8", 64, 256, usd, {"T4": 8}, accelerator_memory_gb=16)
            for cloud, usd in (("a", 5.0), ("b", 4.0))]  # fmt: skip
    asked = search({"accelerators": asked_for}, shop=Shop([*cheap, *dear]))
    told = why_not(asked, question, next(asked.ranking()))
    assert (told.place, told.code, told.reason) == ("a/r1", Reason.DEARER, "25 % dearer than the choice")


def test_what_breaks_the_last_rule_is_nearest_behind_any_number_of_cheaper_things():
    cheap = [Offer("a", f"r{n}", None, "t1", 8, 32, 0.1, {"T4": 1}, accelerator_memory_gb=16) for n in range(600)]
    dear = Offer("a", "r1", None, "t8", 64, 256, 5.0, {"T4": 8}, accelerator_memory_gb=16)
    asked = search({"accelerators": "T4:8", "max_hourly_cost": 2}, shop=Shop([*cheap, dear]))
    for question in (Question(Infra("a")), Question(accelerator="T4")):
        assert why_not(asked, question, None).code is Reason.PRICE_LIMIT


@pytest.mark.parametrize("price", [1.9234, 0.0042, 12.0, 3.1, 0.07143])
def test_the_limit_that_is_advised_lets_the_offer_through(price):
    shop = Shop([Offer("a", "r1", None, "m", 8, 32, price)])
    asked = search({"cpus": 8, "max_hourly_cost": 0.001}, shop=shop)
    (told,) = relaxations(asked)
    remedy = why_not(asked, Question(Infra("a")), None).remedy
    advised = float(told.words.removeprefix("raise max_hourly_cost to "))
    assert remedy == f"max_hourly_cost: {advised:.2f}"
    assert next(search({"cpus": 8, "max_hourly_cost": advised}, shop=shop).ranking()).offer.price_hourly == price
    assert advised < price + 0.01


def test_one_answer_for_each_cloud():
    asked = search(A100, Conditions(enabled=frozenset({"a", "b"}), extra=(Offer("own", "x", None, "t", 8, 32, 0.1),)))
    told = every_cloud(asked, next(asked.ranking()))
    assert [each.code for each in told] == [None, Reason.ACCELERATORS, Reason.ACCELERATORS, Reason.ACCELERATORS]
    assert [each.place for each in told] == ["a/r1", "b/r1", "c/r1", "own/x"]


def test_slower_where_time_is_made_small():
    conditions = Conditions(holdings=(Holding("a", "r1", 4500),), tariff=tariff([]))
    told = answer(Question(Infra("a", "r2")), A100, conditions, Goal.TIME)
    assert (told.code, told.reason) == (Reason.SLOWER, "100 % slower than the choice")


def test_what_one_relaxed_constraint_would_open():
    asked = search({"infra": "*/r2", "accelerators": "A100:8", "max_hourly_cost": 9})
    assert next(asked.ranking(), None) is None
    told = relaxations(asked)
    assert [(each.code, each.words, each.usd_hourly) for each in told] == [
        (Reason.MARKET, "take spot", 4.0),
        (Reason.PRICE_LIMIT, "raise max_hourly_cost to 13.80", 13.8),
    ]
    assert str(told[0]) == "take spot: p8 in a/r2/r2a, $4.00 per hour"


@pytest.mark.parametrize(
    ("resources", "conditions", "words"),
    [
        ({"accelerators": "H100:4"}, None, ["take H100:8"]),
        ({"accelerators": "A100:16"}, None, ["take A100:4", "take A100:8"]),
        ({"accelerators": "A100:8", "cpus": "128+"}, None, ["take 96 vCPUs"]),
        ({"accelerators": "A100:8", "memory": "2000+"}, None, ["take 1000 GB of memory"]),
        ({"accelerators": "H100:8"}, Conditions(enabled=frozenset({"a"})),
         ["enable b"]),
        ({"accelerators": "H100:8"}, Conditions(blocked=(Blocked("b"),)), ["try again what was refused"]),
        ({"accelerators": "A100:8", "local_disk": "100+"}, None, ["leave local_disk open"]),
        ({"infra": "*/r3", "cpus": 8}, None, ["leave the region open"]),
        ({"accelerators": "A100:8", "use_spot": True}, Conditions(denied=lambda each: "r2" if each.region == "r2"
          else None), ["take on-demand", "allow what your rules deny"]),
    ],
)  # fmt: skip
def test_each_relaxation(resources, conditions, words):
    told = [each.words for each in relaxations(search(resources, conditions))]
    assert set(words) <= set(told)
    prices = [each.usd_hourly for each in relaxations(search(resources, conditions))]
    assert prices == sorted(prices)


def test_an_accelerator_with_as_much_memory_or_more():
    conditions = Conditions(blocked=(Blocked("a"),))
    told = relaxations(search(A100, conditions))
    assert (Reason.ACCELERATORS, "take any accelerator with 40 GB or more") in [
        (each.code, each.words) for each in told
    ]


def test_a_misspelt_accelerator_is_told_with_what_was_probably_meant():
    asked = search({"accelerators": "H10O:8"})
    assert next(asked.ranking(), None) is None
    assert [str(each) for each in relaxations(asked)] == ["take H100:8: h8 in b/r1, $25 per hour"]


def test_a_misspelt_accelerator_has_near_names():
    names = {"a100": "A100", "a100-80gb": "A100-80GB", "h100": "H100", "l4": "L4"}
    assert similar_accelerators("A1000", names)[0] == "A100"
    assert similar_accelerators("h-100", names) == ("H100", "A100")
    assert similar_accelerators("a100", names) == ()


def test_what_if():
    asked = search(A100)
    assert what_if(asked, spot=True).difference == pytest.approx(-6.0)
    assert what_if(asked, region="r2").difference == pytest.approx(3.8)
    assert what_if(asked, infra=Infra("c")).difference is None
    assert what_if(asked, spot=True, region="r1").change == "spot, region=r1"


def test_when_says_nothing_where_nothing_is_known():
    told = when(search(A100))
    assert told.choice.offer.region == "r1"
    assert (told.now, told.soon, told.certain, told.extra) == (None, None, None, None)


def test_when_knows_what_certainty_costs():
    memory = Memory()
    for _ in range(40):
        memory = memory.remember(Key("a", "r1", None, "p8", Market.ON_DEMAND), False, 0.0, "capacity")
        memory = memory.remember(Key("a", "r2", None, "p8", Market.ON_DEMAND), True, 0.0)
    told = when(search(A100, Conditions(memory=memory, now=60.0)))
    assert told.now.high < 0.2
    assert told.now.mean < told.soon.mean
    assert told.certain.offer.region == "r2"
    assert told.extra == pytest.approx(3.8)


# --- transfers -------------------------------------------------------------------------------------------------------


def test_prices_of_transfers():
    rows = [("a", "*", "internet", 0.09), ("a", "*", "region", 0.02), ("a", "r1", "r2", 0.01),
            ("a", "r3", "internet", 0.2), ("b", "*", "internet", 0.12)]  # fmt: skip
    prices = tariff([Egress(*row, Quality.LIST, "l") for row in rows])
    assert prices.transfer(("a", "r1"), ("a", "r1"), 100) == Transfer(0.0, 0.0)
    assert prices.transfer(("a", "r1"), ("a", "r2"), 100).usd == pytest.approx(1.0)
    assert prices.transfer(("a", "r2"), ("a", "r1"), 100).usd == pytest.approx(2.0)
    assert prices.transfer(("a", "r3"), ("b", "r1"), 100).usd == pytest.approx(20.0)
    assert prices.transfer(("b", "r1"), ("b", "r2"), 100) == Transfer(pytest.approx(12.0), 100 * 8 / 36000, False)
    assert prices.transfer(("zz", "r1"), ("b", "r2"), 1).usd == pytest.approx(0.2)
    with pytest.raises(ValueError, match="bandwidth"):
        tariff([], across_gbps=0)


def test_data_in_one_cloud_without_a_region_is_near_everywhere_there():
    prices = tariff([Egress("a", "*", "internet", 0.1, Quality.LIST, "l")])
    held = [Holding("a", None, 10), replace(Holding("a", None, 30), outgoing=True)]
    assert gravity.bring(held, ("a", "r7"), prices) == Transfer(0.0, 0.0)
    assert gravity.bring(held[:1], ("b", "r1"), prices).usd == pytest.approx(1.0)
    assert gravity.line(held, ("a", "r1"), prices) == ""


@pytest.mark.parametrize(("hours", "text"), [(3.5, "3.5 h"), (0.6667, "40 min"), (0.005, "18 s")])
def test_spans(hours, text):
    assert gravity.span(hours) == text
