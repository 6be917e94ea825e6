"""What there is in one world, and what is written down of it. `play` fills it with servers, people and faults."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

from sky.engine.plane import ControlPlane
from sky.sim.bells import Bells
from sky.sim.cloud import Cloud, Machine
from sky.sim.loop import SimClock, SimLoop
from sky.sim.node import SimNode
from sky.sim.replica import Died, Replica
from sky.store.sqlite import SqliteStore

T = TypeVar("T")

#: A disk keeps what was written to it this many seconds ago, at most this many states of it.
IMAGE_S, IMAGES = 4.0, 9
#: The zones of its clouds.
ZONES = ("aws-r-a", "aws-r-b", "gcp-r-a", "gcp-r-b")


class Process(Protocol):
    """A server, as the world and its faults know it; see `server.Server`."""

    up: bool
    clock: SimClock
    crash_in: tuple[int, str] | None
    replica: Replica | None

    def crash(self, where: str) -> None: ...

    async def ask(self, do: Callable[[ControlPlane], Awaitable[T]]) -> T: ...


class Person(Protocol):
    """Somebody who uses it; see `users.User`."""

    name: str
    doing: str
    requests: list[str]


class World:
    """Clouds with their machines, a disk, servers and people, a clock, a trace: all drawn from `seed`."""

    def __init__(self, loop: SimLoop, seed: int) -> None:
        self.loop = loop
        self.seed = seed
        self.clock = SimClock(loop)
        self.trace: list[str] = []
        self.broken: list[str] = []
        self.clouds = {
            name: Cloud(
                name, [zone for zone in ZONES if zone.startswith(name)], self.chance(name), self.clock, self.tell
            )
            for name in ("aws", "gcp")
        }
        bucket: dict[str, float] = {}
        for cloud in self.clouds.values():
            cloud.bucket = bucket
            cloud.lag_s = self.chance(f"lag of {cloud.name}").choice((0.0, 0.0, 5.0))
        self.disk: SqliteStore = Disk(self)
        #: What would be there after a power failure: what was on the disk at these times, newest last.
        self.images: deque[tuple[float, bytes]] = deque(maxlen=IMAGES)
        self.servers: list[Process] = []
        self.people: list[Person] = []
        self._callers = self.chance("callers")
        self.bells = Bells(loop)
        #: Whether the records were put back to what they were before.
        self.forgot = False
        #: Runs of the system that the only server is on; each power failure ends one.
        self.boots = 1
        self.disk_full = False
        self.disk_slow_s = 0.0
        self.since_unowned: dict[str, float] = {}
        self.since_over: dict[str, float] = {}
        self.calm_since = 0.0

    def chance(self, of: str) -> Random:
        """Random numbers of one part of the world, which the others do not disturb."""
        return Random(f"{self.seed}:{of}")  # noqa: S311 - a world that can be repeated

    def tell(self, line: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{self.loop.time():10.3f} {line}")

    def violated(self, what: str) -> None:
        """An invariant does not hold."""
        if what not in self.broken:
            self.broken.append(what)
            self.tell(f"BROKEN: {what}")

    # --- the disk ------------------------------------------------------------------------------------------------

    def keep_image(self) -> None:
        """Remember what is on record now."""
        self.images.append((self.loop.time(), raw(self.disk).serialize()))

    def made_durable(self) -> None:
        """What is on record now stays there."""
        if self.images:
            self.images.clear()
            self.keep_image()

    def lose(self, seconds: float) -> None:
        """Put the records back to what they were so long ago, but for what was made durable.

        SQLite's log is whole up to a commit, whatever is torn behind that; see `tests/store/test_torn.py`.
        """
        now = self.loop.time()
        _, image = next((each for each in reversed(self.images) if each[0] <= now - seconds), self.images[0])
        self.images.clear()
        self.forgot = True
        self.boots += 1
        self.disk._file.close()
        self.disk = Disk(self)
        raw(self.disk).deserialize(image)
        self.keep_image()

    # --- servers -------------------------------------------------------------------------------------------------

    async def ask(self, do: Callable[[ControlPlane], Awaitable[T]]) -> T:
        """Ask a server as a client behind one address does: when it dies, ask another."""
        while True:
            servers = [each for each in self.servers if each.up]
            if not servers:
                await asyncio.sleep(0.25)
                continue
            try:
                return await self._callers.choice(servers).ask(do)
            except Died:
                await asyncio.sleep(0.2)

    def server(self, dose: float) -> Process:
        """One of them."""
        return self.servers[int(dose * 97) % len(self.servers)]

    # --- the world -----------------------------------------------------------------------------------------------

    def machine(self, name: str) -> Machine | None:
        """A machine of any cloud."""
        return self.clouds[name.partition("-")[0]].machines.get(name)

    def node(self, name: str) -> SimNode | None:
        """The node on a machine that is there."""
        found = self.machine(name)
        if found is None or not found.alive:
            return None
        found.node.peers = lambda: self._gang_of(found)
        return found.node

    def _gang_of(self, machine: Machine) -> list[SimNode]:
        cloud = self.clouds[machine.name.partition("-")[0]]
        alike = [each for each in cloud.machines.values() if each.mark == machine.mark]
        newest = {each.rank: each for each in alike}
        return [newest[rank].node for rank in sorted(newest)]

    def machines(self) -> list[Machine]:
        """All machines that there ever were."""
        return [each for cloud in self.clouds.values() for each in cloud.machines.values()]


class Disk(SqliteStore):
    """The records, on a disk that may lose what it was not waited for."""

    def __init__(self, world: World) -> None:
        super().__init__(None)
        self._world = world

    async def durable(self) -> None:
        self._world.made_durable()


def raw(store: SqliteStore) -> sqlite3.Connection:
    """The connection of a store in memory."""
    return store._file._transaction.raw
