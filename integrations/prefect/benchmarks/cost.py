"""What this integration costs beyond Prefect and the SDK, in milliseconds; run by `benchmarks/integrations.py prefect`.

Import: after what a flow, a task and a worker need of Prefect. Submitting: what `run_sky_task` does in a flow's run
until `sky.launch` is called, less what a task with an empty body takes in the same flow.
"""

import os
import time
from pathlib import Path
from typing import Any

from costs import import_ms, launches_noted, median, plain_launch, report

BEFORE = """
from prefect import flow, task
import prefect.workers.base, prefect.blocks.core, prefect.artifacts, prefect.variables
@task
def one(a: str, b: dict | None = None) -> str: ...
@flow
def two(a: str, b: dict | None = None) -> str: ...
"""
MODULES = ("prefect_sky", "sky_train_flow", "prefect_sky.collection")


def measure(runs: int) -> dict[str, Any]:
    imports = {module: import_ms(BEFORE, f"import {module}", runs) for module in MODULES}

    import sky
    from prefect import flow, task
    from prefect.testing.utilities import prefect_test_harness

    from prefect_sky import run_sky_task

    folder, real = os.environ["HOME"], sky.launch
    Path(folder, "t.yaml").write_text("resources: {infra: local}\nrun: 'true'\n", encoding="utf-8")
    took: list[tuple[float, float]] = []

    def answered(wanted: Any, cluster_name: str, **_options: Any) -> Any:
        return real(wanted, cluster_name=cluster_name, dryrun=True)

    @task
    def empty() -> float:
        return time.perf_counter()

    @flow
    def measured() -> None:
        began = time.perf_counter()
        reached = empty()
        between = time.perf_counter()
        run_sky_task(folder, "t.yaml")
        took.append((1e3 * (marks[-2] - between), 1e3 * (reached - began)))

    calls, call = [], plain_launch()
    with prefect_test_harness(server_startup_timeout=300), launches_noted(answered) as marks:
        for _ in range(runs + 1):
            measured()
            calls.append(call())
    ours, nothing = zip(*took[1:], strict=True)
    return {
        "import_ms": imports,
        "submit_ms": {"run_sky_task": round(median(list(ours)) - median(list(nothing)), 1)},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("prefect", measure, PREFECT_LOGGING_LEVEL="ERROR", PREFECT_SERVER_ANALYTICS_ENABLED="false")
