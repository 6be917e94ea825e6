"""What the action costs beyond Python and the SDK, in milliseconds; run by `benchmarks/integrations.py github-action`.

Import: of its program. Submitting: from its beginning, with inputs in the environment, to `sky.launch`.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from costs import Reached, import_ms, launches_noted, median, plain_launch, report

FOLDER = str(Path(__file__).parents[1])


def measure(runs: int) -> dict[str, Any]:
    imported = import_ms(f"import sys; sys.path.insert(0, {FOLDER!r})", "import run", runs)

    sys.path.insert(0, FOLDER)
    import run

    os.environ |= {"SKY_INPUT_COMMAND": "true", "SKY_INPUT_INFRA": "local", "RUNNER_TEMP": os.environ["HOME"]}
    took, calls, call = [], [], plain_launch()
    with launches_noted() as marks, open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123
        for _ in range(runs + 1):
            began = time.perf_counter()
            with contextlib.suppress(Reached):
                run.main()
            took.append(1e3 * (marks[-1] - began))
            calls.append(call())
    return {
        "import_ms": {"run.py": imported},
        "submit_ms": {"launch": median(took[1:])},
        "sdk_ms": median(calls[1:]),
    }


if __name__ == "__main__":
    report("", measure)
