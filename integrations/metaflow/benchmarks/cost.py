"""What it costs above Metaflow and the SDK, in milliseconds; run by `benchmarks/integrations.py metaflow`.

Import: of `metaflow` with the extension and without it. Submitting: what the launcher does until `sky.launch` is
called, once `sky` is loaded.
"""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from costs import launches_noted, median, plain_launch, report, spent

IMPORT = """
import sys, time
if not {there}:
    sys.path.remove({source!r})
began = time.process_time()
import metaflow
print((time.process_time() - began) * 1e3)
sys.exit(hasattr(metaflow, "sky") is not {there})
"""
SOURCE = str(Path(__file__).parents[1] / "src")
SPEC = {
    "name": "bench", "resources": {"infra": "local"}, "setup": None, "python": sys.executable, "env": {}, "secrets": [],
    "cluster_name": None, "managed": False, "endpoint": None, "shared": True, "settings": {}, "hidden": {}, "cwd": "/",
}  # fmt: skip


def measure(runs: int) -> dict[str, Any]:
    # By turns, and the best of each: a difference of two long times drowns in what else the machine does.
    pairs = []
    for _ in range(runs):
        pairs += zip(*(spent(IMPORT.format(there=there, source=SOURCE), 1) for there in (True, False)), strict=True)
    above = min(one for one, _ in pairs) - min(other for _, other in pairs)

    from metaflow_sky import launch

    took, calls, call = [], [], plain_launch()
    with launches_noted() as marks:
        for _ in range(runs + 1):
            os.environ["METAFLOW_SKY_SPEC"] = json.dumps(SPEC)
            began = time.perf_counter()
            with contextlib.redirect_stderr(io.StringIO()):
                launch.main([sys.executable, "flow.py", "step"])
            took.append(1e3 * (marks[-1] - began))
            calls.append(call())
    return {
        "import_ms": {"metaflow": round(above, 1)},
        "submit_ms": {"@sky": median(took[1:])},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("metaflow", measure, METAFLOW_USER="bench")
