"""Plans on a catalog of 300,000 offers: one task with eight alternatives, a chain of 100 tasks, a graph of 50.

Run as `python benchmarks/optimizer.py [--offers 300000] [--runs N] [--reference PYTHON]`; needs the installed `sky`
package, and highspy (the extra `optimizer`) for the graphs. Bars: one task 15 ms, the chain 150 ms with the search for
its candidates, the graph 2 s. Prints medians in milliseconds as JSON.

With `--reference`, an interpreter that has SkyPilot 0.14, chains and graphs of the same sizes are also given to its
optimizer (`reference_optimizer.py`), in its own model (prices between clouds only); both must reach the same objective.
And the task with eight alternatives is planned by both on the part of the world of which it can know the clouds
(`reference_world.py`); both must choose the same.
"""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import reference_world
import worlds

from sky.core.model.catalog import Egress, Quality
from sky.core.model.dags import DagSpec
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer import dags
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.coupled import Distances, Edge, Problem
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.gravity import Holding
from sky.core.optimizer.plan import plan_task
from sky.core.optimizer.several import plan_dag
from sky.core.optimizer.transfers import Tariff, tariff
from sky.store.catalog.generations import Generations
from sky.store.catalog.merge import Fresh, rebuild

EIGHT = ("A100", "A100-80GB", "H100", "H200", "L4", "T4", "V100", "MI300X")
#: What the tasks of the chain ask for, by turns of chance.
KINDS: tuple[dict[str, object], ...] = (
    {"accelerators": "A100:8"}, {"accelerators": "H100:8"}, {"accelerators": "L4:1"}, {"accelerators": "T4:1"},
    {"accelerators": "80GB+:1"}, {}, {"cpus": "8"}, {"cpus": "16+", "memory": "64+"}, {"cpus": "4", "memory": "16"},
    {"cpus": "32+"},
)  # fmt: skip


def median(call: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Median time in milliseconds, and the last answer."""
    times, answer = [], None
    for _ in range(runs):
        begin = time.perf_counter()
        answer = call()
        times.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(times), 2), answer


def prices(places: list[Any] | None = None) -> Tariff:
    """What leaves a cloud costs 9 cents per GB, and 2 cents to another region of it."""
    rows = [
        Egress(cloud, "*", to, usd, Quality.LIST, "made up")
        for cloud in worlds.clouds()
        for to, usd in (("internet", 0.09), ("region", 0.02))
    ]
    return tariff(rows, places or ())


def chain(length: int) -> DagSpec:
    """Tasks of ten kinds in any order; each hands up to 200 GB on."""
    chance = random.Random(0)
    made = ({"resources": chance.choice(KINDS), "outputs": {"s3://b": chance.uniform(0, 200)}} for _ in range(length))
    return DagSpec(tuple(TaskSpec.from_config(each) for each in made))


def graph(seed: int, tasks: int, candidates: int, edges: int, *, within: float, sequence: bool = False) -> Problem:
    """A random problem over 20 clouds of 10 regions; `within`: USD per GB between regions of one cloud."""
    chance = random.Random(seed)
    locations = [(f"c{cloud}", f"r{region}") for cloud in range(20) for region in range(10)]
    weights = [{where: chance.uniform(1, 30) for where in chance.sample(locations, candidates)} for _ in range(tasks)]
    # The reference knows one size per task, whatever the edge.
    outputs = [chance.uniform(0, 300) for _ in range(tasks)]
    pairs = (
        [(task, task + 1) for task in range(tasks - 1)]
        if sequence
        else sorted(tuple(sorted(chance.sample(range(tasks), 2))) for _ in range(edges))
    )
    rows = []
    for cloud in range(20):
        rows.append(Egress(f"c{cloud}", "*", "internet", chance.choice([0.05, 0.09, 0.12]), Quality.LIST, "made up"))
        rows.append(Egress(f"c{cloud}", "*", "region", within, Quality.LIST, "made up"))
    links = [Edge(first, second, outputs[first]) for first, second in dict.fromkeys(pairs)]
    return Problem(weights, links, Distances(locations, tariff(rows)))


def ours(problem: Problem) -> tuple[float, float]:
    """Milliseconds and objective."""
    begin = time.perf_counter()
    chosen = dags.solve(problem)
    return (time.perf_counter() - begin) * 1000, problem.value(chosen)


def written(problem: Problem, sequence: bool) -> dict[str, object]:
    """A problem as `reference_optimizer.py` reads it."""
    egress = {f"c{cloud}": problem.distances.unit((f"c{cloud}", "r0"), (f"c{1 - min(cloud, 1)}", "r1"))
              for cloud in range(20)}  # fmt: skip
    return {
        "chain": sequence,
        "egress": egress,
        "tasks": [{"/".join(where): cost for where, cost in each.items()} for each in problem.weights],
        "edges": [list(edge) for edge in problem.edges],
    }


def alternatives(python: str, size: float, runs: int) -> dict[str, object]:
    """The task with eight alternatives planned by both, warm; the reference needs seconds, so it gets fewer runs."""
    task = TaskSpec.from_config({"resources": {"any_of": [{"accelerators": f"{name}:8"} for name in EIGHT]}})
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as folder:
        generations, home, offers = reference_world.both(Path(folder), size)
        catalog = generations.reader()
        took, made = median(lambda: plan_task(task, catalog, Conditions(), Goal.COST), runs)
        theirs = reference_world.ask(python, home, "plan", str(max(1, runs // 5)), *EIGHT)
    best = made.placements[0].offer
    chosen = [best.cloud, best.instance_type, best.region, best.price_hourly]
    assert chosen == theirs["answer"], (chosen, theirs)
    return {"offers": offers, "clouds": theirs["clouds"], **reference_world.beside(took, theirs["ms"])}


def side_by_side(python: str, graphs: int) -> dict[str, object]:
    """Our times beside those of the reference, on the same problems; each is made anew for every run of ours."""
    problems = {
        f"chain of 100 x {size}": partial(graph, 1, 100, size, 0, within=0.0, sequence=True) for size in (40, 200)
    }
    problems |= {f"graph of 50 x 40 ({seed})": partial(graph, seed, 50, 40, 60, within=0.0) for seed in range(graphs)}
    script = Path(__file__).with_name("reference_optimizer.py")
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as folder:
        file = Path(folder) / "problems.json"
        file.write_text(json.dumps([written(make(), "chain" in name) for name, make in problems.items()]))
        env = reference_world.environment(Path(folder))
        done = subprocess.run([python, str(script), str(file)], capture_output=True, text=True, env=env, check=True)
    figures: dict[str, object] = {}
    for (name, make), theirs in zip(problems.items(), json.loads(done.stdout.splitlines()[-1]), strict=True):
        times, (value, *_) = zip(*(ours(make()) for _ in range(5)), strict=True)
        assert abs(value - theirs["objective"]) < 1e-6 * (1 + value), (name, value, theirs)
        figures[name] = reference_world.beside(statistics.median(times), theirs["ms"])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offers", type=int, default=300_000, help="about how many (300000)")
    parser.add_argument("--runs", type=int, default=11, help="of each plan; graphs are a third of it")
    parser.add_argument("--reference", help="an interpreter that has SkyPilot 0.14")
    arguments = parser.parse_args()
    runs, graphs = arguments.runs, max(1, arguments.runs // 3)
    eight = TaskSpec.from_config({"resources": {"any_of": [{"accelerators": f"{name}:8"} for name in EIGHT]}})
    plain = TaskSpec.from_config({})
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as folder:
        generations = Generations(Path(folder), None)
        world = worlds.world(arguments.offers / reference_world.WHOLE)
        rebuild(generations, {cloud: Fresh(rows) for cloud, rows in world.items()})
        catalog = generations.reader()
        rates = prices(catalog.places())
        data = Conditions(tariff=rates, holdings=(Holding("alta", "alta-r3", 1200.0),))
        for name, task, conditions, goal in (
            ("8 alternatives", eight, Conditions(), Goal.COST),
            ("8 alternatives, 1.2 TB of data", eight, data, Goal.COST),
            ("8 alternatives, expected cost", eight, Conditions(), Goal.EXPECTED),
            ("8 vCPUs or more", plain, Conditions(), Goal.COST),
        ):
            figures[f"{name} (ms)"], made = median(
                lambda t=task, c=conditions, g=goal: plan_task(t, catalog, c, g), runs
            )
            assert made.placements, name
        whole = chain(100)
        for goal in (Goal.COST, Goal.TIME):
            took, made = median(lambda g=goal: plan_dag(whole, catalog, Conditions(tariff=rates), g), runs)
            assert made.total is not None
            figures[f"chain of 100, {goal} (ms)"] = took
    times = [ours(graph(seed, 50, 40, 60, within=0.02))[0] for seed in range(graphs)]
    figures["graph of 50 x 40 (ms)"] = round(statistics.median(times), 1)
    figures["graph of 50 x 40, slowest (ms)"] = round(max(times), 1)
    figures["side by side"] = (
        {
            "8 alternatives": alternatives(arguments.reference, arguments.offers / reference_world.WHOLE, runs),
            **side_by_side(arguments.reference, graphs),
        }
        if arguments.reference
        else "skipped: give --reference PYTHON, an interpreter that has SkyPilot 0.14"
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
