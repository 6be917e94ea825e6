"""What each integration costs whoever imports it, and what it adds to the SDK's call that submits.

Run as `python benchmarks/integrations.py [NAME ...] [--runs N]`; those are measured whose environment
`integrations/run.sh NAME` has made. Prints one line of JSON for each: medians in milliseconds. `import_ms` is time of
the processor above the orchestrator, `submit_ms` what passes before `sky.launch` is called, `sdk_ms` that call alone.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "integrations"


def python_of(name: str) -> Path | None:
    """The interpreter with which an integration is run: its environment's, where it has one of its own."""
    if not (FOLDER / name / "pyproject.toml").exists():
        return Path(sys.executable)
    found = FOLDER / name / f".venv-{name}" / "bin" / "python"
    return found if found.exists() else None


def main() -> None:
    names = sorted(path.parents[1].name for path in FOLDER.glob("*/benchmarks/cost.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    for name in given.names or names:
        python = python_of(name)
        if python is None:
            print(f"{name}: first run `integrations/run.sh {name}`, which makes its environment", file=sys.stderr)
            continue
        path = os.pathsep.join(filter(None, (str(FOLDER / "testing"), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [python, FOLDER / name / "benchmarks" / "cost.py", str(given.runs)],
            env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        print(json.dumps({"integration": name, **json.loads(done.stdout.splitlines()[-1])}), flush=True)


if __name__ == "__main__":
    main()
