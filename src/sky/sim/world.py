"""A whole system under one seed: the real engine, core, store and fleet among simulated clouds, nodes, users and faults.

`python -m sky.sim` and the tests run worlds. The trace of a run is the same for the same seed; a seed that breaks an
invariant is the report.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from sky.engine.access import AccessBoard
from sky.engine.plane import ControlPlane
from sky.engine.plans import Planner
from sky.kit.ids import drawn_from
from sky.kit.signals import Signals
from sky.sim import invariants
from sky.sim.cloud import Cloud, Machine
from sky.sim.faults import Fault, draw
from sky.sim.loop import SimClock, SimLoop, run
from sky.sim.node import SimNode
from sky.sim.place import Ear, NoCatalog, SimFleet, SimProviders
from sky.sim.replica import Died, GatedStore, Replica, count_tasks
from sky.sim.users import User
from sky.store.sqlite import SqliteStore

T = TypeVar("T")

#: Seconds of a world in which users and faults are at work, and after which it has to have come to rest.
_BUSY_S = 400.0
_REST_S = 900.0
_CHECK_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what was broken (nothing, if all is well), a digest of its trace, and the trace."""

    seed: int
    broken: tuple[str, ...]
    digest: str
    trace: tuple[str, ...] = field(repr=False, default=())
    steps: int = 0
    seconds: float = 0.0


class World:
    """See the module. Everything in it is drawn from `seed`; `faults` replaces those that the seed would bring."""

    def __init__(self, loop: SimLoop, seed: int, faults: tuple[Fault, ...] | None = None, users: int = 3) -> None:
        self.loop = loop
        self.seed = seed
        self.clock = SimClock(loop)
        self.trace: list[str] = []
        self.broken: list[str] = []
        self.clouds = {
            name: Cloud(name, [f"{name}-r-{zone}" for zone in "ab"], self.chance(name), self.clock, self.tell)
            for name in ("aws", "gcp")
        }
        for cloud in self.clouds.values():
            cloud.lag_s = self.chance(f"lag of {cloud.name}").choice((0.0, 0.0, 5.0))
        self.disk = SqliteStore(None)
        self.replica: Replica | None = None
        self.plane: ControlPlane | None = None
        self.up = asyncio.Event()
        self.crashed = asyncio.Event()
        self.crash_in: int | None = None
        self.disk_full = False
        self.disk_slow_s = 0.0
        self.faults = draw(self.chance("faults"), _BUSY_S) if faults is None else faults
        self.users = [User(self, f"u{number}", self.chance(f"user {number}")) for number in range(users)]
        self.since_unowned: dict[str, float] = {}
        self.calm_since = 0.0
        self._servers = 0

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

    # --- the server ----------------------------------------------------------------------------------------------

    async def keep_server(self) -> None:
        """Start a server, and another one whenever it has died."""
        after = self.chance("restarts")
        while True:
            await self._start()
            await self.crashed.wait()
            self.up.clear()
            assert self.replica is not None
            await self.replica.bury()
            self.crashed.clear()
            await asyncio.sleep(after.choice((0.5, 3.0, 25.0)))

    async def _start(self) -> None:
        self._servers += 1
        replica = self.replica = Replica(f"server {self._servers}", self._passing)
        self.tell(f"{replica.name} starts")
        for rows in (self.disk.clusters, self.disk.jobs, self.disk.requests):
            rows.break_leases()
        signals, providers = Signals(), SimProviders(replica, self.clouds)
        store: Any = GatedStore(replica, self.disk)
        catalogs: Any = NoCatalog()
        access = AccessBoard(providers, self.clock)
        planner = Planner(providers, catalogs, access, store, self.clock, _nothing_set, _nothing_allowed)
        fleet: Any = SimFleet(self.node)
        self.plane = ControlPlane(
            store, providers, fleet, self.clock, signals, Ear(), catalogs=catalogs, access=access, planner=planner
        )
        try:
            await replica.run(self.plane.start())
        except Died:
            return
        except asyncio.CancelledError:
            if not replica.dead:
                raise
            return
        self.up.set()

    def _passing(self, replica: Replica, label: str, side: str) -> float:
        """Called whenever a server does something outside of itself; it may die of it."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash(f"{side} {label}")
                return 0.0
        storing = label.endswith((".commit", ".open", ".post")) and side == "before"
        if storing and self.disk_full:
            from sky.core.errors import ServerTemporarilyUnavailableError  # noqa: PLC0415

            raise ServerTemporarilyUnavailableError("the disk is full")
        return self.disk_slow_s if storing else 0.0

    def crash(self, where: str) -> None:
        """The server dies here and now."""
        if self.replica is not None and not self.replica.dead:
            self.tell(f"{self.replica.name} dies {where}")
            self.crash_in = None
            self.replica.die()
            self.crashed.set()

    async def ask(self, do: Callable[[ControlPlane], Awaitable[T]]) -> T:
        """Ask the server as a client does: when it dies, ask the next one."""
        while True:
            await self.up.wait()
            replica, plane = self.replica, self.plane
            assert replica is not None and plane is not None
            asked = asyncio.ensure_future(replica.run(_aw(do(plane))))
            gone = asyncio.ensure_future(self.crashed.wait())
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if asked.done() and not asked.cancelled() and not isinstance(asked.exception(), Died):
                answer: T = asked.result()
                return answer
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await asyncio.sleep(0.2)

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

    async def main(self) -> None:
        """The whole run."""
        count_tasks(self.loop)
        server = asyncio.ensure_future(self.keep_server())
        weather = asyncio.ensure_future(self._weather())
        watch = asyncio.ensure_future(self._watch())
        people = [asyncio.ensure_future(user.live()) for user in self.users]
        try:
            async with asyncio.timeout(_BUSY_S + _REST_S):
                await asyncio.gather(weather, *people)
                await asyncio.sleep(200.0)
        except TimeoutError:
            waiting = [user.name for user, life in zip(self.users, people, strict=True) if not life.done()]
            self.violated(f"users still wait for an answer: {waiting}; {[u.doing for u in self.users]}")
        finally:
            for each in (*people, weather, watch):
                each.cancel()
            await asyncio.gather(*people, weather, watch, return_exceptions=True)
        await invariants.at_rest(self)
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
        if self.replica is not None:
            self.replica.die()
            await self.replica.bury()

    async def _weather(self) -> None:
        for fault in sorted(self.faults, key=lambda each: each.at):
            await asyncio.sleep(max(0.0, fault.at - self.loop.time()))
            self.tell(f"fault: {fault}")
            fault.strike(self)
            self.calm_since = max(self.calm_since, self.loop.time() + fault.lasts)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await invariants.meanwhile(self)


async def _aw(given: Awaitable[T]) -> T:
    return await given


def _nothing_set(place: str) -> Mapping[str, object]:
    return {}


def _nothing_allowed() -> None:
    return None


def play(seed: int, faults: tuple[Fault, ...] | None = None, users: int = 3) -> Outcome:
    """Run one world to its end."""
    ids = Random(f"{seed}:ids")  # noqa: S311 - a world that can be repeated
    before = random.getstate()
    random.seed(seed)

    async def main(loop: SimLoop) -> Outcome:
        world = World(loop, seed, faults, users)
        try:
            await world.main()
        finally:
            await world.disk.close()
        digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
        return Outcome(seed, tuple(world.broken), digest, tuple(world.trace), loop.steps, loop.time())

    try:
        with drawn_from(ids.randbytes):
            return run(main)
    finally:
        random.setstate(before)
