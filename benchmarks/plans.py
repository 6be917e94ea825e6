"""What a person waits for before a launch: reading a task file, and `sky launch --dryrun` as a whole cold process.

Run as `python benchmarks/plans.py [--runs N] [--reference PYTHON]`; needs the installed `sky` package, and plans on the
seed that came with it. Prints medians in milliseconds as JSON.

PYTHON is an interpreter that has SkyPilot 0.14: its parser is timed beside ours then, in a process of its own, and a
whole cold `sky launch --dryrun` of eight A100 with the servers of both up, on the same 300,000 offers with all clouds
of them enabled (`reference_world.py`, `reference_server.py`); both must choose at the same price.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import reference_server
import reference_world

PROGRAM = [sys.executable, "-c", "import sys; from sky.cli import main; sys.exit(main())"]
ASKED = ["launch", "--dryrun", "-y", "--gpus", "A100:8", "echo hi"]

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


def their_parser(python: str, task: Path, runs: int, home: Path) -> float:
    """The same file read by the reference implementation, in milliseconds."""
    words = [python, "-c", THEIRS, str(task), str(runs)]
    env = reference_world.environment(home)
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    return round(float(json.loads(done.stdout.splitlines()[-1])), 3)


def chosen(words: list[str], env: dict[str, str]) -> str:
    """Run a dry run, and find the price in the line that it chose."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        check=False,
    )
    found = re.search(r"A100:8 +([0-9.]+) [^\n]*✔", done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]
    assert found, done.stdout[-3000:]
    return found[1]


def side_by_side(python: str, offers: int, runs: int) -> dict[str, object]:
    """The same file parsed and the same dry run asked for by both."""
    import sky

    with tempfile.TemporaryDirectory(prefix="sky-bench-") as made:
        folder = Path(made)
        _, home, count = reference_world.both(folder, offers / reference_world.WHOLE)
        task = folder / "task.yaml"
        task.write_text(TASK)
        parsing = median_ms(lambda: sky.Task.from_yaml(str(task)), runs * 5)
        parser = reference_world.beside(parsing, their_parser(python, task, runs * 5, home))
        env = {**os.environ, "SKY_STATE_DIR": f"{folder}/ours", "PYTHONPYCACHEPREFIX": f"{folder}/pyc", "HOME": made}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        ours, theirs = [*PROGRAM, *ASKED, "--all-infra"], [str(Path(python).with_name("sky")), *ASKED]
        try:
            with reference_server.running(python, home) as their_env:
                # Once for nothing on either side: it starts our server, and lets theirs read its files.
                prices = {chosen(ours, env), chosen(theirs, their_env)}
                assert len(prices) == 1, prices
                dry = reference_world.beside(
                    median_ms(lambda: chosen(ours, env), runs),
                    median_ms(lambda: chosen(theirs, their_env), max(3, runs // 4)),
                )
        finally:
            subprocess.run([*PROGRAM, "api", "stop"], stderr=subprocess.DEVNULL, env=env, check=False)
    return {"read a task file, warm": parser, "offers": count, "sky launch --dryrun of A100:8": dry}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--reference", metavar="PYTHON", help="an interpreter that has SkyPilot 0.14")
    parser.add_argument("--offers", type=int, default=300_000, help="about how many, beside the reference (300000)")
    given = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="sky-bench-") as folder:
        task = Path(folder) / "task.yaml"
        task.write_text(TASK)
        import sky

        sky.Task.from_yaml(str(task))
        figures["read a task file, warm (ms)"] = median_ms(lambda: sky.Task.from_yaml(str(task)), given.runs * 5)
        env = {**os.environ, "SKY_STATE_DIR": f"{folder}/s", "PYTHONPYCACHEPREFIX": f"{folder}/pyc", "HOME": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        dry = {
            "sky launch --dryrun of a command (ms)": [*PROGRAM, "launch", "--dryrun", "echo hi"],
            "sky launch --dryrun --all-infra of a file (ms)": [
                *(*PROGRAM, "launch", "--dryrun", "--all-infra", str(task))
            ],
        }
        try:
            for name, words in dry.items():

                def run(words: list[str] = words) -> None:
                    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=True)

                run()
                figures[name] = median_ms(run, given.runs)
        finally:
            subprocess.run([*PROGRAM, "api", "stop"], stderr=subprocess.DEVNULL, env=env, check=False)
    if given.reference:
        figures["side by side"] = side_by_side(given.reference, given.offers, given.runs)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
