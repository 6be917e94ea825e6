"""The plans of tasks that belong together: pipelines and graphs whose tasks hand data on, and groups.

The engine's plans call `plan_dag`. Each task's offers come down to the best per location, the graph is solved
exactly over these, and each task's plan is then its own ranking with what its neighbours' places cost it, so that the
failover order is right as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from sky.core.model.dags import DagSpec
from sky.core.model.offers import Plan
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer import dags, groups
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.coupled import HOURS_PER_USD, Distances, Edge, Problem
from sky.core.optimizer.goals import Goal, worth
from sky.core.optimizer.gravity import Holding, bring
from sky.core.optimizer.locations import Search, best_by_location
from sky.core.optimizer.plan import laid_out
from sky.core.optimizer.rank import Ranked
from sky.core.optimizer.sold import Sold
from sky.core.optimizer.transfers import Location


@dataclass(frozen=True, slots=True)
class Chosen:
    """Plans of all tasks in their order; empty ones where a task fits nowhere. `total` in USD, or hours for TIME.

    `note` says how the places of a group were found. `searches` are those of the tasks, each given where the others
    are, and `firsts` what was chosen in them: what is asked about a task besides its plan is asked of these.
    """

    plans: tuple[Plan, ...]
    total: float | None
    note: str = ""
    searches: tuple[Search, ...] = ()
    firsts: tuple[Ranked | None, ...] = ()


def plan_dag(
    dag: DagSpec,
    catalog: Sold,
    conditions: Conditions | Sequence[Conditions],
    goal: Goal = Goal.COST,
    *,
    most: int = 1,
    use_solver: bool | None = None,
) -> Chosen:
    """Place all tasks together. `conditions`: for all, or for each task its own (holdings, hours).

    `most` placements are kept per task; the first is of the plan of all, those after it are ranked with the other
    tasks where they are. Raises NotSupportedError where the tasks are too entangled without the
    solver, ValueError for a circle.
    """
    each_has = [conditions] * len(dag.tasks) if isinstance(conditions, Conditions) else list(conditions)
    searches = [Search.of(task, catalog, own, goal) for task, own in zip(dag.tasks, each_has, strict=True)]
    if dag.is_job_group:
        grouped = groups.together(searches, catalog)
        return _all_of(_side_by_side(searches, grouped, most), grouped.total, grouped.note)
    edges = flows(dag)
    best = _candidates(searches, edges, catalog)
    if not all(best):
        return _all_of([_plan(search, None, (), most) for search in searches], None, "not every task fits somewhere")
    problem = as_problem(best, edges, each_has[0], goal)
    chosen = dags.solve(problem, use_solver=use_solver)
    placed = [
        _plan(search, chosen[task], _near(task, chosen, edges), most, known=best[task])
        for task, search in enumerate(searches)
    ]
    return _all_of(placed, problem.value(chosen))


_Placed = tuple[Plan, Search, Ranked | None]


def _all_of(placed: Sequence[_Placed], total: float | None, note: str = "") -> Chosen:
    plans, searches, firsts = zip(*placed, strict=True) if placed else ((), (), ())
    return Chosen(plans, total, note, searches, firsts)


def _side_by_side(searches: Sequence[Search], grouped: groups.Grouped, most: int) -> list[_Placed]:
    """The plans of tasks that run at the same time, each beside the machines of those before it."""
    placed: list[_Placed] = []
    left = list(searches)
    for where in grouped.chosen:
        search, *left = left
        placed.append(_plan(search, where, (), most, only=grouped.only))
        first = placed[-1][2]
        if first is not None:
            left = [each.beside(first.offer, first.wish.num_nodes) for each in left]
    return placed


def flows(dag: DagSpec) -> list[Edge]:
    """What tasks hand to each other, in GB: the outputs of the earlier one, all of them to each later one.

    Without edges, tasks of a pipeline follow each other in their order.
    """
    pairs = dag.edges or tuple((task, task + 1) for task in range(len(dag.tasks) - 1))
    return [Edge(first, second, _gigabytes(dag.tasks[first])) for first, second in pairs]


def _gigabytes(task: TaskSpec) -> float:
    return float(sum(task.outputs.values()))


def as_problem(
    best: Sequence[Mapping[Location, Ranked]], edges: Sequence[Edge], conditions: Conditions, goal: Goal
) -> Problem:
    """Candidates per location in numbers."""
    longest = goal is Goal.TIME
    locations = {where for each in best for where in each}
    hour_usd = conditions.tempo.value_of_hour if goal is Goal.EXPECTED else 0.0
    distances = Distances(locations, conditions.tariff, hours=longest, hour_usd=hour_usd)
    # Tasks that ask for the same have the same candidates.
    each_once = {id(each): each for each in best}
    made = {
        number: {where: _weight(ranked.worth.key, longest) for where, ranked in each.items()}
        for number, each in each_once.items()
    }
    weights = [made[id(each)] for each in best]
    return Problem(weights, edges, distances, longest)


def _weight(key: tuple[float, float], longest: bool) -> float:
    return key[0] + HOURS_PER_USD * key[1] if longest else key[0]


def _candidates(searches: Sequence[Search], edges: Sequence[Edge], catalog: Sold) -> list[dict[Location, Ranked]]:
    """For each task the best per location; tasks that ask for the same share the search."""
    if not edges or not any(edge.gigabytes for edge in edges):
        places: list[Location] = []
    else:
        places = sorted({(place.cloud, place.region) for place in catalog.places()})
    reaches = [0.0] * len(searches)
    for edge in edges:
        for task in (edge.source, edge.target):
            tariff = searches[task].conditions.tariff
            if searches[task].goal is Goal.TIME:
                reaches[task] += edge.gigabytes * 8 / tariff.across_gbps / 3600
            else:
                waited = searches[task].conditions.tempo.value_of_hour * 8 / tariff.across_gbps / 3600
                reaches[task] += edge.gigabytes * (tariff.dearest() + waited)
    shared: dict[object, tuple[float, dict[Location, Ranked]]] = {}
    keys = [_key(search) for search in searches]
    widest: dict[object, float] = {}
    for key, reach in zip(keys, reaches, strict=True):
        widest[key] = max(widest.get(key, 0.0), reach)
    for key, search in zip(keys, searches, strict=True):
        if key not in shared:
            shared[key] = (widest[key], best_by_location(search.first_level(), widest[key], places))
    return [shared[key][1] for key in keys]


def _key(search: Search) -> object:
    """Searches with the same key find the same."""
    return tuple(search.wishes), id(search.conditions), search.ordered


def _near(task: int, chosen: Sequence[Location], edges: Sequence[Edge]) -> tuple[Holding, ...]:
    """What a task reads from and writes to its neighbours, seen as data that has its place."""
    found = []
    for edge in edges:
        if edge.gigabytes and task in (edge.source, edge.target):
            outgoing = edge.source == task
            cloud, region = chosen[edge.target if outgoing else edge.source]
            found.append(Holding(cloud, region, edge.gigabytes, "the other tasks' data", outgoing))
    return tuple(found)


def _plan(
    search: Search,
    where: Location | None,
    near: tuple[Holding, ...],
    most: int,
    *,
    only: Location | None = None,
    known: Mapping[Location, Ranked] | None = None,
) -> _Placed:
    """A task's own ranking, given where its neighbours are; the chosen location first."""
    search = (
        replace(search, conditions=replace(search.conditions, holdings=(*search.conditions.holdings, *near)))
        if near
        else search
    )
    if only is not None:
        search = replace(search, wishes=search.narrowed(only))
    if most == 1 and where is not None and known is not None:
        chosen = _moved(search, known[where])
        return laid_out([chosen], search.conditions, search.goal), search, chosen
    ranking = search.ranking()
    first = list(islice(ranking, most))
    more = 0 if next(ranking, None) is None else None
    if where is not None:
        # Equally good places may stand in another order here than in the plan of all tasks.
        at = next((at for at, each in enumerate(first) if (each.offer.cloud, each.offer.region) == where), None)
        best = first.pop(at) if at is not None else search.at(where)
        if best is not None:
            first.insert(0, best)
    plan = laid_out(first[:most], search.conditions, search.goal, more=more, ranking=ranking)
    return plan, search, first[0] if first else None


def _moved(search: Search, ranked: Ranked) -> Ranked:
    """The same offer with all data that its task now has."""
    offer, conditions = ranked.offer, search.conditions
    transfer = bring(conditions.holdings, (offer.cloud, offer.region), conditions.tariff)
    stands = worth(search.goal, offer, ranked.wish.num_nodes, transfer, conditions)
    return ranked._replace(worth=stands)
