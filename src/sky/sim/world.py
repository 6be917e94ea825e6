"""What there is in one world, and what is written down of it. `play` fills it with servers, people and faults."""

import asyncio
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
        for cloud in self.clouds.values():
            cloud.lag_s = self.chance(f"lag of {cloud.name}").choice((0.0, 0.0, 5.0))
        self.disk = SqliteStore(None)
        self.servers: list[Process] = []
        self.people: list[Person] = []
        self._callers = self.chance("callers")
        self.bells = Bells(loop)
        self.disk_full = False
        self.disk_slow_s = 0.0
        self.since_unowned: dict[str, float] = {}
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
