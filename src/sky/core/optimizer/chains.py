"""Chains, trees and forests of tasks, solved exactly by dynamic programming in time linear in their locations.

`dags` asks first whether a problem is of this kind. Bottom up, each task learns for each of its locations the best
total of what hangs below it. The minimum over the other task's locations is taken by classes of distance: the best
of each class, and the same location, which is free.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sky.core.optimizer.coupled import Edge, Problem, incoming, outgoing
from sky.core.optimizer.transfers import Location

_FAR = float("inf")


class _Choices(NamedTuple):
    """The locations of one task in one order: weights, classes of distance (`kinds` without repeats), positions."""

    places: list[Location]
    weights: list[float]
    classes: list[int]
    kinds: list[int]
    positions: dict[Location, int]


class _Message(NamedTuple):
    """For each location of a task, by position: the total below, and the position of the task below then."""

    totals: list[float]
    positions: list[int]


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
    choices = _choices(problem)
    messages: dict[tuple[int, int], _Message] = {}
    totals = [each.weights for each in choices]
    for task in reversed(down):
        told = []
        for edge, child in zip(below[task], children[task], strict=True):
            message = _message(problem, edge, (choices[child], totals[child]), choices[task], edge.source == child)
            messages[task, child] = message
            told.append(message.totals)
        if told:
            sums = told[0] if len(told) == 1 else [joined(each) for each in zip(*told, strict=True)]
            totals[task] = [weight + total for weight, total in zip(choices[task].weights, sums, strict=True)]
    chosen: dict[int, int] = {}
    for task in down:
        if task in roots:
            chosen[task] = min(zip(totals[task], choices[task].places, range(len(totals[task])), strict=True))[2]
        for child in children[task]:
            chosen[child] = messages[task, child].positions[chosen[task]]
    return [choices[task].places[chosen[task]] for task in range(len(children))]


def _choices(problem: Problem) -> list[_Choices]:
    """The choices of each task; tasks that ask for the same share theirs."""
    classes = problem.distances.classes
    known: dict[int, _Choices] = {}
    for each in problem.weights:
        if id(each) not in known:
            places = list(each)
            positions = {where: at for at, where in enumerate(places)}
            of_each = [classes[where] for where in places]
            known[id(each)] = _Choices(places, list(each.values()), of_each, sorted(set(of_each)), positions)
    return [known[id(each)] for each in problem.weights]


def _top_down(roots: Sequence[int], children: Sequence[Sequence[int]]) -> list[int]:
    found = list(roots)
    for task in found:
        found.extend(children[task])
    return found


def _message(
    problem: Problem, edge: Edge, child: tuple[_Choices, list[float]], parent: _Choices, inwards: bool
) -> _Message:
    """For each location of the parent the least of child total plus transfer, and where the child then is."""
    theirs, totals = child
    distances, gigabytes, places = problem.distances, edge.gigabytes, theirs.places
    far, floors = (distances.into, distances.least_into) if inwards else (distances.out_of, distances.least_out_of)
    # Lists by the number of a class: this runs for every pair of tasks, and dictionaries would take twice as long.
    best, best_at = [_FAR] * len(far), [0] * len(far)
    for at, of_class in enumerate(theirs.classes):
        total = totals[at]
        if total < best[of_class] or (total == best[of_class] and places[at] < places[best_at[of_class]]):
            best[of_class], best_at[of_class] = total, at
    firsts = sorted([(best[each], each) for each in theirs.kinds])
    least, least_at = [_FAR] * len(far), [0] * len(far)
    for mine in parent.kinds:
        row, floor = far[mine], gigabytes * floors[mine]
        nearest, nearest_kind = best[mine] + gigabytes * row[mine], mine
        for total, other in firsts:
            # From elsewhere it costs at least this, and nothing further down is cheaper there.
            if total + floor >= nearest:
                break
            with_transfer = total + gigabytes * row[other]
            if with_transfer < nearest:
                nearest, nearest_kind = with_transfer, other
        least[mine], least_at[mine] = nearest, best_at[nearest_kind]
    found = [least[each] for each in parent.classes]
    positions = [least_at[each] for each in parent.classes]
    # The best of a class may be this very location, priced as if it were another: being here is never dearer.
    for where in parent.positions.keys() & theirs.positions.keys():
        at, here = parent.positions[where], theirs.positions[where]
        if totals[here] <= found[at]:
            found[at], positions[at] = totals[here], here
    return _Message(found, positions)
