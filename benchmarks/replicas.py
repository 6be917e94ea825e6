"""Bars of several servers on one PostgreSQL database: status requests per second of two together, and take-over.

    python benchmarks/replicas.py [--requests N] [--clusters N] [--servers N] [--pgbouncer]

Starts a private PostgreSQL, the servers as processes, and loads all of them from other processes over raw
sockets. Prints JSON, one object. `status` is what all servers answered together; `launch` is a cluster brought up and
ended through the first, whose work any of them does; `taken_over_s` is how long after the death of all other servers a
request that they held has ended.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "testbed")]

from databases import Postgres  # noqa: E402 - found by the path above

from server import SRC, ask, cpu_s, memory_kb  # noqa: E402 - as above


class Replica:
    """One server."""

    def __init__(self, root: Path, number: int, uri: str, pooled: str | None) -> None:
        self.state = root / f"s{number}"
        self.state.mkdir(mode=0o700)
        path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
        self.env = {**os.environ, "PYTHONPATH": path, "SKY_STATE_DIR": str(self.state), "HOME": str(root)}
        self.env["SKYPILOT_DB_CONNECTION_URI"] = uri
        if pooled:
            self.env["SKYPILOT_DB_POOL_CONNECTION_URI"] = pooled
        self.shared = root / "shared"
        self.pid = 0

    def start(self) -> float:
        """Start it; the seconds until its first answer to `/status`."""
        begun = time.perf_counter()
        reader, writer = os.pipe()
        words = [sys.executable, "-P", "-m", "sky.server", "--state", str(self.state), "--shared", str(self.shared)]
        process = subprocess.Popen(
            [*words, "--ready-fd", str(writer)], env=self.env, pass_fds=(writer,), start_new_session=True
        )
        os.close(writer)
        assert os.read(reader, 16) == b"ready\n", "the server did not start"
        os.close(reader)
        self.pid = process.pid
        asyncio.run(ask(self.state / "api.sock"))
        return time.perf_counter() - begun

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait for it."""
        if self.pid:
            os.kill(self.pid, how)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def run(self, script: str, *words: str) -> str:
        """A program that calls this server; what it prints."""
        done = subprocess.run([sys.executable, "-c", script, *words], env=self.env, check=True, capture_output=True)
        return done.stdout.decode().strip()


FILL = """
import sys, sky
ids = [sky.launch(sky.Task(run='true'), f'bench-{n}') for n in range(int(sys.argv[1]))]
[sky.get(id) for id in ids]
"""
EMPTY = "import sky\n[sky.get(id) for id in [sky.down(c.name) for c in sky.get(sky.status())]]\n"
ROUND = """
import time, sky
begun = time.perf_counter()
sky.get(sky.launch(sky.Task(run='true'), 'round'))
up = time.perf_counter()
sky.get(sky.down('round'))
print(up - begun, time.perf_counter() - up)
"""
SUBMIT = "import sky; print(sky.launch(sky.Task(run='true'), 'orphan'))"
WAIT = "import sys, sky; sky.get(sys.argv[1])"


def load(replicas: list[Replica], clients: int, total: int) -> dict[str, float]:
    """Load every server at once, each from a process of its own; all of them together."""
    share = str(total // len(replicas))
    each_clients = str(max(1, clients // len(replicas)))
    begun = time.perf_counter()
    loads = [
        subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), "--load", str(each.state / "api.sock"), each_clients, share],
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in replicas
    ]
    told = [json.loads(each.communicate()[0]) for each in loads]
    seconds = time.perf_counter() - begun
    return {
        "requests": sum(each["requests"] for each in told),
        # Those that answer at the same time; the start of the clients is nobody's answer.
        "per_second": sum(each["per_second"] for each in told),
        "per_second_with_start": round(sum(each["requests"] for each in told) / seconds),
        "p50_ms": max(each["p50_ms"] for each in told),
        "p99_ms": max(each["p99_ms"] for each in told),
    }


def taken_over(replicas: list[Replica]) -> float:
    """Seconds from the death of all servers but the first to the end of a request that one of them held."""
    first, *others = replicas
    # Stopped, the first takes nothing.
    os.kill(first.pid, signal.SIGSTOP)
    id = others[0].run(SUBMIT)
    time.sleep(0.3)
    for each in others:
        each.end(signal.SIGKILL)
    begun = time.perf_counter()
    os.kill(first.pid, signal.SIGCONT)
    first.run(WAIT, id)
    return time.perf_counter() - begun


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    root = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    postgres = Postgres()
    told: dict[str, Any] = {"servers": given.servers, "clusters": given.clusters, "pgbouncer": given.pgbouncer}
    replicas: list[Replica] = []
    try:
        name = postgres.database()
        with postgres.pgbouncer() if given.pgbouncer else nullcontext() as port:
            pooled = postgres.uri(name, port) if port else None
            replicas = [Replica(root, number, postgres.uri(name), pooled) for number in range(given.servers)]
            told["cold_start_s"] = [round(each.start(), 3) for each in replicas]
            told["idle_pss_mb"] = [round(memory_kb(each.pid, "Pss") / 1024, 1) for each in replicas]
            replicas[0].run(FILL, str(given.clusters))
            load(replicas, given.clients, 2_000)
            cpu = [cpu_s(each.pid) for each in replicas]
            told["status"] = load(replicas, given.clients, given.requests)
            used = sum(cpu_s(each.pid) - before for each, before in zip(replicas, cpu, strict=True))
            told["cpu_ms_per_request"] = round(used / given.requests * 1000, 3)
            up, down = (float(text) for text in replicas[0].run(ROUND).split())
            told["launch_s"], told["down_s"] = round(up, 3), round(down, 3)
            if len(replicas) > 1:
                told["taken_over_s"] = round(taken_over(replicas), 2)
            replicas[0].run(EMPTY)
    finally:
        for each in replicas:
            each.end()
        postgres.close()
        shutil.rmtree(root, ignore_errors=True)
    return told


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--clusters", type=int, default=5)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pgbouncer", action="store_true")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
