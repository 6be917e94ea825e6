"""What this integration costs beyond Prefect and the SDK: `python benchmarks/cost.py [RUNS]`. Figures in milliseconds.

Import: each module in a fresh interpreter that has imported of Prefect what a flow, a task and a worker need, and has
defined a flow and a task, as every program that uses Prefect does. Time of the processor.
Submitting: what `run_sky_task` does until `sky.launch` is called, in a run of a flow, less what a task with an empty
body takes in the same flow.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BEFORE = """
from prefect import flow, task
import prefect.workers.base, prefect.blocks.core, prefect.artifacts, prefect.variables
@task
def one(a: str, b: dict | None = None) -> str: ...
@flow
def two(a: str, b: dict | None = None) -> str: ...
"""
MODULES = ("prefect_sky", "sky_train_flow", "prefect_sky.collection")


def imported(module: str) -> float:
    """Milliseconds of the processor that one import takes."""
    code = f"{BEFORE}\nimport time; t = time.process_time()\nimport {module}\nprint((time.process_time() - t) * 1e3)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def submitting(runs: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds until the SDK is called, of an empty task until its body, and of the SDK's own call."""
    import sky
    from prefect import flow, task
    from prefect.testing.utilities import prefect_test_harness

    from prefect_sky import run_sky_task
    from prefect_sky import runs as ours

    reached: list[float] = []
    real = sky.launch

    def noted(*words: object, **named: object) -> object:
        reached.append(time.perf_counter())
        return real(*words, dryrun=True, **{name: value for name, value in named.items() if name != "down"})

    @task
    def empty() -> None:
        reached.append(time.perf_counter())

    @flow
    def measured(folder: str) -> tuple[float, float, float]:
        began = time.perf_counter()
        empty()
        between = time.perf_counter()
        run_sky_task(folder, "t.yaml")
        plain = sky.Task(run="true").set_resources(sky.Resources(infra="local"))
        first, second = reached[-2:]
        call = time.perf_counter()
        real(plain, cluster_name="bench", dryrun=True)
        return second - between, first - began, time.perf_counter() - call

    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=300):
        (Path(folder) / "t.yaml").write_text("resources: {infra: local}\nrun: 'true'\n")
        sky.launch = noted
        assert ours is not None
        measured(folder)
        found = [measured(folder) for _ in range(runs)]
        sky.api_stop()
    ours_s, empty_s, call_s = zip(*found, strict=True)
    return [1e3 * each for each in ours_s], [1e3 * each for each in empty_s], [1e3 * each for each in call_s]


def main(runs: int) -> None:
    """Print medians."""
    for module in MODULES:
        imported(module)
        found = [imported(module) for _ in range(runs)]
        print(f"import {module}: {statistics.median(found):.0f} ms above Prefect (best {min(found):.0f}; bar 50)")
    ours, empty, call = submitting(runs)
    added = statistics.median(ours) - statistics.median(empty)
    ready = statistics.median(ours)
    print(f"an empty task: {statistics.median(empty):.0f} ms; run_sky_task until sky.launch: {ready:.0f} ms")
    print(
        f"submitting adds {added:.0f} ms to the SDK call (bar 50), which itself takes {statistics.median(call):.0f} ms"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pfxb-") as home:
        os.environ |= {
            "HOME": home, "PREFECT_HOME": f"{home}/.prefect", "DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }  # fmt: skip
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
