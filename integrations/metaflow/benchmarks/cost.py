"""What this integration costs beyond Metaflow and the SDK: `python benchmarks/cost.py [RUNS]`. Figures in milliseconds.

Import: of `metaflow` in fresh interpreters with and without the extension, by turns. Time of the processor.
Submitting: what the launcher does until `sky.launch` is called, once `sky` is loaded.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any


def imported(extension: bool) -> float:
    """Milliseconds of the processor that `import metaflow` takes."""
    code = "import time; t = time.process_time()\nimport metaflow\nprint((time.process_time() - t) * 1e3)"
    code += f"\nassert hasattr(metaflow, 'sky') is {extension}"
    env = {**os.environ, **({} if extension else {"METAFLOW_EXTENSIONS_SEARCH_DIRS": "/nonexistent"})}
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    )


def submitting(runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the launcher's beginning to the SDK's launch, and of that call itself."""
    import sky
    from sky.sdk import clusters

    from metaflow_sky import launch

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
    spec = {
        "name": "bench", "resources": {"infra": "local"}, "setup": None, "python": sys.executable, "env": {},
        "secrets": [], "cluster_name": None, "managed": False, "endpoint": None, "shared": True, "settings": {},
        "hidden": {}, "cwd": "/tmp",
    }  # fmt: skip
    ours, calls = [], []
    for _ in range(runs + 1):
        os.environ["METAFLOW_SKY_SPEC"] = json.dumps(spec)
        began = time.perf_counter()
        launch.main([sys.executable, "flow.py", "step"])
        ours.append(1e3 * (reached[-1] - began))
        began = time.perf_counter()
        real(plain, cluster_name="bench", dryrun=True)
        calls.append(1e3 * (time.perf_counter() - began))
    sky.api_stop()
    return ours[1:], calls[1:]


def main(runs: int) -> None:
    """Print medians."""
    imported(True)
    pairs = [(imported(True), imported(False)) for _ in range(runs)]
    above = statistics.median(each for each, _ in pairs) - statistics.median(each for _, each in pairs)
    print(f"import metaflow: {above:.0f} ms more with the extension (bar 50)")
    ours, calls = submitting(runs)
    print(f"the launcher until sky.launch: {statistics.median(ours):.1f} ms (bar 50)")
    print(f"sky.launch: {statistics.median(calls):.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mfb-") as home:
        os.environ |= {"HOME": home, "METAFLOW_USER": "bench", "DO_NOT_TRACK": "1"}
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
