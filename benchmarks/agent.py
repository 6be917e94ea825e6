"""The agent's bars, measured on a real agent: start, idle memory and CPU, throughput of the queue, delay of a log line.

Run: python benchmarks/agent.py
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.local import LocalChannel

STARTS = 10
JOBS = 500


def node(root: Path, cpus: float) -> tuple[LocalChannel, dict[str, Any]]:
    """A node's channel and configuration."""
    home, socket = root / "home", root / "agent.sock"
    config = {
        "protocol": 1,
        "cluster_name": "bench",
        "cluster_id": root.name,
        "node_id": root.name,
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


async def start_times(root: Path) -> list[float]:
    """Seconds from nothing on the node to the agent's first answer."""
    times = []
    for number in range(STARTS):
        channel, config = node(root / f"s{number}", 2)
        before = time.perf_counter()
        client = await ensure_agent(channel, config)
        times.append(time.perf_counter() - before)
        await client.shutdown()
        await client.close()
    return times


async def drain(client: AgentClient) -> tuple[float, float]:
    """Jobs a second: submitting, and from the first submission to the last end."""
    before = time.perf_counter()
    await asyncio.gather(
        *(client.submit(f"k{number}", {"run": "true", "task_id": f"t{number}"}) for number in range(JOBS))
    )
    submitted = time.perf_counter() - before
    since, ended = 0, 0
    while ended < JOBS:
        events, since = await client.events(since, wait=10)
        ended += sum(event.get("status") == "SUCCEEDED" for event in events)
    return JOBS / submitted, JOBS / (time.perf_counter() - before)


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


async def main() -> None:
    """Measure and print."""
    root = Path(tempfile.mkdtemp(prefix="skybench"))
    try:
        starts = summary(await start_times(root))
        print("start, nothing to first answer: median {:.0f} ms, max {:.0f} ms".format(*starts))
        channel, config = node(root / "main", 4)
        client = await ensure_agent(channel, config)
        pid = (await client.hello())["pid"]
        await asyncio.sleep(2)
        print(f"idle memory: {pss_mb(pid):.1f} MB PSS")
        before = cpu_seconds(pid)
        await asyncio.sleep(5)
        print(f"CPU in 5 idle seconds: {(cpu_seconds(pid) - before) * 1000:.0f} ms")
        print("log delay: median {:.1f} ms, max {:.1f} ms".format(*summary(await log_delays(client))))
        before = cpu_seconds(pid)
        print("queue of {}: submitted at {:.0f}/s, drained at {:.0f}/s".format(JOBS, *await drain(client)))
        print(f"CPU of the agent: {(cpu_seconds(pid) - before) / JOBS * 1000:.1f} ms a job")
        print(f"memory afterwards: {pss_mb(pid):.1f} MB PSS")
        await client.shutdown()
        await client.close()
    finally:
        with suppress(NameError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)


def summary(values: list[float]) -> tuple[float, float]:
    """Median and maximum in milliseconds."""
    return statistics.median(values) * 1000, max(values) * 1000


if __name__ == "__main__":
    asyncio.run(main())
