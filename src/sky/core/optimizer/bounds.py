"""Lower bounds for tasks that are entangled, and with them: which choices can be in no best plan.

`dags` calls `tighten` when a graph has circles (arrows aside) and too many choices for its tables. Costs are moved
between tasks and edges without changing the total of any plan (sequential reweighted message passing, in Kolmogorov's
form for sums of pairs). Then the sum of all least costs is a bound, and a choice whose own bound lies above the total
of a plan that is known is struck. The plans come from deciding task by task with the costs as they have been moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sky.core.optimizer.coupled import Edge, Problem, order
from sky.core.optimizer.transfers import Location

#: Rounds at most; each takes time proportional to edges x (locations + classes squared).
_ROUNDS = 80
#: A bound and a plan that differ by so little, relative to the plan, are equal.
_EQUAL = 1e-10


@dataclass(slots=True)
class _End:
    """One end of an edge: the classes of its task's locations, and the cost that was moved from the edge to it."""

    task: int
    classes: list[int]
    moved: list[float]
    #: For each location its position at the other end, -1 where it is none of that task's.
    same: list[int]


_FAR = float("inf")


class _Link:
    """An edge between two tasks, with distances in both directions by the classes that occur."""

    def __init__(self, problem: Problem, edge: Edge, spots: Sequence[Sequence[Location]]) -> None:
        distances, gigabytes = problem.distances, edge.gigabytes
        ends = []
        for task, other in ((edge.source, edge.target), (edge.target, edge.source)):
            at = {where: position for position, where in enumerate(spots[other])}
            classes = [distances.class_of(where) for where in spots[task]]
            ends.append(_End(task, classes, [0.0] * len(classes), [at.get(where, -1) for where in spots[task]]))
        self.ends = ends
        source_classes, target_classes = sorted(set(ends[0].classes)), sorted(set(ends[1].classes))
        into = {
            to: {each: gigabytes * distances.by_class(each, to) for each in source_classes} for to in target_classes
        }
        out = {to: {each: gigabytes * distances.by_class(to, each) for each in target_classes} for to in source_classes}
        #: By end: for each class there, the classes of the other end with their distance.
        self.near = (out, into)
        #: By end: for each class there, the least of its distances to any other class.
        self.floors = tuple(
            {mine: min((far for each, far in row.items() if each != mine), default=0.0) for mine, row in table.items()}
            for table in self.near
        )

    def side(self, task: int) -> int:
        """0 where the task hands data on, 1 where it gets it."""
        return 0 if self.ends[0].task == task else 1

    def least(self, side: int) -> list[float]:
        """For each location at one end: the least of distance less moved cost over those at the other."""
        other, mine = self.ends[1 - side], self.ends[side]
        best: dict[int, float] = {}
        for of_class, moved in zip(other.classes, other.moved, strict=True):
            if -moved < best.get(of_class, _FAR):
                best[of_class] = -moved
        cheapest = sorted((value, each) for each, value in best.items())
        floors = self.floors[side]
        through = {
            of_class: _nearest(
                cheapest, row, best[of_class] + row[of_class] if of_class in best else _FAR, floors[of_class]
            )
            for of_class, row in self.near[side].items()
        }
        there = other.moved
        found = []
        for of_class, same in zip(mine.classes, mine.same, strict=True):
            value = through[of_class]
            if same >= 0 and -there[same] < value:
                value = -there[same]
            found.append(value)
        return found

    def cost(self, side: int, position: int, other: int) -> float:
        """What is left on the edge between one location and one at the other end."""
        mine, its = self.ends[side], self.ends[1 - side]
        distance = 0.0
        if mine.same[position] != other:
            of_class = its.classes[other]
            distance = self.near[side][mine.classes[position]][of_class]
        return distance - mine.moved[position] - its.moved[other]


def _nearest(cheapest: Sequence[tuple[float, int]], row: Mapping[int, float], own: float, floor: float) -> float:
    """The least of value plus distance. `own` is that of the same class; no other is nearer than `floor`."""
    found = own
    for value, of_class in cheapest:
        if value + floor >= found:
            break
        total = value + row[of_class]
        if total < found:  # noqa: PLR1730 - a call of min() takes longer than all the rest
            found = total
    return found


class _State:
    """A problem with its costs moved about. `left`: of each task's locations what is left, in the problem's order."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.sequence = order(len(problem.weights), problem.edges)
        self.best: list[Location] | None = None
        self.best_value = float("inf")
        self.links: list[_Link] = []
        self.build()

    def build(self, moved: dict[tuple[int, int, Location], float] | None = None) -> None:
        """Anew after choices were struck; what was moved before stays moved."""
        problem = self.problem
        self.spots = [sorted(each) for each in problem.weights]
        self.costs = [[problem.weights[task][where] for where in spots] for task, spots in enumerate(self.spots)]
        self.links = [_Link(problem, edge, self.spots) for edge in problem.edges]
        self.near: list[list[_Link]] = [[] for _ in self.spots]
        for number, link in enumerate(self.links):
            for side, end in enumerate(link.ends):
                self.near[end.task].append(link)
                if moved is not None:
                    for position, where in enumerate(self.spots[end.task]):
                        end.moved[position] = moved[number, side, where]
                        self.costs[end.task][position] += end.moved[position]

    def kept(self) -> dict[tuple[int, int, Location], float]:
        """What has been moved, by edge, end and location."""
        return {
            (number, side, where): end.moved[position]
            for number, link in enumerate(self.links)
            for side, end in enumerate(link.ends)
            for position, where in enumerate(self.spots[end.task])
        }

    def sweep(self, sequence: Sequence[int]) -> None:
        """Take to each task what its edges can give, and hand it on in equal parts to the edges that lead forward."""
        done: set[int] = set()
        for task in sequence:
            costs = self.costs[task]
            forward = []
            for link in self.near[task]:
                side = link.side(task)
                mine = link.ends[side]
                for position, value in enumerate(link.least(side)):
                    costs[position] += value - mine.moved[position]
                    mine.moved[position] = value
                if link.ends[1 - side].task not in done:
                    forward.append(mine)
            done.add(task)
            if forward:
                share = 1.0 / max(len(forward), len(self.near[task]) - len(forward))
                parts = [share * cost for cost in costs]
                for mine in forward:
                    for position, part in enumerate(parts):
                        mine.moved[position] -= part
                for position, part in enumerate(parts):
                    costs[position] -= part * len(forward)

    def bound(self) -> tuple[float, list[list[float]]]:
        """No plan is below the first; no plan with a choice is below the bound plus the choice's entry."""
        total = 0.0
        above: list[list[float]] = []
        for costs in self.costs:
            least = min(costs)
            total += least
            above.append([cost - least for cost in costs])
        for link in self.links:
            for side, end in enumerate(link.ends):
                left = [value - moved for value, moved in zip(link.least(side), end.moved, strict=True)]
                least = min(left)
                if side == 0:
                    total += least
                mine = above[end.task]
                for position, value in enumerate(left):
                    mine[position] += value - least
        return total, above

    def decide(self) -> None:
        """A plan: task by task, given those that are decided; then single tasks are moved while that helps."""
        taken: dict[int, int] = {}
        for task in self.sequence:
            taken[task] = self._choose(task, taken)
        chosen = [self.spots[task][taken[task]] for task in range(len(self.spots))]
        for _ in range(3):
            before = dict(taken)
            for task in self.sequence:
                taken[task] = self._choose(task, taken)
            if taken == before:
                break
            chosen = [self.spots[task][taken[task]] for task in range(len(self.spots))]
        value = self.problem.value(chosen)
        if value < self.best_value:
            self.best, self.best_value = chosen, value

    def _choose(self, task: int, taken: dict[int, int]) -> int:
        costs = list(self.costs[task])
        for link in self.near[task]:
            side = link.side(task)
            other = taken.get(link.ends[1 - side].task)
            if other is None:
                moved = link.ends[side].moved
                costs = [cost + value - moved[at] for at, (cost, value) in
                         enumerate(zip(costs, link.least(side), strict=True))]  # fmt: skip
            else:
                costs = [cost + link.cost(side, at, other) for at, cost in enumerate(costs)]
        return min(range(len(costs)), key=costs.__getitem__)

    def strike(self, above: Sequence[Sequence[float]], room: float) -> bool:
        """Remove the choices whose entry is above `room`; whether any was."""
        struck = False
        for task, entries in enumerate(above):
            for position, entry in enumerate(entries):
                if entry > room and len(self.problem.weights[task]) > 1:
                    del self.problem.weights[task][self.spots[task][position]]  # type: ignore[attr-defined]
                    struck = True
        return struck


def tighten(problem: Problem, enough: int) -> list[Location] | None:
    """Strike choices from the problem's weights (which must be dicts) until no more than `enough` are left in all.

    A plan that is proven best on the way is returned; else None, and what is left holds a best plan.
    """
    state = _State(problem)
    backward = state.sequence[::-1]
    last = -float("inf")
    for number in range(_ROUNDS):
        state.sweep(state.sequence)
        state.sweep(backward)
        if number % 3 and number > 1:
            continue
        state.decide()
        bound, above = state.bound()
        slack = _EQUAL * (1 + abs(state.best_value))
        if state.best_value - bound <= slack:
            return state.best
        if state.strike(above, state.best_value - bound + slack):
            if sum(len(each) for each in problem.weights) <= enough:
                return None
            state.build(state.kept())
        elif bound - last < 1e-4 * (state.best_value - bound):
            return None
        last = bound
    return None
