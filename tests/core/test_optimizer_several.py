"""Tasks that hand data to each other: the plan is the best there is, whichever way it is found."""

import importlib.util
import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import Shop, stocked

from sky.core.errors import NotSupportedError
from sky.core.model.catalog import Egress, Place, Quality
from sky.core.model.conditions import Quota, Reservation
from sky.core.model.dags import DagExecution, DagSpec
from sky.core.model.offers import Offer
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer import bounds, chains, dags, solver
from sky.core.optimizer.conditions import Blocked, Conditions
from sky.core.optimizer.coupled import Distances, Edge, Problem, order
from sky.core.optimizer.goals import Goal, worth
from sky.core.optimizer.several import plan_dag
from sky.core.optimizer.transfers import NOTHING, tariff

HAS_SOLVER = importlib.util.find_spec("highspy") is not None
needs_solver = pytest.mark.skipif(not HAS_SOLVER, reason="the extra `optimizer` (highspy) is not installed")


def rates(chance, clouds, locations):
    rows = []
    for cloud in clouds:
        rows.append(Egress(cloud, "*", "internet", chance.choice([0.05, 0.09, 0.12]), Quality.LIST, "l"))
        rows.append(Egress(cloud, "*", "region", chance.choice([0.0, 0.01, 0.02]), Quality.LIST, "l"))
        for region, to, usd in (("r0", "region", 0.05), ("r0", "r1", 0.001), ("*", "continent", 0.004)):
            if chance.random() < 0.4:
                rows.append(Egress(cloud, region, to, usd, Quality.LIST, "l"))
    return tariff(rows, [Place(*each, None, None, None, chance.choice(["eu", "us"])) for each in locations])


def problem(seed, tasks=5, most=4, *, longest=False, density=None, clouds=3, regions=3):
    chance = random.Random(seed)
    locations = [(f"c{cloud}", f"r{region}") for cloud in range(clouds) for region in range(regions)]
    count = chance.randint(1, tasks)
    density = chance.random() if density is None else density
    weights = [
        {where: chance.choice([1.0, 2.0, chance.uniform(0, 10)]) for where in
         chance.sample(locations, chance.randint(1, most))}
        for _ in range(count)
    ]  # fmt: skip
    edges = [
        Edge(first, second, chance.choice([0, 10, 100, chance.uniform(0, 500)]))
        for first, second in itertools.combinations(range(count), 2)
        if chance.random() < density
    ]
    prices = rates(chance, {cloud for cloud, _ in locations}, locations)
    return Problem(weights, edges, Distances(locations, prices, hours=longest), longest)


def brute(asked):
    return min(asked.value(chosen) for chosen in itertools.product(*asked.weights))


@pytest.mark.parametrize("longest", [False, True])
@pytest.mark.parametrize("part", range(10))
def test_thousands_of_random_graphs_are_placed_as_by_trying_everything(part, longest):
    for number in range(120):
        asked = problem(part * 1000 + number, longest=longest)
        found = asked.value(dags.solve(asked, use_solver=False))
        assert found == pytest.approx(brute(asked), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 6), st.booleans())
def test_any_graph_is_placed_as_by_trying_everything(seed, tasks, longest):
    asked = problem(seed, tasks, 3, longest=longest)
    assert asked.value(dags.solve(asked, use_solver=False)) == pytest.approx(brute(asked), abs=1e-9)


@needs_solver
@pytest.mark.parametrize("longest", [False, True])
def test_the_solver_finds_the_same(longest):
    for number in range(60):
        asked = problem(number, longest=longest)
        assert asked.value(dags.solve(asked, use_solver=True)) == pytest.approx(brute(asked), abs=1e-6)


@needs_solver
@pytest.mark.parametrize("longest", [False, True])
@pytest.mark.parametrize("number", range(6))
def test_dynamic_programming_and_the_solver_agree_on_chains(number, longest):
    asked = problem(number, 1, longest=longest)
    chance = random.Random(number)
    locations = [(f"c{cloud}", f"r{region}") for cloud in range(3) for region in range(3)]
    weights = [{where: chance.uniform(0, 9) for where in chance.sample(locations, 6)} for _ in range(12)]
    edges = [Edge(task, task + 1, chance.uniform(0, 200)) for task in range(11)]
    asked = replace(asked, weights=weights, edges=edges)
    by_hand = chains.solve(asked)
    assert by_hand is not None
    assert asked.value(by_hand) == pytest.approx(asked.value(dags.solve(asked, use_solver=True)), abs=1e-6)


def test_bounds_prove_plans_or_strike_only_what_is_in_none(monkeypatch):
    proven = 0
    for number in range(150):
        asked = problem(number, 6, 5, density=0.6)
        least = brute(asked)
        left = replace(asked, weights=[dict(each) for each in asked.weights])
        found = bounds.tighten(left, enough=0)
        if found is not None:
            proven += 1
            assert asked.value(found) == pytest.approx(least)
        assert brute(left) == pytest.approx(least)
    assert proven > 100
    monkeypatch.setattr(dags, "SMALL_WORK", 0)
    asked = problem(4, 6, 5, density=0.6)
    assert asked.value(dags.solve(asked, use_solver=False)) == pytest.approx(brute(asked))


def test_striking_keeps_a_best_plan():
    for number in range(200):
        asked = problem(number, 5, 5)
        left = replace(asked, weights=[dict(each) for each in asked.weights])
        dags.strike(left)
        assert brute(left) == pytest.approx(brute(asked))


def test_a_wider_choice_never_costs_more_and_a_narrower_one_never_less():
    for number in range(100):
        asked = problem(number)
        before = asked.value(dags.solve(asked, use_solver=False))
        chance = random.Random(number)
        more = [dict(each) for each in asked.weights]
        chance.choice(more)[chance.choice([("c0", "r0"), ("c1", "r2")])] = 0.5
        wider = replace(asked, weights=[{**each, **old} for each, old in zip(more, asked.weights, strict=True)])
        assert wider.value(dags.solve(wider, use_solver=False)) <= before + 1e-9


def test_tasks_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="in a circle"):
        order(2, [Edge(0, 1, 1.0), Edge(1, 0, 1.0)])


def test_without_the_solver_a_dense_graph_names_the_extra(monkeypatch):
    def gone(_program, _seconds):
        raise NotSupportedError("pip install 'altostratus[optimizer]'")

    monkeypatch.setattr(solver, "available", lambda: False)
    monkeypatch.setattr(solver, "solve", gone)
    asked = problem(1, 1, longest=True)
    locations = [(f"c{cloud}", f"r{region}") for cloud in range(3) for region in range(3)]
    weights = [dict.fromkeys(locations, 1.0) for _ in range(12)]
    edges = [Edge(a, b, 1.0) for a, b in itertools.combinations(range(12), 2)]
    with pytest.raises(NotSupportedError, match=r"altostratus\[optimizer\]"):
        dags.solve(replace(asked, weights=weights, edges=edges))


# --- tasks and catalogs ----------------------------------------------------------------------------------------------


def pipeline(*parts, execution=None, edges=()):
    tasks = tuple(TaskSpec.from_config({"name": f"t{at}", **part}) for at, part in enumerate(parts))
    return DagSpec(tasks, execution=execution, edges=tuple(edges))


def conditions(seed, shop):
    chance = random.Random(seed)
    places = {(place.cloud, place.region) for place in shop.places()}
    return Conditions(tariff=rates(chance, sorted({cloud for cloud, _ in places}), sorted(places)))


@pytest.mark.parametrize("goal", [Goal.COST, Goal.TIME])
@pytest.mark.parametrize("seed", range(6))
def test_a_pipeline_is_placed_as_by_trying_all_offers(seed, goal):
    shop = stocked(seed, clouds=3, regions=2)
    chance = random.Random(seed)
    dag = pipeline(
        {"resources": {"accelerators": "L4:1"}, "outputs": {"s3://a": chance.choice([1, 50, 400])}},
        {"resources": {"cpus": "8"}, "outputs": {"s3://b": chance.choice([1, 50, 400])}},
        {"resources": {"accelerators": "H100:1"}},
        edges=[(0, 1), (1, 2), (0, 2)] if seed % 2 else (),
    )
    asked = conditions(seed, shop)
    made = plan_dag(dag, shop, asked, goal)
    options = []
    for task, shape in zip(dag.tasks, ({"L4": 1}, {}, {"H100": 1}), strict=True):
        fits = [each for each in shop.on_sale if not each.use_spot and each.accelerators == shape]
        if not shape:
            fits = [each for each in fits if each.cpus == 8 and each.memory_gb >= 32]
        options.append([(each, worth(goal, each, task.num_nodes, NOTHING, asked)) for each in fits])
    pairs = dag.edges or ((0, 1), (1, 2))
    size = [sum(task.outputs.values()) for task in dag.tasks]
    best = float("inf")
    for chosen in itertools.product(*options):
        spots = [(offer.cloud, offer.region) for offer, _ in chosen]
        if goal is Goal.COST:
            total = sum(each.key[0] for _, each in chosen)
            total += sum(asked.tariff.transfer(spots[a], spots[b], size[a]).usd for a, b in pairs)
        else:
            ends = []
            for task, (_, each) in enumerate(chosen):
                begin = max(
                    (ends[a] + asked.tariff.transfer(spots[a], spots[b], size[a]).hours
                     for a, b in pairs if b == task), default=0.0
                )  # fmt: skip
                ends.append(begin + each.hours)
            total = max(ends)
        best = min(best, total)
    assert made.total == pytest.approx(best, abs=1e-6)
    assert all(plan.placements for plan in made.plans)


def test_data_between_regions_of_one_cloud_is_not_free():
    shop = Shop([Offer("a", "r1", None, "m", 8, 32, 1.0), Offer("a", "r2", None, "g", 8, 32, 1.0, {"L4": 1}),
                 Offer("a", "r1", None, "g", 8, 32, 2.0, {"L4": 1})])  # fmt: skip
    prices = Conditions(tariff=tariff([Egress("a", "*", "region", 0.02, Quality.LIST, "l")]))
    first = {"resources": {"cpus": 8}, "outputs": {"s3://x": 40}}
    made = plan_dag(pipeline(first, {"resources": {"accelerators": "L4:1"}}), shop, prices)
    assert made.plans[1].placements[0].offer.region == "r2"
    assert made.total == pytest.approx(2.8)
    dearer = {**first, "outputs": {"s3://x": 60}}
    made = plan_dag(pipeline(dearer, {"resources": {"accelerators": "L4:1"}}), shop, prices)
    assert made.plans[1].placements[0].offer.region == "r1"
    assert made.total == pytest.approx(3.0)


def test_the_next_placement_of_a_task_counts_where_its_neighbours_are():
    shop = stocked(2, clouds=3, regions=3)
    dag = pipeline({"resources": {"cpus": "8"}, "outputs": {"s3://x": 2000}}, {"resources": {"cpus": "8"}})
    made = plan_dag(dag, shop, conditions(2, shop), most=10)
    first, second = (plan.placements for plan in made.plans)
    assert first[0].offer.region == second[0].offer.region
    assert second[1].offer.cloud == second[0].offer.cloud
    assert [each.objective for each in made.plans[1].standings] == sorted(
        each.objective for each in made.plans[1].standings
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_group_goes_to_the_cheapest_common_place(seed):
    shop = stocked(seed, share=0.6)
    parts = [{"resources": {"accelerators": "H100:8"}}, {"resources": {"cpus": "16"}}, {"num_nodes": 2}]
    made = plan_dag(pipeline(*parts, execution=DagExecution.PARALLEL), shop, Conditions())
    totals = []
    for place in {(each.cloud, each.region) for each in shop.on_sale}:
        here = [each for each in shop.on_sale if (each.cloud, each.region) == place and not each.use_spot]
        costs = [
            [each.price_hourly for each in here if each.accelerators == {"H100": 8}],
            [each.price_hourly for each in here if each.cpus == 16 and not each.accelerators],
            [2 * each.price_hourly for each in here
             if each.cpus >= 8 and not each.accelerators and each.memory_gb >= 4 * each.cpus],
        ]  # fmt: skip
        if all(costs):
            totals.append(sum(map(min, costs)))
    if not totals:
        assert "each is placed on its own" in made.note
        return
    assert made.total == pytest.approx(min(totals))
    places = {(plan.placements[0].offer.cloud, plan.placements[0].offer.region) for plan in made.plans}
    assert len(places) == 1
    assert made.note.startswith("all 3 tasks in ")


def test_a_group_without_a_common_place_says_so():
    shop = Shop([Offer("a", "r1", None, "m", 8, 32, 1.0), Offer("b", "r2", None, "g", 8, 32, 1.0, {"L4": 1})])
    parts = [{"resources": {"accelerators": "L4:1"}}, {"resources": {"cpus": "8"}}]
    made = plan_dag(pipeline(*parts, execution=DagExecution.PARALLEL), shop, Conditions())
    assert "each is placed on its own" in made.note
    assert [plan.placements[0].offer.cloud for plan in made.plans] == ["b", "a"]
    assert made.total == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("held", "quotas", "offers", "total"),
    [
        # One machine is paid for; the other task pays for its own.
        (1, (), ["a", "a"], 1.0),
        (2, (), ["a", "a"], 0.0),
        # All that is paid for, and the rest: two tasks of two nodes each.
        (3, (), ["a", "a"], 1.0),
        # Each task fits alone, and both together do not.
        (0, (Quota("a", None, "*", None, 1, None, "f:1"),), ["b", "b"], 2.6),
        (0, (Quota("a", None, "m*", None, None, 8.0, "f:1"),), ["b", "b"], 2.6),
        (0, tuple(Quota(each, None, "*", None, 1, None, "f:1") for each in "ab"), ["a", "b"], 2.3),
    ],
)  # fmt: skip
def test_tasks_of_a_group_share_what_is_finite(held, quotas, offers, total):
    nodes = 2 if held == 3 else 1
    shop = Shop([Offer("a", "r1", None, "m", 8, 32, 1.0), Offer("b", "r2", None, "m", 8, 32, 1.3)])
    reservations = (Reservation("a", "r1", None, "m", held, "f:1"),) if held else ()
    parts = [{"num_nodes": nodes}, {"num_nodes": nodes}]
    for most in (1, 3):
        made = plan_dag(
            pipeline(*parts, execution=DagExecution.PARALLEL), shop,
            Conditions(reservations=reservations, quotas=quotas), most=most,
        )  # fmt: skip
        assert [plan.placements[0].offer.cloud for plan in made.plans] == offers
        assert made.total == pytest.approx(total)
        assert sum(plan.placements[0].price_hourly for plan in made.plans) == pytest.approx(total)


def test_a_task_that_fits_nowhere_leaves_no_total():
    shop = stocked(1)
    dag = pipeline({"resources": {"cpus": "8"}}, {"resources": {"accelerators": "B200:8"}})
    made = plan_dag(dag, shop, Conditions(blocked=(Blocked("c0"),)))
    assert made.total is None
    assert made.plans[0].placements
    assert not made.plans[1].placements
