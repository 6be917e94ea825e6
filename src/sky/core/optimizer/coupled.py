"""Tasks that move data to each other, in numbers: what each choice costs, and what its distance to the others costs.

`several` makes a `Problem`, `chains` and `dags` solve it, `solver` is their last resort. Only the best candidate of a
task at each location counts, so a choice is a location. Costs are in the unit of the goal: USD, or hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sky.core.optimizer.transfers import Location, Tariff

#: Where hours are made small, a USD counts for so many: it decides among plans that are equally fast.
HOURS_PER_USD = 1e-9


class Edge(NamedTuple):
    """`source` (position of a task) hands so many GB to `target`."""

    source: int
    target: int
    gigabytes: float


class Distances:
    """What one GB costs between any two of some locations: nothing at the same one, else by the classes of both.

    Locations of one class cost the same to and from every other location, so minima over many locations are minima
    over few classes. `hours`: hours are counted, else USD, with `hour_usd` for each hour that a transfer takes.
    """

    def __init__(
        self, locations: Iterable[Location], tariff: Tariff, *, hours: bool = False, hour_usd: float = 0.0
    ) -> None:
        self._hours = hours
        self._hour_usd = hour_usd
        #: The number of each location's class.
        self.classes: dict[Location, int] = {}
        exceptions = {(cloud, scope) for (cloud, _), row in tariff.rates.items() for scope in row}
        by_continent = {cloud for (cloud, _), row in tariff.rates.items() if "continent" in row}
        known: dict[object, int] = {}
        members: list[list[Location]] = []
        for location in sorted(set(locations)):
            cloud, region = location
            own = region if location in tariff.rates or location in exceptions else None
            key = (cloud, own, tariff.continents.get(location) if cloud in by_continent else None)
            number = known.setdefault(key, len(members))
            if number == len(members):
                members.append([])
            members[number].append(location)
            self.classes[location] = number
        self._unit = [[self._between(a, b, tariff) for b in members] for a in members]
        #: By class: what one GB costs from there to each class, and from each class to there.
        self.out_of = self._unit
        self.into = [list(column) for column in zip(*self._unit, strict=True)]
        #: By class: the least of these to or from any other class.
        self.least_out_of = _least_elsewhere(self.out_of)
        self.least_into = _least_elsewhere(self.into)
        self.most = max((one for row in self._unit for one in row), default=0.0)

    def _between(self, sources: Sequence[Location], targets: Sequence[Location], tariff: Tariff) -> float:
        """Two different members stand for all; a class of one location has no distance to itself."""
        source = sources[0]
        target = next((each for each in reversed(targets) if each != source), None)
        if target is None:
            return 0.0
        one = tariff.transfer(source, target, 1.0)
        return one.hours + one.usd * HOURS_PER_USD if self._hours else one.usd + one.hours * self._hour_usd

    def class_of(self, location: Location) -> int:
        """The number of a location's class."""
        return self.classes[location]

    def unit(self, source: Location, target: Location) -> float:
        """For one GB from one location to another."""
        return 0.0 if source == target else self._unit[self.classes[source]][self.classes[target]]

    def by_class(self, source: int, target: int) -> float:
        """For one GB between different locations of two classes."""
        return self._unit[source][target]


@dataclass(frozen=True, slots=True)
class Problem:
    """`weights`: for each task its locations and what it costs there (never none). `edges` form no cycle.

    `longest`: the objective is the longest path through the tasks, not the sum.
    """

    weights: Sequence[Mapping[Location, float]]
    edges: Sequence[Edge]
    distances: Distances
    longest: bool = False

    def value(self, chosen: Sequence[Location]) -> float:
        """The objective of one location per task."""
        unit = self.distances.unit
        if not self.longest:
            total = sum(self.weights[task][where] for task, where in enumerate(chosen))
            return total + sum(edge.gigabytes * unit(chosen[edge.source], chosen[edge.target]) for edge in self.edges)
        ends: dict[int, float] = {}
        into = incoming(self)
        for task in order(len(self.weights), self.edges):
            begin = max(
                (ends[edge.source] + edge.gigabytes * unit(chosen[edge.source], chosen[task]) for edge in into[task]),
                default=0.0,
            )
            ends[task] = begin + self.weights[task][chosen[task]]
        return max(ends.values(), default=0.0)


def _least_elsewhere(table: Sequence[Sequence[float]]) -> list[float]:
    return [
        min((one for column, one in enumerate(row) if column != number), default=0.0)
        for number, row in enumerate(table)
    ]


def incoming(problem: Problem) -> list[list[Edge]]:
    """For each task the edges that lead to it."""
    found: list[list[Edge]] = [[] for _ in problem.weights]
    for edge in problem.edges:
        found[edge.target].append(edge)
    return found


def outgoing(problem: Problem) -> list[list[Edge]]:
    """For each task the edges that lead away from it."""
    found: list[list[Edge]] = [[] for _ in problem.weights]
    for edge in problem.edges:
        found[edge.source].append(edge)
    return found


def order(count: int, edges: Iterable[Edge]) -> list[int]:
    """Tasks so that every one comes after those it depends on. Raises ValueError for a cycle."""
    missing = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for edge in edges:
        missing[edge.target] += 1
        after[edge.source].append(edge.target)
    ready = [task for task in range(count) if not missing[task]]
    for task in ready:
        for each in after[task]:
            missing[each] -= 1
            if not missing[each]:
                ready.append(each)
    if len(ready) != count:
        raise ValueError("found tasks that wait for each other in a circle; allowed: edges from earlier to later tasks")
    return ready
