"""What a person waits for: `import sky`, `sky --help`, `sky status`, each as a whole cold process.

Run as `python benchmarks/cli.py [--runs N]`; needs the installed `sky` package. It uses a state directory of its own
and ends the server that it started. Prints medians in milliseconds and the memory of `import sky`, as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

MEMORY = (
    "import resource; {what}; "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
)


def wall(command: list[str], runs: int, env: dict[str, str]) -> float:
    """Median wall time of a command in milliseconds; it must succeed."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=True)
        times.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(times), 1)


def resident(what: str, env: dict[str, str]) -> int:
    """Resident memory of a Python that did `what`, in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.format(what=what)], capture_output=True, text=True, env=env, check=True
    )
    return int(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    # What the console script does, without asking which one of several on the path is meant.
    python, sky = (
        [sys.executable, "-c"],
        [sys.executable, "-c", "import sys; from sky.cli import main; sys.exit(main())"],
    )
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as state:
        # As installed: compiled once, wherever the tree itself may not be written to.
        env = {**os.environ, "SKY_STATE_DIR": f"{state}/s", "PYTHONPYCACHEPREFIX": f"{state}/pyc"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        figures: dict[str, float] = {
            "python -c pass (ms)": wall([*python, "pass"], runs, env),
            "import sky (ms)": wall([*python, "import sky"], runs, env),
            "sky --help (ms)": wall([*sky, "--help"], runs, env),
            "sky launch --help (ms)": wall([*sky, "launch", "--help"], runs, env),
            "bare Python (KiB)": resident("pass", env),
            "import sky (KiB)": resident("import sky", env),
        }
        try:
            subprocess.run([*sky, "status"], stdout=subprocess.DEVNULL, env=env, check=True)
            figures["sky status (ms)"] = wall([*sky, "status"], runs, env)
            figures["sky status -o json (ms)"] = wall([*sky, "status", "-o", "json"], runs, env)
        finally:
            subprocess.run([*sky, "api", "stop"], stderr=subprocess.DEVNULL, env=env, check=False)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
