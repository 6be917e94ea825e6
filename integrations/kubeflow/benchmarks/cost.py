"""What this integration costs beyond kfp and the SDK: `python benchmarks/cost.py [RUNS]`. Figures in milliseconds.

Import: in a fresh interpreter that has imported kfp and made a component, as every program that writes pipelines does.
Time of the processor. Submitting: what a component does in its pod until `sky.launch` is called, once `sky` is loaded.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

BEFORE = """
from typing import NamedTuple
from kfp import compiler, dsl
import kfp_before
"""
COMPONENT = """
from typing import NamedTuple
from kfp import dsl
@dsl.component
def one(a: str, log: dsl.Output[dsl.Artifact], b: dict = {}) -> NamedTuple("Outputs", [("c", str)]): ...
"""


def imported(folder: str) -> float:
    """Milliseconds of the processor that the import takes."""
    code = f"{BEFORE}\nimport time; t = time.process_time()\nfrom kfp_sky import sky_task, sky_down"
    code += "\nprint((time.process_time() - t) * 1e3)"
    env = {**os.environ, "PYTHONPATH": folder}
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    )


def submitting(runs: int, folder: str) -> tuple[list[float], list[float]]:
    """Milliseconds from the component's beginning to the SDK's launch, and of that call itself."""
    import sky
    from sky.sdk import clusters

    from kfp_sky.step import run_task

    reached: list[float] = []
    real = sky.launch
    plain = sky.Task(run="true").set_resources(sky.Resources(infra="local"))
    sky.get(real(plain, cluster_name="bench", dryrun=True))

    class Stopped(Exception):
        pass

    def noted(*_: Any, **__: Any) -> Any:
        reached.append(time.perf_counter())
        raise Stopped

    clusters.launch = noted  # type: ignore[assignment]
    ours, calls = [], []
    for _ in range(runs + 1):
        began = time.perf_counter()
        with contextlib.suppress(Stopped):
            run_task(
                {"resources": {"infra": "local"}, "run": "true"}, log_path=f"{folder}/log", env={}, cluster_name="",
                managed=False, secret_variables=[], endpoint="",
            )  # fmt: skip
        ours.append(1e3 * (reached[-1] - began))
        began = time.perf_counter()
        real(plain, cluster_name="bench", dryrun=True)
        calls.append(1e3 * (time.perf_counter() - began))
    sky.api_stop()
    return ours[1:], calls[1:]


def main(runs: int, folder: str) -> None:
    """Print medians."""
    with open(f"{folder}/kfp_before.py", "w", encoding="utf-8") as before:  # noqa: PTH123 - one line
        before.write(COMPONENT)
    imported(folder)
    took = [imported(folder) for _ in range(runs)]
    print(f"import kfp_sky: {statistics.median(took):.0f} ms above kfp (best {min(took):.0f}; bar 50)")
    ours, calls = submitting(runs, folder)
    print(f"a component until sky.launch: {statistics.median(ours):.1f} ms (bar 50)")
    print(f"sky.launch: {statistics.median(calls):.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kfb-") as home:
        os.environ |= {"HOME": home, "DO_NOT_TRACK": "1"}
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, home)
