"""The reference implementation on problems that `benchmarks/optimizer.py` wrote, run by an interpreter that has it.

Run as `PYTHON benchmarks/reference_optimizer.py FILE` with SkyPilot 0.14 (and its solver, PuLP with CBC) installed for
that interpreter; it imports nothing of ours. Each problem has tasks with the cost of each of their candidates, and
edges with GB; its dynamic programming is asked for chains, its integer program for other graphs. Only the optimizing
itself is timed: chains five times, for their median, graphs once, since they take seconds. Prints a JSON list of
`{"ms", "objective"}`.
"""

import json
import statistics
import sys
import time
from types import SimpleNamespace

import networkx
from sky.optimizer import Optimizer

from sky import clouds


class Place(clouds.Cloud):
    """A cloud with a price for what leaves it; none of it is looked up in catalogs."""

    def __init__(self, name: str, usd_per_gb: float) -> None:
        self._name, self._usd = name, usd_per_gb

    def get_egress_cost(self, num_gigabytes: float) -> float:
        return self._usd * num_gigabytes

    def is_same_cloud(self, other: clouds.Cloud) -> bool:
        return self is other


class Work:
    """What the optimizer reads of a task."""

    def __init__(self, name: str, gigabytes: float = 0.0) -> None:
        self.name, self.gigabytes, self.best_resources = name, gigabytes, None
        self.resources: list[SimpleNamespace] = []

    def get_inputs(self) -> None:
        return None

    def get_estimated_outputs_size_gigabytes(self) -> float:
        return self.gigabytes


class Choice:
    """A candidate: it is told apart from others by being another object."""

    def __init__(self, cloud: clouds.Cloud) -> None:
        self.cloud = cloud


def run(problem: dict) -> dict:
    """Solve one problem the way the reference does."""
    places = {name: Place(name, usd) for name, usd in problem["egress"].items()}
    works = [Work(f"t{number}") for number in range(len(problem["tasks"]))]
    for first, _, gigabytes in problem["edges"]:
        works[first].gigabytes = gigabytes
    source, sink = Work("skypilot-dummy-source"), Work("skypilot-dummy-sink")
    nothing = Choice(clouds.DummyCloud())
    costs = {source: {nothing: 0.0}}
    for work, candidates in zip(works, problem["tasks"], strict=True):
        costs[work] = {Choice(places[name.partition("/")[0]]): cost for name, cost in candidates.items()}
    costs[sink] = {Choice(clouds.DummyCloud()): 0.0}
    for work, table in costs.items():
        work.resources = list(table)
    graph = networkx.DiGraph()
    graph.add_nodes_from([source, *works, sink])
    graph.add_edges_from((works[first], works[second]) for first, second, _ in problem["edges"])
    for work in works:
        if not graph.in_degree(work):
            graph.add_edge(source, work)
        if not graph.out_degree(work):
            graph.add_edge(work, sink)
    order = [source, *works, sink]
    times, objective = [], 0.0
    for _ in range(5 if problem["chain"] else 1):
        begin = time.perf_counter()
        if problem["chain"]:
            _, objective = Optimizer._optimize_by_dp(order, costs)
        else:
            _, objective = Optimizer._optimize_by_ilp(graph, order, costs)
        times.append((time.perf_counter() - begin) * 1000)
    return {"ms": statistics.median(times), "objective": objective}


if __name__ == "__main__":
    with open(sys.argv[1]) as file:  # noqa: PTH123 - plain, for whatever interpreter this is
        print(json.dumps([run(problem) for problem in json.load(file)]))
