"""Bars of many launches at once: how long `/status` takes meanwhile, and what memory each launch takes.

    python benchmarks/launches.py [--launches N] [--servers N] [--seconds S] [--spread S]

One server on a SQLite file, or several on a private PostgreSQL, each the real one but for its provider and its nodes,
which are made of numbers in a process of their own (`made_up_cloud.py`). All launches are under way at once before
the first machine comes. `/status` is asked all the while from another process, ten times a second by each of four
clients at each server. Prints JSON, one object: quantiles by what went on, in milliseconds; `kb_per_launch` is the
growth of the servers' memory per launch, as of when all of them wait for machines, and at its highest;
`another_user_s` is how long the only launch of another user took to ask for its machine, while all others waited.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "testbed"), str(HERE.parent / "src")]

from databases import Postgres  # noqa: E402 - found by the path above
from made_up_cloud import Line  # noqa: E402 - as above

from server import BODY, SRC, cpu_s, exchange, memory_kb  # noqa: E402 - as above

#: Requests under way at once while launches are submitted.
_AT_ONCE = 16
_TASK = {"run": "sim 1 0", "resources": {"infra": "local"}}
#: Launches of a server that has nothing in memory yet, before anything is counted.
_FIRST = 20
_PATIENCE_S = 300.0


def posted(path: str, body: bytes, user: str) -> bytes:
    """A call as it travels."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: sky\r\nX-Skypilot-User: {user}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class House:
    """The cloud and the servers, as processes."""

    def __init__(self, folder: Path, servers: int, uri: str | None) -> None:
        self.cloud = str(folder / "cloud.sock")
        path = os.pathsep.join([str(SRC), str(HERE), os.environ.get("PYTHONPATH", "")])
        self.env = {**os.environ, "PYTHONPATH": path, "HOME": str(folder), "MADE_UP_CLOUD": self.cloud}
        self.env.pop("SKYPILOT_DB_CONNECTION_URI", None)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start([sys.executable, str(HERE / "made_up_cloud.py"), self.cloud])
        self.states = [folder / f"s{number}" for number in range(servers)]
        for state in self.states:
            state.mkdir(mode=0o700)
            words = [sys.executable, "-P", "-m", "sky.server", "--plane", "made_up_cloud:build", "--state", str(state)]
            if uri is not None:
                self.env["SKYPILOT_DB_CONNECTION_URI"] = uri
                words += ["--shared", str(folder / "shared")]
            self._words = [*words, "--ready-fd", "1"]
            self._start(self._words)
        self.pids = [each.pid for each in self.processes[1:]]

    def _start(self, words: list[str]) -> None:
        process = subprocess.Popen(words, env=self.env, stdout=subprocess.PIPE, start_new_session=True)
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n", f"{words} did not start"

    @property
    def sockets(self) -> list[str]:
        """Where the servers listen."""
        return [str(state / "api.sock") for state in self.states]

    def again(self, number: int) -> None:
        """Start the only server anew, which was killed."""
        self.processes.pop().wait()
        self._start(self._words)
        self.pids[number] = self.processes[-1].pid

    def memory(self, field: str = "Pss") -> int:
        """Of all servers together, in KiB."""
        return sum(memory_kb(pid, field) for pid in self.pids)

    def peak(self) -> int:
        """The most that each server ever had, together, in KiB."""
        return sum(
            int(line.split()[1])
            for pid in self.pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )

    @contextmanager
    def asking(self) -> Iterator[IO[str]]:
        """Have `/status` asked for all the while; where the answers are noted."""
        with (Path(self.cloud).parent / "answers").open("w+") as answers:
            words = [sys.executable, __file__, "--ask"]
            asking = [subprocess.Popen([*words, path], stdout=answers, env=self.env) for path in self.sockets]
            try:
                yield answers
            finally:
                for process in asking:
                    process.kill()
                    process.wait()

    def close(self) -> None:
        """End all processes."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()


async def launch(sockets: list[str], names: list[str], user: str) -> None:
    """Submit a launch for each name."""
    left = list(enumerate(names))

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_unix_connection(sockets[number % len(sockets)])
        while left:
            _, name = left.pop(0)
            writer.write(posted("/launch", json.dumps({"task": _TASK, "cluster_name": name}).encode(), user))
            await exchange(reader)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(_AT_ONCE)))


async def until(what: Any, wanted: int) -> float:
    """Wait until a count is reached; how long it took."""
    begun = time.monotonic()
    while (found := await what()) < wanted:
        assert time.monotonic() - begun < _PATIENCE_S, f"{found} of {wanted}"
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


def ended(house: House, records: "Records") -> Any:
    """How many requests have succeeded."""

    async def count() -> int:
        return records.count("SELECT count(*) FROM requests WHERE status = 'SUCCEEDED'")

    return count


class Records:
    """Looks into the database from outside."""

    def __init__(self, state: Path, postgres: Any, name: str | None) -> None:
        self._file = state / "state.db"
        self._postgres = postgres
        self._name = name

    def count(self, words: str) -> int:
        """A number."""
        if self._name is not None:
            return int(self._postgres.say(self._name, words))
        import sqlite3

        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as connection:
            return int(connection.execute(words).fetchone()[0])


async def ask_all_the_while(path: str, clients: int) -> None:
    """Ask for `/status` until killed; prints when each answer came and how long it took."""

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        await asyncio.sleep(number * 0.1 / clients)
        while True:
            begun = time.monotonic()
            writer.write(posted("/status", BODY, "root"))
            await exchange(reader)
            # One write for a line: several processes have this output.
            print(f"{begun} {time.monotonic() - begun}\n", end="", flush=True)
            await asyncio.sleep(max(0.0, begun + 0.1 - time.monotonic()))

    await asyncio.gather(*(client(number) for number in range(clients)))


def quantiles(lines: list[tuple[float, float]], begun: float, ended: float) -> dict[str, float]:
    """Of the answers that were asked for in between."""
    waits = sorted(took for at, took in lines if begun <= at < ended)
    if not waits:
        return {"answers": 0}
    return {
        "answers": len(waits),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
        "most_ms": round(waits[-1] * 1000, 1),
    }


async def measure(given: argparse.Namespace, house: House, records: Records) -> dict[str, Any]:
    """All figures."""
    line = Line(house.cloud)

    async def asked() -> int:
        return int((await line.ask("asked"))["asked"])

    told: dict[str, Any] = {"launches": given.launches, "servers": given.servers}
    # Something is in memory in any server that has done anything at all.
    await launch(house.sockets, [f"first-{number}" for number in range(_FIRST)], "root")
    await until(asked, _FIRST)
    before, before_peak, cpu = house.memory(), house.memory("Rss"), [cpu_s(pid) for pid in house.pids]
    with house.asking() as answers:
        # Until they ask.
        await asyncio.sleep(1.0)
        times = [time.monotonic()]
        await launch(house.sockets, [f"many-{number}" for number in range(given.launches)], "root")
        told["submitted_per_s"] = round(given.launches / (time.monotonic() - times[0]), 1)
        await until(asked, _FIRST + given.launches)
        times.append(time.monotonic())
        await launch(house.sockets, ["other"], "somebody")
        told["another_user_s"] = round(await until(asked, _FIRST + given.launches + 1), 2)
        await asyncio.sleep(given.seconds)
        waiting = house.memory()
        times.append(time.monotonic())
        await line.ask("release", spread=given.spread)
        await until(ended(house, records), _FIRST + given.launches + 1)
        times.append(time.monotonic())
        told["all_up_s"] = round(times[3] - times[2], 1)
        await asyncio.sleep(given.seconds)
        times.append(time.monotonic())
        answers.seek(0)
        lines = [(float(at), float(took)) for at, took in (each.split() for each in answers if each.endswith("\n"))]
    parts = ("submitting", "waiting_for_machines", "coming_up", "all_up")
    told["status"] = {part: quantiles(lines, *times[at : at + 2]) for at, part in enumerate(parts)}
    told["status"]["in_flight"] = quantiles(lines, times[0], times[3])
    told["cpu_s"] = [round(cpu_s(pid) - used, 1) for pid, used in zip(house.pids, cpu, strict=True)]
    told["kb_per_launch"] = {
        "waiting": round((waiting - before) * 1.024 / given.launches, 1),
        "highest": round((house.peak() - before_peak) * 1.024 / given.launches, 1),
    }
    return told


def main() -> None:
    """Print the figures."""
    if sys.argv[1:2] == ["--ask"]:
        asyncio.run(ask_all_the_while(sys.argv[2], 4))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launches", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=1, help="more than one: on PostgreSQL")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which all wait, and for which all are up")
    parser.add_argument("--spread", type=float, default=20.0, help="seconds in which the machines come")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True) if not os.environ.get("KEEP") else print(
            folder, file=sys.stderr
        )
        postgres = Postgres() if given.servers > 1 else None
        name = uri = None
        if postgres is not None:
            stack.callback(postgres.close)
            name = postgres.database()
            uri = postgres.uri(name)
        house = House(folder, given.servers, uri)
        stack.callback(house.close)
        records = Records(house.states[0], postgres, name)
        print(json.dumps(asyncio.run(measure(given, house, records)), indent=2))


if __name__ == "__main__":
    main()
