"""The reference implementation asked about the CSV files of `reference_world.py`, run by an interpreter that has it.

Run as `PYTHON benchmarks/reference_catalog.py QUESTION RUNS [NAME...]` with SkyPilot 0.14 installed for that
interpreter and HOME where the files are; it imports nothing of ours. `list`: the twenty cheapest places with A100:8.
`plan`: the cheapest machine with eight of any of the names, every cloud taken as enabled. `enable`: write down for a
server that every cloud is. Nothing is sent and no server started. Prints `{"ms": [each run], "answer": ..., "clouds":
how many}`, nothing for `enable`; a first run, which reads the files, is only counted where no other one is.
"""

import json
import sys
import time
from pathlib import Path

CLOUDS = sorted(path.parent.name for path in (Path.home() / ".sky/catalogs/v8").glob("*/vms.csv"))


def cheapest() -> list[list[object]]:
    """Cloud, type, region and price of the twenty cheapest on demand."""
    from sky import catalog  # a whole process is timed, and this question needs no more of it

    found = catalog.list_accelerators(
        name_filter="^A100$", quantity_filter=8, clouds=CLOUDS, all_regions=True, require_price=False
    )
    rows = sorted(found["A100"], key=lambda each: each.price)[:20]
    return [[each.cloud.lower(), each.instance_type, each.region, each.price] for each in rows]


def plan(names: list[str]) -> tuple[float, list[object]]:
    """Milliseconds of optimizing alone, and what was chosen."""
    import sky

    with sky.Dag() as dag:
        sky.Task(run="true").set_resources({sky.Resources(accelerators={name: 8}) for name in names})
    begin = time.perf_counter()
    sky.Optimizer.optimize(dag, quiet=True)
    took = (time.perf_counter() - begin) * 1000
    chosen = dag.tasks[0].best_resources
    return took, [str(chosen.cloud).lower(), chosen.instance_type, chosen.region, chosen.get_cost(3600)]


def enable_all() -> None:
    """Take every cloud with a file as one that the user has access to."""
    from sky.utils import registry

    from sky import check

    clouds = [registry.CLOUD_REGISTRY.from_str(name) for name in CLOUDS]
    check.get_cached_enabled_clouds_or_refresh = lambda *_, **__: clouds


def write_enabled() -> None:
    """The same for all processes of this HOME, as its own check would write it."""
    from sky.utils import registry

    from sky import check, global_user_state
    from sky.clouds import CloudCapability

    names = [str(registry.CLOUD_REGISTRY.from_str(name)) for name in CLOUDS]
    for capability in CloudCapability:
        global_user_state.set_enabled_clouds(names, capability, "default")
    found = check.get_cached_enabled_clouds_or_refresh(CloudCapability.COMPUTE)
    assert len(found) == len(names), (found, names)


def main() -> None:
    """Answer one question as often as asked for, and print."""
    question, runs, *names = sys.argv[1:]
    times, answer = [], []
    if question == "enable":
        write_enabled()
        return
    if question == "plan":
        enable_all()
        for _ in range(int(runs) + 1):
            took, answer = plan(names)
            times.append(took)
    else:
        for _ in range(int(runs) + (runs != "1")):
            begin = time.perf_counter()
            answer = cheapest()
            times.append((time.perf_counter() - begin) * 1000)
    print(json.dumps({"ms": times[1:] or times, "answer": answer, "clouds": len(CLOUDS)}))


if __name__ == "__main__":
    main()
