"""Bars of the server: cold start, idle memory, status requests per second, memory over many requests.

    python benchmarks/server.py [--requests N] [--clusters N] [--starts N]

Runs the server as a process on a state directory of its own and loads it from another process over raw sockets.
Prints JSON, one object; medians where there are several runs.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[1] / "src"
BODY = b'{"summary":true}'
REQUEST = b"POST /status HTTP/1.1\r\nHost: sky\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def environment(state: Path) -> dict[str, str]:
    """The environment of server and clients."""
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "SKY_STATE_DIR": str(state)}


def memory_kb(pid: int, field: str) -> int:
    """A line of /proc/PID/smaps_rollup, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def start(state: Path) -> tuple[int, float]:
    """Start a server; its pid and the seconds until its first answer to `/status`."""
    begun = time.perf_counter()
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sky.server", "--state", str(state), "--ready-fd", str(writer)],
        env=environment(state),
        pass_fds=(writer,),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(writer)
    assert os.read(reader, 16) == b"ready\n", "the server did not start"
    os.close(reader)
    asyncio.run(ask(state / "api.sock"))
    return process.pid, time.perf_counter() - begun


def stop(pid: int) -> None:
    """End a server and wait for it."""
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


async def ask(path: Path) -> bytes:
    """One exchange on a connection of its own."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(REQUEST)
    answer = await exchange(reader)
    writer.close()
    return answer


async def exchange(reader: asyncio.StreamReader) -> bytes:
    """The rest of one answer; the request has been sent."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def load(path: str, clients: int, total: int) -> dict[str, float]:
    """Ask `total` times over `clients` kept connections; requests per second and latencies in ms."""
    waits: list[float] = []
    left = total

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_unix_connection(path)
        while left > 0:
            left -= 1
            begun = time.perf_counter()
            writer.write(REQUEST)
            await exchange(reader)
            waits.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - begun
    waits.sort()
    return {
        "requests": len(waits),
        "per_second": round(len(waits) / seconds),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 2),
    }


def load_from_outside(state: Path, clients: int, total: int) -> dict[str, float]:
    """`load` in a process of its own, so that its work is not the server's."""
    command = [sys.executable, __file__, "--load", str(state / "api.sock"), str(clients), str(total)]
    told: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return told


def fill(state: Path, count: int) -> None:
    """Bring up clusters on this machine, so that there is a status to tell."""
    script = (
        "import sys, sky\n"
        "ids = [sky.launch(sky.Task(run='true'), f'bench-{n}') for n in range(int(sys.argv[1]))]\n"
        "[sky.get(id) for id in ids]\n"
    )
    subprocess.run([sys.executable, "-c", script, str(count)], env=environment(state), check=True)


def empty(state: Path) -> None:
    """End the clusters again."""
    script = "import sky\n[sky.get(id) for id in [sky.down(c.name) for c in sky.get(sky.status())]]\n"
    subprocess.run([sys.executable, "-c", script], env=environment(state), check=True)


def measure(requests: int, clusters: int, count: int) -> dict[str, Any]:
    """All figures."""
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    state = folder / "state"
    state.mkdir(mode=0o700)
    told: dict[str, Any] = {"clusters": clusters}
    try:
        starts = []
        for _ in range(count):
            pid, seconds = start(state)
            starts.append(seconds)
            stop(pid)
        told["cold_start_s"] = round(statistics.median(starts), 3)
        pid, _ = start(state)
        told["idle_pss_mb"] = round(memory_kb(pid, "Pss") / 1024, 1)
        if clusters:
            fill(state, clusters)
        load_from_outside(state, 64, min(2_000, requests))
        before, cpu = memory_kb(pid, "Rss"), cpu_s(pid)
        told["status"] = load_from_outside(state, 64, requests)
        told["cpu_ms_per_request"] = round((cpu_s(pid) - cpu) / requests * 1000, 3)
        told["rss_mb_before_after"] = [round(before / 1024, 1), round(memory_kb(pid, "Rss") / 1024, 1)]
        if clusters:
            empty(state)
        stop(pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return told


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(asyncio.run(load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=5)
    parser.add_argument("--starts", type=int, default=10)
    given = parser.parse_args()
    print(json.dumps(measure(given.requests, given.clusters, given.starts), indent=2))


if __name__ == "__main__":
    main()
