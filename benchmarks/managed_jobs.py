"""Bars of managed jobs: what one server takes to look after thousands of them, how fast it launches and brings back.

    python benchmarks/managed_jobs.py [--jobs N] [--seconds S] [--losses N] [--chatter S]

One server process on a SQLite file: the real one (engine, store, agent protocol) but for its provider and its nodes,
which are made of numbers in a process of their own (`made_up_cloud.py`): what is told is the server's alone. Prints
JSON, one object: `launch` until all jobs are on record as running, `running` while nothing happens but that each job
prints a line every `--chatter` seconds (0: nothing), `losses` while machines are lost one after another, in seconds
from the loss to the provider's being asked for another machine.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from launches import House, posted  # noqa: E402 - found by the path above
from made_up_cloud import Line  # noqa: E402 - as above

from server import cpu_s, exchange  # noqa: E402 - as above

#: Jobs that one request opens.
_AT_ONCE = 100
#: Jobs of a server that has nothing in memory yet, before anything is counted.
_FIRST = 20
_PATIENCE_S = 1200.0
_TASK = {"run": "sim 1000000 0", "resources": {"infra": "local"}}


async def submit(path: str, name: str, count: int) -> None:
    """Have so many managed jobs launched."""
    reader, writer = await asyncio.open_unix_connection(path)
    for at in range(0, count, _AT_ONCE):
        several = min(_AT_ONCE, count - at)
        body = {"dag": {"tasks": [{**_TASK, "name": name}]}, "name": name, "num_jobs": several}
        writer.write(posted("/jobs/launch", json.dumps(body).encode(), "root"))
        await exchange(reader)
    writer.close()


class Records:
    """Looks into the database from outside."""

    def __init__(self, state: Path) -> None:
        self._file = state / "state.db"

    def all(self, words: str) -> list[tuple[Any, ...]]:
        """Rows."""
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
            return connection.execute(words).fetchall()

    def running(self) -> int:
        """Managed jobs that run."""
        return int(self.all("SELECT count(*) FROM managed_jobs WHERE status = 'RUNNING'")[0][0])


async def transactions(house: House) -> dict[str, int]:
    """How many the server has had so far, by kind."""
    reader, writer = await asyncio.open_unix_connection(house.sockets[0])
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: sky\r\n\r\n")
    text = (await exchange(reader)).decode()
    writer.close()
    found = re.findall(r'^sky_store_transactions_total\{kind="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {kind: int(count) for kind, count in found}


async def until_running(records: Records, wanted: int) -> None:
    """Wait until so many run."""
    begun = time.monotonic()
    while (found := records.running()) < wanted:
        assert time.monotonic() - begun < _PATIENCE_S, f"{found} of {wanted} jobs run"
        await asyncio.sleep(0.5)


class Span:
    """Wall and CPU seconds of the server in a stretch of time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._begun, self._cpu = time.monotonic(), cpu_s(house.pids[0])

    def told(self) -> tuple[float, float]:
        """So far."""
        return time.monotonic() - self._begun, cpu_s(self._house.pids[0]) - self._cpu


async def launching(house: House, records: Records, jobs: int) -> dict[str, Any]:
    """Launch them all."""
    span, memory, before = Span(house), house.memory("Rss"), await transactions(house)
    await submit(house.sockets[0], "many", jobs)
    submitted, _ = span.told()
    await until_running(records, _FIRST + jobs)
    wall, cpu = span.told()
    after = await transactions(house)
    return {
        "jobs": jobs,
        "submitted_s": round(submitted, 1),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "per_second": round(jobs / wall, 1),
        "per_cpu_second": round(jobs / cpu, 1),
        "transactions_per_job": {kind: round((count - before[kind]) / jobs, 1) for kind, count in after.items()},
        "kb_per_job": round((house.memory("Rss") - memory) * 1.024 / jobs, 1),
    }


async def resting(house: House, seconds: float) -> dict[str, Any]:
    """Nothing happens."""
    # What was put off while they were launched is not counted: it comes once.
    await asyncio.sleep(10.0)
    span, before = Span(house), await transactions(house)
    await asyncio.sleep(seconds)
    wall, cpu = span.told()
    after = await transactions(house)
    return {
        "seconds": round(wall, 1),
        "cpu_percent": round(100 * cpu / wall, 1),
        "rss_mb": round(house.memory("Rss") * 1.024 / 1000),
        "peak_mb": round(house.peak() * 1.024 / 1000),
        "transactions_per_s": {kind: round((count - before[kind]) / wall, 1) for kind, count in after.items()},
    }


async def losing(house: House, records: Records, cloud: Line, losses: int, pause: float) -> dict[str, Any]:
    """Machines are lost one after another, as in a market that runs dry, and replaced."""
    span, marks = Span(house), []
    for _ in range(losses):
        marks += (await cloud.ask("lose", count=1))["marks"]
        await asyncio.sleep(pause)
    wanted, begun = set(marks), time.monotonic()
    later: dict[str, str] = {}
    times: dict[str, dict[str, float]] = {"ordered": {}}
    while len(times["ordered"]) < len(wanted) and time.monotonic() - begun < 120.0:
        await asyncio.sleep(1.0)
        rows = records.all("SELECT owner, id FROM clusters WHERE owner IS NOT NULL ORDER BY owner, created_at")
        # A job may lose one machine after the other: what counts is what came in the place of each.
        later = {mark: there for (owner, mark), (same, there) in pairwise(rows) if mark in wanted and owner == same}
        times = await cloud.ask("times", marks=list(later.values()))
    ordered = times["ordered"]
    waits = sorted(ordered[there] - times["lost"][mark] for mark, there in later.items() if there in ordered)
    wall, cpu = span.told()
    return {
        "losses": losses,
        "replaced": len(waits),
        "median_s": round(statistics.median(waits), 2) if waits else None,
        "p99_s": round(waits[int(len(waits) * 0.99)], 2) if waits else None,
        "most_s": round(waits[-1], 2) if waits else None,
        "cpu_percent": round(100 * cpu / wall, 1),
    }


async def measure(given: argparse.Namespace, house: House) -> dict[str, Any]:
    """All figures."""
    print(f"the server is {house.pids[0]}", file=sys.stderr)
    records, cloud = Records(house.states[0]), Line(house.cloud)
    await cloud.ask("chatter", every=given.chatter)
    await cloud.ask("release", spread=0.0)
    await submit(house.sockets[0], "first", _FIRST)
    await until_running(records, _FIRST)
    told: dict[str, Any] = {"launch": await launching(house, records, given.jobs)}
    told["running"] = await resting(house, given.seconds)
    told["losses"] = await losing(house, records, cloud, given.losses, given.pause)
    return told


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=120.0, help="for which nothing happens")
    parser.add_argument("--losses", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two losses")
    parser.add_argument("--chatter", type=float, default=0.0, help="seconds between two lines of a job; 0: none")
    given = parser.parse_args()
    # Who is told to end takes the processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True) if not os.environ.get("KEEP") else print(
            folder, file=sys.stderr
        )
        house = House(folder, 1, None)
        stack.callback(house.close)
        print(json.dumps(asyncio.run(measure(given, house)), indent=2))


if __name__ == "__main__":
    main()
