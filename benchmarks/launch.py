"""What a person waits for when running things on this machine: launch, exec, and a long queue.

    python benchmarks/launch.py [--runs N] [--jobs N]

Uses the installed `sky` command with a home and a state directory of its own, and removes everything afterwards.
Prints JSON, one object; medians where there are several runs. Seconds, unless a name says otherwise.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SKY = str(Path(sys.executable).with_name("sky"))


class Bench:
    """The command in a state directory of its own."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sky-bench-"))
        self.env = {**os.environ, "HOME": str(self.root), "SKY_STATE_DIR": str(self.root / "s")}
        # A user's Python keeps compiled code; a shell that forbids it would measure the compiler.
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)

    def sky(self, *words: str) -> float:
        """Wall time of a whole command that must succeed."""
        begun = time.perf_counter()
        subprocess.run([SKY, *words], env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - begun

    def first_line(self, *words: str, mark: str) -> float:
        """Seconds until the program's own first line is on the terminal."""
        begun = time.perf_counter()
        with subprocess.Popen(
            [SKY, *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as run:
            for line in run.stdout or ():
                if mark in line:
                    took = time.perf_counter() - begun
                    break
            else:
                raise SystemExit(f"{words}: no line with {mark!r}")
            for _ in run.stdout or ():
                pass
        return took

    def close(self) -> None:
        """Leave nothing behind."""
        self.sky("down", "-a", "-y")
        self.sky("api", "stop")
        shutil.rmtree(self.root, ignore_errors=True)


def cold_launches(runs: int) -> list[float]:
    """`sky launch` with nothing running before, each time from an empty state directory."""
    times = []
    for _ in range(runs):
        bench = Bench()
        try:
            times.append(bench.first_line("launch", "-y", "-c", "c", "echo hi-there", mark="hi-there"))
        finally:
            bench.close()
    return times


def warm(bench: Bench, runs: int) -> dict[str, float]:
    """Launches and execs with the server up."""
    launches = [
        bench.first_line("launch", "-y", "-c", f"w{number}", "echo hi-there", mark="hi-there") for number in range(runs)
    ]
    execs = [bench.sky("exec", "w0", "true") for _ in range(runs * 2)]
    return {"launch_first_line_server_up": median(launches), "exec_true_whole_process": median(execs)}


def drain(bench: Bench, count: int) -> dict[str, float]:
    """Jobs per second of a queue that was filled while another job held every slot."""
    os.environ.update({"HOME": bench.env["HOME"], "SKY_STATE_DIR": bench.env["SKY_STATE_DIR"]})
    import sky

    gate = bench.root / "gate"
    sky.get(sky.launch(sky.Task(run=f"while [ ! -e {gate} ]; do sleep 0.05; done"), cluster_name="q"))
    holder = sky.Task(run=f"while [ ! -e {gate} ]; do sleep 0.05; done", resources=sky.Resources(cpus=os.cpu_count()))
    sky.get(sky.exec(holder, cluster_name="q"))
    begun = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda _: sky.get(sky.exec(sky.Task(run="true"), cluster_name="q"))[0], range(count)))
    submitted = time.perf_counter() - begun
    opened = time.time()
    gate.touch()
    sky.tail_logs("q", ids[-1], follow=True, output_stream=io.StringIO())
    while any(status is None or not status.is_terminal() for status in sky.get(sky.job_status("q", ids)).values()):
        time.sleep(0.05)
    ended = max(job["end_at"] for job in sky.get(sky.queue("q")))
    on_record = time.time()
    return {
        "queued_jobs": count,
        "submitted_per_second": round(count / submitted, 1),
        "drained_per_second": round(count / (ended - opened), 1),
        "drained_and_on_record_per_second": round(count / (on_record - opened), 1),
    }


def median(values: list[float]) -> float:
    """Rounded to milliseconds."""
    return round(statistics.median(values), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=500)
    given = parser.parse_args()
    result: dict[str, float] = {"launch_first_line_nothing_running": median(cold_launches(given.runs))}
    bench = Bench()
    try:
        result |= warm(bench, given.runs)
        result |= drain(bench, given.jobs)
    finally:
        bench.close()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
