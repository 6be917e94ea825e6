"""The catalog at the size of the real ones: a question from a cold process, questions to a warm one, a whole rebuild.

Run as `python benchmarks/catalog.py [--offers 300000] [--runs N] [--reference PYTHON]`; needs the installed
`sky` package. Bars: a cold question 45 ms as a whole process, a warm one 1 ms, rebuilding 300,000 offers 2 s. Prints
medians as JSON; bare Python is measured beside the cold process, since most of that is Python's own start.

With `--reference`, an interpreter that has SkyPilot 0.14, both are asked for the twenty cheapest places with A100:8 on
demand, on the part of that world of which the reference can know the clouds (`reference_world.py`), cold as a whole
process and warm; both must give the same answer.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import reference_world
import worlds

from sky.core.model.catalog import Market, Price, Query
from sky.store.catalog.generations import SEED, Generations
from sky.store.catalog.merge import Fresh, rebuild

COLD = """
import sys
from itertools import islice
from sky.core.model.catalog import Query
from sky.store.catalog.read import CatalogFile
catalog = CatalogFile.current(sys.argv[1])
found = list(islice(catalog.sales(Query(accelerator="A100", accelerator_count=8)), 20))
assert len(found) == 20, found
"""

#: The question that the reference can answer too: of a region it tells one price.
COLD_PLACES = """
import json, sys
from sky.core.model.catalog import Market, Query
from sky.store.catalog.read import CatalogFile
catalog, found = CatalogFile.current(sys.argv[1]), {}
for sale in catalog.sales(Query(accelerator="A100", accelerator_count=8, market=Market.ON_DEMAND)):
    found.setdefault((sale.type.cloud, sale.type.name, sale.region), sale.price)
    if len(found) == 20:
        break
print(json.dumps([[*where, price] for where, price in found.items()]))
"""

QUESTIONS = {
    "A100:8 anywhere": Query(accelerator="A100", accelerator_count=8),
    "8 vCPUs and 32 GiB": Query(min_cpus=8, min_memory_gib=32, accelerator=""),
    "80 GiB devices": Query(min_accelerator_memory_gib=80),
    "8 vCPUs in one region": Query(min_cpus=8, min_memory_gib=32, region="alta-r0"),
    "one type": Query(instance_type="m1.8"),
    "nothing fits": Query(min_cpus=100_000),
}


def walls(commands: dict[str, list[str]], runs: int, env: dict[str, str]) -> dict[str, float]:
    """Median wall time of each command in milliseconds; taken in turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - begin) * 1000)
    return {name: round(statistics.median(each), 1) for name, each in times.items()}


def warm(catalog: Generations, query: Query, runs: int) -> float:
    """Median time for the twenty cheapest in milliseconds, the look for a newer generation included."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        list(itertools.islice(catalog.reader().offers(query), 20))
        times.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(times), 3)


def rebuilds(folder: Path, world: dict[str, list[object]], runs: int) -> dict[str, float]:
    """Median seconds of rebuilding everything over nothing, over itself, and one cloud of it."""
    figures: dict[str, list[float]] = {"rebuild (s)": [], "rebuild over itself (s)": [], "refresh one cloud (s)": []}
    for number in range(runs):
        generations = Generations(folder / str(number), None)
        for name, clouds in zip(figures, (world, world, {"alta": world["alta"]}), strict=True):
            begin = time.perf_counter()
            made = rebuild(generations, {cloud: Fresh(rows) for cloud, rows in clouds.items()})
            figures[name].append(time.perf_counter() - begin)
            assert not any(each.kept for each in made.values()), made
    return {name: round(statistics.median(each), 2) for name, each in figures.items()}


def places(catalog: Generations) -> list[list[object]]:
    """What `COLD_PLACES` prints, from a catalog that is open."""
    found: dict[tuple[str, str, str], float] = {}
    query = Query(accelerator="A100", accelerator_count=8, market=Market.ON_DEMAND)
    for offer in catalog.reader().offers(query):
        found.setdefault((offer.cloud, offer.instance_type, offer.region), offer.price_hourly)
        if len(found) == 20:
            break
    return [[*where, price] for where, price in found.items()]


def side_by_side(python: str, size: float, runs: int) -> dict[str, object]:
    """The same question to the reference, cold and warm, with the medians of both."""
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as made:
        catalog, home, offers = reference_world.both(Path(made), size)
        env = {**reference_world.environment(home), "PYTHONPYCACHEPREFIX": f"{made}/pyc"}
        cold = {
            "ours": [sys.executable, "-c", COLD_PLACES, str(catalog.folder)],
            "reference": reference_world.command(python, "list", "1"),
        }
        walls(cold, 1, env)  # compiled once, as installed
        whole = walls(cold, max(3, runs // 3), env)
        theirs = reference_world.ask(python, home, "list", str(max(3, runs // 3)))
        times = []
        for _ in range(runs):
            begin = time.perf_counter()
            answer = places(catalog)
            times.append((time.perf_counter() - begin) * 1000)
        assert sorted(answer) == sorted(theirs["answer"]), (answer, theirs)
    return {
        "offers": offers,
        "clouds": theirs["clouds"],
        "20 cheapest with A100:8, cold": reference_world.beside(whole["ours"], whole["reference"]),
        "20 cheapest with A100:8, warm": reference_world.beside(statistics.median(times), theirs["ms"]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offers", type=int, default=300_000, help="about how many (300000)")
    parser.add_argument("--runs", type=int, default=15, help="of each question; rebuilds are a fifth of it")
    parser.add_argument("--reference", metavar="PYTHON", help="an interpreter that has SkyPilot 0.14")
    arguments = parser.parse_args()
    world = worlds.world(arguments.offers / reference_world.WHOLE)
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as made:
        folder = Path(made)
        figures: dict[str, object] = {
            "offers": sum(isinstance(row, Price) for rows in world.values() for row in rows),
            "clouds": len(world),
            **rebuilds(folder, world, max(1, arguments.runs // 5)),
        }
        catalog = Generations(folder / "0", None)
        env = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/pyc"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        cold = {
            "python -c pass (ms)": [sys.executable, "-c", "pass"],
            "cold question (ms)": [sys.executable, "-c", COLD, str(folder / "0")],
        }
        walls(cold, 1, env)  # compiled once, as installed
        figures |= walls(cold, arguments.runs, env)
        figures |= {f"{name} (ms)": warm(catalog, query, arguments.runs) for name, query in QUESTIONS.items()}
        figures["file (MB)"] = round(next(folder.glob("0/gen-*.sqlite")).stat().st_size / 1e6, 1)
        if SEED.exists():
            of_seed = Generations(folder / "seed", SEED)
            figures |= {f"seed: {name} (ms)": warm(of_seed, query, arguments.runs) for name, query in QUESTIONS.items()}
    if arguments.reference:
        figures["side by side"] = side_by_side(
            arguments.reference, arguments.offers / reference_world.WHOLE, arguments.runs
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
