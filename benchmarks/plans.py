"""What a person waits for before a launch: reading a task file, and `sky launch --dryrun` as a whole cold process.

Run as `python benchmarks/plans.py [--runs N] [--reference PYTHON]`; needs the installed `sky` package, and plans on the
seed that came with it. PYTHON is an interpreter in which the reference implementation is installed: its own parser is
timed beside ours then, in a process of its own. Prints medians in milliseconds as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = """\
name: train
num_nodes: 2
resources:
  accelerators: {A100: 8, A100-80GB: 8, H100: 8, H200: 8, L40S: 8, L4: 8, V100: 8, A10G: 8}
  cpus: 16+
  memory: 64+
  disk_size: 512
  any_of:
    - use_spot: true
    - use_spot: false
envs:
  EPOCHS: 10
file_mounts:
  /data: s3://my-data
setup: |
  pip install torch
run: |
  python train.py --epochs $EPOCHS
"""

THEIRS = """\
import json, statistics, sys, time
import sky
times = []
for _ in range(int(sys.argv[2])):
    begin = time.perf_counter()
    sky.Task.from_yaml(sys.argv[1])
    times.append((time.perf_counter() - begin) * 1000)
print(json.dumps(statistics.median(times)))
"""


def median_ms(call, runs: int) -> float:
    """Median wall time of a call in milliseconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1000)
    return round(statistics.median(times), 3)


def theirs(python: str, task: Path, runs: int, home: str) -> float:
    """The same file read by the reference implementation, in milliseconds."""
    env = {**os.environ, "HOME": home, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    env.pop("PYTHONPATH", None)
    words = [python, "-c", THEIRS, str(task), str(runs)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    return round(float(json.loads(done.stdout.splitlines()[-1])), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--reference", metavar="PYTHON")
    given = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as folder:
        task = Path(folder) / "task.yaml"
        task.write_text(TASK)
        import sky

        sky.Task.from_yaml(str(task))
        figures["read a task file, warm (ms)"] = median_ms(lambda: sky.Task.from_yaml(str(task)), given.runs * 5)
        if given.reference:
            figures["the reference reads it, warm (ms)"] = theirs(given.reference, task, given.runs * 5, folder)
        env = {**os.environ, "SKY_STATE_DIR": f"{folder}/s", "PYTHONPYCACHEPREFIX": f"{folder}/pyc", "HOME": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        program = [sys.executable, "-c", "import sys; from sky.cli import main; sys.exit(main())"]
        dry = {
            "sky launch --dryrun of a command (ms)": [*program, "launch", "--dryrun", "echo hi"],
            "sky launch --dryrun --all-infra of a file (ms)": [
                *(*program, "launch", "--dryrun", "--all-infra", str(task))
            ],
        }
        try:
            for name, words in dry.items():

                def run(words: list[str] = words) -> None:
                    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=True)

                run()
                figures[name] = median_ms(run, given.runs)
        finally:
            subprocess.run([*program, "api", "stop"], stderr=subprocess.DEVNULL, env=env, check=False)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
