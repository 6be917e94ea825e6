"""Chains, trees and forests of tasks, solved exactly by dynamic programming in time linear in their locations.

`dags` asks first whether a problem is of this kind. Bottom up, each task learns for each of its locations the best
total of what hangs below it. The minimum over the other task's locations is taken by classes of distance: the best
of each class, and the same location, which is free.
"""

from collections.abc import Callable, Mapping, Sequence

from sky.core.optimizer.coupled import Edge, Problem, incoming, outgoing
from sky.core.optimizer.transfers import Location

#: For each location of one task: the total below, and where the task below is then put.
_Message = dict[Location, tuple[float, Location]]


def solve(problem: Problem) -> list[Location] | None:
    """The best location of each task; None where the tasks do not form a forest that this can solve exactly.

    The sum is solved on every forest. The longest path where no task has two successors, or none two predecessors.
    """
    count = len(problem.weights)
    if problem.longest:
        if all(len(edges) <= 1 for edges in outgoing(problem)):
            return _solve(problem, incoming(problem), max_of)
        if all(len(edges) <= 1 for edges in incoming(problem)):
            return _solve(problem, outgoing(problem), max_of)
        return None
    below = _rooted(count, problem.edges)
    return None if below is None else _solve(problem, below, sum_of)


def sum_of(parts: Sequence[float]) -> float:
    """Costs below add up."""
    return sum(parts)


def max_of(parts: Sequence[float]) -> float:
    """The longest of the paths below counts."""
    return max(parts, default=0.0)


def _rooted(count: int, edges: Sequence[Edge]) -> list[list[Edge]] | None:
    """For each task the edges to its children, whichever way they point; None if there is a circle without arrows."""
    near: list[list[Edge]] = [[] for _ in range(count)]
    for edge in edges:
        near[edge.source].append(edge)
        near[edge.target].append(edge)
    below: list[list[Edge]] = [[] for _ in range(count)]
    seen = [False] * count
    for root in range(count):
        if seen[root]:
            continue
        seen[root] = True
        stack: list[tuple[int, Edge | None]] = [(root, None)]
        while stack:
            task, came = stack.pop()
            for edge in near[task]:
                if edge is came:
                    continue
                child = edge.target if edge.source == task else edge.source
                if seen[child]:
                    return None
                seen[child] = True
                below[task].append(edge)
                stack.append((child, edge))
    return below


def _solve(
    problem: Problem, below: Sequence[Sequence[Edge]], joined: Callable[[Sequence[float]], float]
) -> list[Location]:
    children = [[edge.source + edge.target - task for edge in edges] for task, edges in enumerate(below)]
    roots = set(range(len(children))) - {child for each in children for child in each}
    down = _top_down(sorted(roots), children)
    messages: dict[tuple[int, int], _Message] = {}
    totals: list[Mapping[Location, float]] = list(problem.weights)
    for task in reversed(down):
        own = problem.weights[task]
        told = []
        for edge, child in zip(below[task], children[task], strict=True):
            message = _message(problem, totals[child], edge, child, own)
            messages[task, child] = message
            told.append(message)
        if told:
            if len(told) == 1:
                totals[task] = {where: weight + told[0][where][0] for where, weight in own.items()}
            else:
                totals[task] = {
                    where: weight + joined([message[where][0] for message in told]) for where, weight in own.items()
                }
    chosen: dict[int, Location] = {}
    for task in down:
        if task in roots:
            chosen[task] = min(totals[task], key=lambda where: (totals[task][where], where))
        for child in children[task]:
            chosen[child] = messages[task, child][chosen[task]][1]
    return [chosen[task] for task in range(len(children))]


def _top_down(roots: Sequence[int], children: Sequence[Sequence[int]]) -> list[int]:
    found = list(roots)
    for task in found:
        found.extend(children[task])
    return found


def _message(
    problem: Problem, totals: Mapping[Location, float], edge: Edge, child: int, targets: Mapping[Location, float]
) -> _Message:
    """For each location of the parent the least of child total plus transfer, and where the child then is."""
    classes, gigabytes = problem.distances.classes, edge.gigabytes
    best: dict[int, tuple[float, Location]] = {}
    for where, total in totals.items():
        of_class = classes[where]
        known = best.get(of_class)
        if known is None or total < known[0] or (total == known[0] and where < known[1]):
            best[of_class] = (total, where)
    distances, inwards = problem.distances, edge.source == child
    far, floors = (distances.into, distances.least_into) if inwards else (distances.out_of, distances.least_out_of)
    firsts = sorted([(total, there, of_class) for of_class, (total, there) in best.items()])
    through: dict[int, tuple[float, Location]] = {}
    found: _Message = {}
    for where in targets:
        mine = classes[where]
        least = through.get(mine)
        if least is None:
            row, floor = far[mine], gigabytes * floors[mine]
            own = best.get(mine)
            least = (float("inf"), where) if own is None else (own[0] + gigabytes * row[mine], own[1])
            for total, there, other in firsts:
                # From elsewhere it costs at least this, and nothing further down is cheaper there.
                if total + floor >= least[0]:
                    break
                with_transfer = total + gigabytes * row[other]
                if with_transfer < least[0]:
                    least = (with_transfer, there)
            through[mine] = least
        # The best of a class may be this very location, priced as if it were another: being here is never dearer.
        if where in totals and totals[where] <= least[0]:
            found[where] = (totals[where], where)
        else:
            found[where] = least
    return found
