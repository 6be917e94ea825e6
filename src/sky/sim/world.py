"""A whole system under one seed: the real engine, core, store and fleet among simulated clouds, nodes, users, faults.

`python -m sky.sim` and the tests run worlds. The trace of a run is the same for the same seed; a seed that breaks an
invariant is the report.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from sky.engine.plane import ControlPlane
from sky.kit.ids import drawn_from
from sky.sim import invariants
from sky.sim.cloud import Cloud, Machine
from sky.sim.faults import Fault, draw
from sky.sim.loop import Deadlock, Livelock, SimClock, SimLoop, run
from sky.sim.node import SimNode
from sky.sim.replica import Died, count_tasks
from sky.sim.server import Server
from sky.sim.users import User
from sky.store.sqlite import SqliteStore

T = TypeVar("T")

#: Seconds of a world in which users and faults are at work, and after which it has to have come to rest.
BUSY_S = 200.0
_REST_S = 900.0
#: Seconds that it may take to come to rest once nobody wants anything any more and nothing goes wrong.
_SETTLE_S = 300.0
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
        count = self.chance("servers").choice((1, 2))
        self.servers = [Server(self, f"server {number}", alone=count == 1) for number in range(1, count + 1)]
        self._callers = self.chance("callers")
        self.disk_full = False
        self.disk_slow_s = 0.0
        self.faults = draw(self.chance("faults"), BUSY_S) if faults is None else faults
        self.users = [User(self, f"u{number}", self.chance(f"user {number}")) for number in range(users)]
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

    def server(self, dose: float) -> Server:
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

    async def main(self) -> None:
        """The whole run."""
        count_tasks(self.loop)
        servers = [asyncio.ensure_future(each.live()) for each in self.servers]
        weather = asyncio.ensure_future(self._weather())
        watch = asyncio.ensure_future(self._watch())
        people = [asyncio.ensure_future(user.live()) for user in self.users]
        try:
            async with asyncio.timeout(BUSY_S + _REST_S):
                await asyncio.gather(weather, *people)
                await self._come_to_rest()
        except TimeoutError:
            waiting = [user.name for user, life in zip(self.users, people, strict=True) if not life.done()]
            self.violated(f"users still wait for an answer: {waiting}; {[u.doing for u in self.users]}")
        finally:
            for each in (*people, weather, watch):
                each.cancel()
            await asyncio.gather(*people, weather, watch, return_exceptions=True)
        async for line in invariants.at_rest(self):
            self.violated(line)
        for server in servers:
            server.cancel()
        await asyncio.gather(*servers, return_exceptions=True)

    async def _come_to_rest(self) -> None:
        """Until nothing is left to complain of, or for as long as that may take."""
        await asyncio.sleep(max(0.0, self.calm_since - self.loop.time()))
        until = self.loop.time() + _SETTLE_S
        while self.loop.time() < until and [line async for line in invariants.at_rest(self)]:  # noqa: ASYNC110 - looks
            await asyncio.sleep(10.0)

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


def play(seed: int, faults: tuple[Fault, ...] | None = None, users: int = 3) -> Outcome:
    """Run one world to its end."""
    ids = Random(f"{seed}:ids")  # noqa: S311 - a world that can be repeated
    before = random.getstate()
    random.seed(seed)

    worlds: list[World] = []

    async def main(loop: SimLoop) -> None:
        worlds.append(World(loop, seed, faults, users))
        await worlds[0].main()

    try:
        with drawn_from(ids.randbytes):
            run(main)
    except (Deadlock, Livelock) as error:
        worlds[0].violated(f"{type(error).__name__}: {error}")
    finally:
        random.setstate(before)
    (world,) = worlds
    world.disk._db.close()
    digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
    return Outcome(seed, tuple(world.broken), digest, tuple(world.trace), world.loop.steps, world.loop.time())
