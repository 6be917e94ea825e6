"""Kill -9 of a server with a thousand managed jobs in every state: how soon the next one has everything in order.

    python benchmarks/crash_jobs.py [--jobs N] [--down S] [--rounds N]

The server is the real one but for its provider and its nodes, which live on in a process of their own
(`made_up_cloud.py`). Jobs take from no time to half a minute, some fail, some are cancelled, machines are lost all the
while, also while no server runs. Prints JSON, one object; per kill the stages that the jobs were in, and seconds until
the next server was ready and until all was in order: each job has one cluster on record or none, each cluster that is
up its machine, no machine is nobody's, and no row waits to be taken up. In the end each job has ended, and
`doubled` is how many jobs were ever seen to run on two machines at once.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from launches import House, posted  # noqa: E402 - found by the path above
from made_up_cloud import Line  # noqa: E402 - as above
from managed_jobs import Records  # noqa: E402 - as above

from server import exchange  # noqa: E402 - as above

#: What jobs do: seconds and exit code.
_WORK = ((0.2, 0), (2, 0), (5, 0), (10, 0), (20, 0), (30, 0), (3, 1))
_PATIENCE_S = 900.0
_LIVING = "SELECT id, owner, phase, name FROM clusters WHERE living"
_STAGES = "SELECT stage, count(*) FROM managed_jobs GROUP BY stage"
_DUE = " + ".join(
    f"(SELECT count(*) FROM {table} WHERE due_at <= {{now}} - 1 AND lease_until <= {{now}})"
    for table in ("managed_jobs", "clusters", "jobs")
)


async def call(path: str, where: str, body: dict[str, Any]) -> None:
    """One call of the server."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(posted(where, json.dumps(body).encode(), "root"))
    await exchange(reader)
    writer.close()


async def submit(path: str, jobs: int) -> None:
    """Have jobs launched, of each kind as many."""
    for at, (seconds, code) in enumerate(_WORK):
        count = (jobs + at) // len(_WORK)
        for begun in range(0, count, 50):
            task = {"name": f"k{at}", "run": f"sim {seconds} {code}", "resources": {"infra": "local"}}
            body = {"dag": {"tasks": [task]}, "name": f"k{at}", "num_jobs": min(50, count - begun)}
            await call(path, "/jobs/launch", body)


class Weather:
    """Machines are lost and jobs are cancelled all the while; what runs twice at once is seen."""

    def __init__(self, house: House, cloud: Line, records: Records) -> None:
        self._house, self._cloud, self._records = house, cloud, records
        self._rng = Random(1)
        self.doubled: set[str] = set()
        self.over = self.calm = False

    async def blow(self) -> None:
        """Until there is enough of it."""
        while not self.over:
            seen = await self._cloud.ask("states")
            self.doubled |= set(seen["doubled"])
            if seen["machines"] > 20 and not self.calm:
                await self._cloud.ask("lose", count=1)
            await asyncio.sleep(1.0)

    async def watch(self) -> None:
        """See what runs twice, until cancelled."""
        while True:
            self.doubled |= set((await self._cloud.ask("states"))["doubled"])
            await asyncio.sleep(0.2)


async def disorder(records: Records, cloud: Line) -> list[str]:
    """What is not as it should be."""
    machines = set((await cloud.ask("list"))["nodes"])
    living = records.all(_LIVING)
    ids, wrong = {id for id, *_ in living}, []
    owners = [owner for _, owner, _, _ in living]
    wrong += [f"{owner} has {owners.count(owner)} clusters" for owner in set(owners) if owners.count(owner) > 1]
    wrong += [f"{name} is nobody's" for name in machines if name.rpartition("-")[0] not in ids]
    up = {id: name for id, _, phase, name in living if phase == "UP"}
    wrong += [f"{name} is up without a machine" for id, name in up.items() if f"{id}-0" not in machines]
    (late,) = records.all(f"SELECT {_DUE.format(now=time.time())}")[0]
    return wrong + ([f"{late} rows wait"] if late else [])


async def until_in_order(records: Records, cloud: Line) -> float:
    """Seconds until nothing is wrong."""
    begun = time.monotonic()
    while wrong := await disorder(records, cloud):
        assert time.monotonic() - begun < _PATIENCE_S, wrong[:5]
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def until_done(records: Records, wanted: float) -> None:
    """Wait until so many jobs have ended."""
    begun = time.monotonic()
    while dict(stages := records.all(_STAGES)).get("DONE", 0) < wanted:
        assert time.monotonic() - begun < _PATIENCE_S, stages
        await asyncio.sleep(0.1)


async def measure(given: argparse.Namespace, house: House) -> dict[str, Any]:
    """All figures."""
    records, cloud, told = Records(house.states[0]), Line(house.cloud), []
    await cloud.ask("release", spread=3.0)
    weather = Weather(house, cloud, records)
    blowing, watching = asyncio.ensure_future(weather.blow()), asyncio.ensure_future(weather.watch())
    for number in range(given.rounds):
        weather.calm = False
        await submit(house.sockets[0], given.jobs // given.rounds)
        for rank in range(10):
            await call(house.sockets[0], "/jobs/cancel", {"name": f"k5-{rank + 10 * number}"})
        await until_done(records, (number + 0.2) * given.jobs / given.rounds)
        os.kill(house.pids[0], signal.SIGKILL)
        stages = dict(records.all(_STAGES))
        await asyncio.sleep(given.down)
        # What is lost from here on is not the crash's.
        weather.calm, begun = True, time.monotonic()
        house.again(0)
        ready = time.monotonic() - begun
        in_order = await until_in_order(records, cloud)
        told.append({"stages": stages, "ready_s": round(ready, 2), "in_order_s": round(ready + in_order, 2)})
    weather.over = True
    await blowing
    wanted = sum(count for _, count in records.all(_STAGES))
    await until_done(records, wanted)
    await until_in_order(records, cloud)
    watching.cancel()
    ends = dict(records.all("SELECT status, count(*) FROM managed_jobs GROUP BY status"))
    return {"kills": told, "jobs": wanted, "ends": ends, "doubled": len(weather.doubled),
            "machines_left": len((await cloud.ask("list"))["nodes"])}  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, help="kills; each finds so many more jobs")
    parser.add_argument("--down", type=float, default=2.0, help="seconds for which no server runs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="sky-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        house = House(folder, 1, None)
        stack.callback(house.close)
        print(json.dumps(asyncio.run(measure(given, house)), indent=2))


if __name__ == "__main__":
    main()
