"""Tasks that form any graph without circles, placed exactly: the cheapest sum, or the shortest longest path.

`several` calls `solve`. Forests go to `chains`. Of the others, choices that can be in no best plan are struck first
(often nearly all). What is left is eliminated task by task where the tables stay small, or else handed to `solver`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from sky.core.optimizer import bounds, chains, solver
from sky.core.optimizer.coupled import Edge, Problem, order
from sky.core.optimizer.transfers import Location

#: Table entries that elimination may look at: about a tenth of a second of work, and the most without a solver.
SMALL_WORK = 150_000
MOST_WORK = 4_000_000
#: Seconds that the solver may take.
SOLVER_SECONDS = 60.0
#: Choices that each choice is compared with before it is kept.
_RIVALS = 4


def solve(problem: Problem, *, use_solver: bool | None = None) -> list[Location]:
    """One location per task, so that no other choice has a smaller objective.

    `use_solver` True: always, False: never, None: where it is faster. Raises NotSupportedError where a solver is
    needed and not installed.
    """
    if use_solver is not True:
        found = chains.solve(problem)
        if found is not None:
            return found
    kept = replace(problem, weights=[dict(each) for each in problem.weights])
    if not problem.longest:
        strike(kept)
        found = chains.solve(kept) if use_solver is not True else None
        if found is None and _plan_work(kept).entries > SMALL_WORK:
            found = bounds.tighten(kept, enough=2 * len(kept.weights))
        if found is not None:
            return found
    if use_solver is not True:
        work = _plan_work(kept)
        if work.entries <= SMALL_WORK or (
            work.entries <= MOST_WORK and (use_solver is False or not solver.available())
        ):
            return _eliminated(kept, work) if not kept.longest else _enumerated(kept)
    return _programmed(kept)


# --- striking --------------------------------------------------------------------------------------------------------


def strike(problem: Problem) -> None:
    """Remove choices that are never better than another one of the same task, wherever the other tasks are.

    A choice goes when some rival costs less by more than what being at the choice can save on transfers. Repeated
    until nothing goes, for each choice struck makes the others' savings smaller. Ties are kept.
    """
    near: list[list[Edge]] = [[] for _ in problem.weights]
    for edge in problem.edges:
        near[edge.source].append(edge)
        near[edge.target].append(edge)
    dirty = set(range(len(near)))
    while dirty:
        task = dirty.pop()
        options = problem.weights[task]
        if len(options) > 1 and _strike_of(problem, task, near[task]):
            dirty |= {edge.source + edge.target - task for edge in near[task]}


def _strike_of(problem: Problem, task: int, edges: Sequence[Edge]) -> bool:
    options = dict(problem.weights[task])
    rivals = sorted(options, key=lambda where: (options[where], where))[:_RIVALS]
    classes = problem.distances.classes
    others = []
    for edge in edges:
        there = problem.weights[edge.source + edge.target - task]
        others.append((edge, edge.target == task, there, {classes[each] for each in there}))
    struck = False
    for where in sorted(options, key=lambda each: -options[each]):
        for rival in rivals:
            if rival == where or options[rival] >= options[where]:
                continue
            ahead = options[where] - options[rival]
            # In the worst case for the rival; what is unknown of an edge is at most its whole price.
            for edge, into, there, there_classes in others:
                ahead -= _most_saved(problem, edge, into, where, rival, where in there, there_classes)
                if ahead <= 0:
                    break
            if ahead > 1e-12 * (1 + abs(options[where])):
                del problem.weights[task][where]  # type: ignore[attr-defined]  # a copy that solve() made
                struck = True
                break
    return struck


def _most_saved(
    problem: Problem,
    edge: Edge,
    into: bool,
    where: Location,
    rival: Location,
    met: bool,
    others: Iterable[int],
) -> float:
    """The most that an edge can cost less with a task at `where` than at its rival, or a little more than that.

    `others` are the classes of distance at the other end; `met`: the other task may be at `where` too.
    """
    distances = problem.distances
    here, there = distances.classes[where], distances.classes[rival]
    # By class of this end: what comes from, or goes to, each class of the other end.
    far = distances.into if into else distances.out_of
    near, away = far[here], far[there]
    most = max([away[other] - near[other] for other in others])
    if met:
        most = max(most, away[here])
    return edge.gigabytes * most


# --- elimination -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """Tasks in the order of their elimination, with those that each is then tied to; entries looked at in all."""

    steps: tuple[tuple[int, tuple[int, ...]], ...]
    entries: float


def _plan_work(problem: Problem) -> _Work:
    """The order that makes the smallest table next (min-weight)."""
    sizes = [len(each) for each in problem.weights]
    if problem.longest:
        entries = 1.0
        for size in sizes:
            entries *= size
        return _Work((), entries * len(sizes))
    near: dict[int, set[int]] = {task: set() for task in range(len(sizes))}
    for edge in problem.edges:
        near[edge.source].add(edge.target)
        near[edge.target].add(edge.source)
    steps: list[tuple[int, tuple[int, ...]]] = []
    entries = 0.0
    while near:
        costs = {task: _table(sizes, task, others) for task, others in near.items()}
        task = min(costs, key=lambda each: (costs[each], each))
        entries += costs[task]
        others = near.pop(task)
        for each in others:
            near[each] |= others
            near[each] -= {task, each}
        steps.append((task, tuple(sorted(others))))
        if entries > MOST_WORK:
            break
    return _Work(tuple(steps), entries)


def _table(sizes: Sequence[int], task: int, others: set[int]) -> float:
    entries = float(sizes[task])
    for each in others:
        entries *= sizes[each]
    return entries


_Factor = tuple[tuple[int, ...], Mapping[tuple[Location, ...], float]]


def _eliminated(problem: Problem, work: _Work) -> list[Location]:
    """Each task leaves a table behind: its best total for every choice of those that it is tied to."""
    factors: list[_Factor] = [((edge.source, edge.target), _edge_table(problem, edge)) for edge in problem.edges]
    decided: list[tuple[int, tuple[int, ...], dict[tuple[Location, ...], Location]]] = []
    for task, others in work.steps:
        mine = [factor for factor in factors if task in factor[0]]
        factors = [factor for factor in factors if task not in factor[0]]
        table: dict[tuple[Location, ...], float] = {}
        choice: dict[tuple[Location, ...], Location] = {}
        position = {each: number for number, each in enumerate((*others, task))}
        reads = [([position[each] for each in scope], values) for scope, values in mine]
        own = sorted(problem.weights[task].items())
        for setting in product(*(sorted(problem.weights[each]) for each in others)):
            best, taken = None, own[0][0]
            for where, weight in own:
                whole = (*setting, where)
                total = weight + sum(values[tuple(whole[at] for at in picks)] for picks, values in reads)
                if best is None or total < best:
                    best, taken = total, where
            table[setting], choice[setting] = best or 0.0, taken
        if others:
            factors.append((others, table))
        decided.append((task, others, choice))
    chosen: dict[int, Location] = {}
    for task, others, choice in reversed(decided):
        chosen[task] = choice[tuple(chosen[each] for each in others)]
    return [chosen[task] for task in range(len(problem.weights))]


def _edge_table(problem: Problem, edge: Edge) -> Mapping[tuple[Location, ...], float]:
    unit = problem.distances.unit
    return {
        (a, b): edge.gigabytes * unit(a, b) for a in problem.weights[edge.source] for b in problem.weights[edge.target]
    }


def _enumerated(problem: Problem) -> list[Location]:
    """The longest path has no tables that would add up; few choices are simply tried."""
    every = (list(each) for each in product(*(sorted(weights) for weights in problem.weights)))
    return min(every, key=problem.value)


# --- the solver ------------------------------------------------------------------------------------------------------


def _programmed(problem: Problem) -> list[Location]:
    """As a mixed integer program: one choice per task; of a transfer, what is saved by being near is a variable.

    Along an edge everything is paid first as if both ends were far from each other, by the source's dearest distance.
    Being at the same location, or in two classes that are less far, gives something back. These savings need not be
    whole: with whole choices they are whole by themselves.
    """
    program = solver.Program()
    picks: list[dict[Location, int]] = []
    for weights in problem.weights:
        cost = 0.0 if problem.longest else 1.0
        picks.append({where: program.variable(weight * cost, whole=True) for where, weight in sorted(weights.items())})
        program.row(1.0, 1.0, [(number, 1.0) for number in picks[-1].values()])
    ends: list[int] = []
    if problem.longest:
        horizon = _horizon(problem)
        ends = [program.variable(0.0, horizon) for _ in problem.weights]
        last = program.variable(1.0, horizon)
        for task, end in enumerate(ends):
            program.row(0.0, horizon, [(last, 1.0), (end, -1.0)])
            own = [(picks[task][where], -weight) for where, weight in problem.weights[task].items()]
            program.row(0.0, horizon, [(end, 1.0), *own])
    for edge in problem.edges:
        terms = _edge_terms(problem, edge, picks, program)
        if problem.longest:
            own = [(picks[edge.target][where], -each) for where, each in problem.weights[edge.target].items()]
            paid = [(number, -value) for number, value in terms]
            row = [(ends[edge.target], 1.0), (ends[edge.source], -1.0), *own]
            program.row(0.0, 2 * _horizon(problem), _merged([*row, *paid]))
        else:
            for number, value in terms:
                program.costs[number] += value
    values = solver.solve(program, SOLVER_SECONDS)
    return [max(each, key=lambda where: values[each[where]]) for each in picks]


def _merged(terms: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    found: dict[int, float] = {}
    for number, value in terms:
        found[number] = found.get(number, 0.0) + value
    return sorted(found.items())


def _horizon(problem: Problem) -> float:
    most = sum(max(each.values()) for each in problem.weights)
    return most + sum(edge.gigabytes for edge in problem.edges) * problem.distances.most + 1.0


def _edge_terms(
    problem: Problem, edge: Edge, picks: Sequence[Mapping[Location, int]], program: solver.Program
) -> list[tuple[int, float]]:
    """Variables with what each adds to the cost of an edge."""
    distances, gigabytes = problem.distances, edge.gigabytes
    if not gigabytes:
        return []
    sources, targets = picks[edge.source], picks[edge.target]
    by_class = _by_class(problem, targets)
    groups = _by_class(problem, sources)
    terms: list[tuple[int, float]] = []
    for source_class, members in groups.items():
        dearest = max(distances.by_class(source_class, each) for each in by_class)
        terms += [(number, gigabytes * dearest) for number in members]
        for target_class, others in by_class.items():
            saved = gigabytes * (dearest - distances.by_class(source_class, target_class))
            if saved > 0:
                near = program.variable(0.0)
                program.row(-1.0 * len(members), 0.0, [(near, 1.0), *((number, -1.0) for number in members)])
                program.row(-1.0 * len(others), 0.0, [(near, 1.0), *((number, -1.0) for number in others)])
                terms.append((near, -saved))
    for where, number in sources.items():
        of_class = distances.class_of(where)
        saved = gigabytes * distances.by_class(of_class, of_class)
        if where in targets and saved > 0:
            same = program.variable(0.0)
            program.row(-1.0, 0.0, [(same, 1.0), (number, -1.0)])
            program.row(-1.0, 0.0, [(same, 1.0), (targets[where], -1.0)])
            terms.append((same, -saved))
    return terms


def _by_class(problem: Problem, picks: Mapping[Location, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for where, number in picks.items():
        found.setdefault(problem.distances.class_of(where), []).append(number)
    return found


__all__ = ["order", "solve", "strike"]
