"""The agent's bars, measured on a real agent: start, idle memory and CPU, throughput of the queue, delay of a log line.

    python benchmarks/agent.py [--starts N] [--jobs N] [--idle SECONDS]

Prints JSON, one object; medians where there are several runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sky.providers.local import processes
from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.local import LocalChannel


def node(root: Path, cpus: float) -> tuple[LocalChannel, dict[str, Any]]:
    """A node's channel and configuration."""
    home, socket = root / "home", root / "agent.sock"
    home.mkdir(parents=True)
    config = {
        "protocol": 1,
        "cluster_name": "bench",
        "cluster_id": root.name,
        # Everything of the node is found by this in the process table, and ended.
        "node_id": f"{root.parent.name}-{root.name}",
        "rank": 0,
        "num_nodes": 1,
        "ips": ["127.0.0.1"],
        "peers": [f"unix:{socket}"],
        "socket": str(socket),
        "home": str(home),
        "cpus": cpus,
        "memory_gb": 0,
        "accelerators": None,
        "infra": {"cloud": "local"},
        "user": "bench",
        "power_off": {"stop": [], "down": []},
    }
    return LocalChannel(home, socket), config


def pss_mb(pid: int) -> float:
    """Proportional memory of a process in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Pss in smaps_rollup")


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def start_times(root: Path, starts: int) -> list[float]:
    """Seconds from nothing on the node to the agent's first answer."""
    times = []
    for number in range(starts):
        channel, config = node(root / f"s{number}", 2)
        before = time.perf_counter()
        client = await ensure_agent(channel, config)
        times.append(time.perf_counter() - before)
        await client.close()
        processes.end_all(config["node_id"], None)
    return times


async def drain(client: AgentClient, jobs: int) -> tuple[float, float]:
    """Jobs a second: submitting, and from the first submission to the last end."""
    before = time.perf_counter()
    await asyncio.gather(
        *(client.submit(f"k{number}", {"run": "true", "task_id": f"t{number}"}) for number in range(jobs))
    )
    submitted = time.perf_counter() - before
    since, ended = 0, 0
    while ended < jobs:
        events, since = await client.events(since, wait=10)
        ended += sum(event.get("status") == "SUCCEEDED" for event in events)
    return jobs / submitted, jobs / (time.perf_counter() - before)


async def log_delays(client: AgentClient) -> list[float]:
    """Seconds between a line's writing and a follower's reading."""
    script = "for i in $(seq 20); do sleep 0.05; date +%s.%N; done"
    job_id, _ = await client.submit("log", {"run": script, "task_id": "log"})
    delays, offset, eof = [], 0, False
    while not eof:
        data, offset, eof, _ = await client.read_log(job_id, offset=offset, wait=10)
        now = time.time()
        delays += [now - float(line.split(b") ")[1]) for line in data.splitlines()]
    return delays


async def measure(root: Path, given: argparse.Namespace) -> dict[str, float]:
    """All figures, from agents below `root`."""
    figures = {"start_to_first_answer_ms": median_ms(await start_times(root, given.starts))}
    channel, config = node(root / "main", 4)
    client = await ensure_agent(channel, config)
    pid = (await client.hello())["pid"]
    try:
        await asyncio.sleep(2)
        figures["idle_pss_mb"] = round(pss_mb(pid), 1)
        before = cpu_seconds(pid)
        await asyncio.sleep(given.idle)
        figures[f"cpu_in_{given.idle:g}_idle_seconds_ms"] = round((cpu_seconds(pid) - before) * 1000)
        figures["log_delay_ms"] = median_ms(await log_delays(client))
        before = cpu_seconds(pid)
        submitted, drained = await drain(client, given.jobs)
        figures["submitted_per_second"], figures["drained_per_second"] = round(submitted), round(drained)
        figures["cpu_per_job_ms"] = round((cpu_seconds(pid) - before) / given.jobs * 1000, 1)
        figures["pss_afterwards_mb"] = round(pss_mb(pid), 1)
        await client.close()
    finally:
        processes.end_all(config["node_id"], None)
    return figures


def median_ms(values: list[float]) -> float:
    """Median of seconds, in milliseconds."""
    return round(statistics.median(values) * 1000, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--idle", type=float, default=5)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="skybench"))
    try:
        print(json.dumps(asyncio.run(measure(root, given)), indent=2))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
