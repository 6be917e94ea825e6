"""What this plugin costs beyond flytekit and the SDK, in milliseconds; run by `benchmarks/integrations.py flyte`.

Import: of what flytekit's entry point loads, after flytekit without it. Submitting, until `sky.launch` is called: of a
task in local execution, flytekit's making of its template included; and of the connector's `create` in it.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from costs import Reached, import_ms, launches_noted, median, plain_launch, report

BEFORE = """
import importlib.metadata as metadata
real = metadata.entry_points
metadata.entry_points = lambda **asked: [] if asked.get("group") == "flytekit.plugins" else real(**asked)
import flytekit, sys
assert "flytekitplugins.skypilot" not in sys.modules
"""
TASK = """
from flytekit import task
from flytekitplugins.skypilot import SkyPilot
@task(task_config=SkyPilot(cluster_name="bench", resources={"infra": "local"}))
def one(a: int) -> int:
    return a
"""


def begun_at(owner: type, name: str, moments: list[float]) -> None:
    """Have a method note when it is called."""
    real = getattr(owner, name)

    def noted(*words: Any, **named: Any) -> Any:
        moments.append(time.perf_counter())
        return real(*words, **named)

    setattr(owner, name, noted)


def measure(runs: int) -> dict[str, Any]:
    imported = import_ms(BEFORE, "import flytekitplugins.skypilot.connector", runs)

    from flytekitplugins.skypilot.connector import SkyPilotConnector
    from flytekitplugins.skypilot.task import SkyPilotFunctionTask

    home = Path(os.environ["HOME"], "w")
    home.mkdir()
    (home / "work_of_bench.py").write_text(TASK, encoding="utf-8")
    sys.path.insert(0, str(home))
    from work_of_bench import one  # type: ignore[import-not-found]

    executed: list[float] = []
    created: list[float] = []
    begun_at(SkyPilotFunctionTask, "execute", executed)
    begun_at(SkyPilotConnector, "create", created)
    whole, part, calls, call = [], [], [], plain_launch()
    with launches_noted() as marks:
        for number in range(runs + 1):
            reached = len(marks)
            with contextlib.suppress(Exception):
                one(a=number)
            if len(marks) != reached + 1:
                raise Reached("The task did not come to sky.launch, or came there twice.")
            whole.append(1e3 * (marks[-1] - executed[-1]))
            part.append(1e3 * (marks[-1] - created[-1]))
            calls.append(call())
    return {
        "import_ms": {"flytekitplugins.skypilot": imported},
        "submit_ms": {"task": median(whole[1:]), "create": median(part[1:])},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("flytekit", measure)
