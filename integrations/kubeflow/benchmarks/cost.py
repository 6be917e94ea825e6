"""What this integration costs beyond kfp and the SDK, in milliseconds; run by `benchmarks/integrations.py kubeflow`.

Import: after kfp and a component, as in every program that writes pipelines. Submitting: what a component does in its
pod until `sky.launch` is called, once `sky` is loaded.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from costs import Reached, import_ms, launches_noted, median, plain_launch, report

# A component is read from its file.
COMPONENT = """
from typing import NamedTuple
from kfp import dsl
@dsl.component
def one(a: str, log: dsl.Output[dsl.Artifact], b: dict = {}) -> NamedTuple("Outputs", [("c", str)]): ...
"""


def measure(runs: int) -> dict[str, Any]:
    home = os.environ["HOME"]
    Path(home, "kfp_before.py").write_text(COMPONENT, encoding="utf-8")
    before = f"import sys; sys.path.insert(0, {home!r})\nfrom kfp import compiler, dsl\nimport kfp_before"
    imported = import_ms(before, "from kfp_sky import sky_task, sky_down", runs)

    from kfp_sky.step import run_task

    task = {"resources": {"infra": "local"}, "run": "true"}
    took, calls, call = [], [], plain_launch()
    with launches_noted() as marks:
        for _ in range(runs + 1):
            began = time.perf_counter()
            with contextlib.suppress(Reached):
                run_task(
                    task, log_path=f"{home}/log", env={}, cluster_name="", managed=False, secret_variables=[],
                    endpoint="",
                )  # fmt: skip
            took.append(1e3 * (marks[-1] - began))
            calls.append(call())
    return {
        "import_ms": {"kfp_sky": imported},
        "submit_ms": {"sky_task": median(took[1:])},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("kfp", measure)
