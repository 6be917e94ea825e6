"""A control plane as a process of a world: started, killed at odd moments, started again, with a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.engine.access import AccessBoard
from sky.engine.duties import Among
from sky.engine.parts import Parts
from sky.engine.plane import ControlPlane
from sky.engine.plans import Planner
from sky.kit.signals import Signals
from sky.sim.loop import SimClock
from sky.sim.place import Ear, NoCatalog, SimFleet, SimProviders
from sky.sim.replica import Died, GatedStore, Replica
from sky.sim.world import World

T = TypeVar("T")

#: Calls that write to the disk, as far as a disk that is full or slow is concerned.
_STORING = (".commit", ".open", ".post")


class Server:
    """See the module. `alone`: nobody else works on the same store, so that leases of the dead need not run out."""

    def __init__(self, world: World, name: str, *, alone: bool) -> None:
        self._world = world
        self.name = name
        self._alone = alone
        self.clock = SimClock(world.loop)
        self._crashed = asyncio.Event()
        self._restarts = world.chance(f"restarts of {name}")
        self.replica: Replica | None = None
        self._plane: ControlPlane | None = None
        self._signals = Signals()
        self.up = False
        #: After so many calls to the outside of whose name this is a part, it dies.
        self.crash_in: tuple[int, str] | None = None

    async def live(self) -> None:
        """Run, and run again whenever it has died, until cancelled."""
        try:
            while True:
                try:
                    await self._start()
                except ServerTemporarilyUnavailableError:
                    # It says so and ends, as a process does; whoever needs it starts another.
                    self.crash("as it cannot start")
                await self._crashed.wait()
                await self._bury()
                await asyncio.sleep(self._restarts.choice((0.5, 3.0, 25.0)))
        finally:
            if self.replica is not None:
                self._die(self.replica)
                await self._bury()

    async def _bury(self) -> None:
        self.up = False
        assert self.replica is not None
        await self.replica.bury()
        self._crashed.clear()

    async def _start(self) -> None:
        world = self._world
        replica = self.replica = Replica(self.name, self._passing)
        world.tell(f"{self.name} starts")
        if self._alone:
            for rows in (world.disk.clusters, world.disk.jobs, world.disk.requests, world.disk.managed_jobs):
                await rows.break_leases()
        signals, providers = Signals(), SimProviders(replica, world.clouds)
        if not self._alone:
            world.bells.join(signals)
        self._signals = signals
        store: Any = GatedStore(replica, world.disk)
        catalogs: Any = NoCatalog()
        access = AccessBoard(providers, self.clock)
        planner = Planner(providers, catalogs, access, store, self.clock, _nothing_set, _nothing_allowed)
        duties = None if self._alone else Among(store.duties, self.clock, signals)
        fleet: Any = SimFleet(replica, world.node)
        boot = str(world.boots) if self._alone else ""
        parts = Parts(
            store, providers, fleet, self.clock, signals, Ear(), catalogs, access, planner, duties=duties, boot=boot
        )
        self._plane = ControlPlane(parts)
        try:
            await replica.run(self._plane.start())
        except Died:
            return
        except asyncio.CancelledError:
            if not replica.dead:
                raise
            return
        self.up = True

    def _passing(self, label: str, side: str) -> float:
        """Called whenever it does something outside of itself; it may die of it, or have to wait."""
        if self.crash_in is not None and self.crash_in[1] in label:
            left, kind = self.crash_in
            self.crash_in = (left - 1, kind)
            if left <= 1:
                self.crash(f"{side} {label}")
                return 0.0
        world = self._world
        if (world.disk_full or world.disk_slow_s) and side == "before" and label.endswith(_STORING):
            if world.disk_full:
                raise ServerTemporarilyUnavailableError("the disk is full")
            return world.disk_slow_s
        return 0.0

    def crash(self, where: str) -> None:
        """It dies here and now."""
        if self.replica is not None and not self.replica.dead:
            self._world.tell(f"{self.name} dies {where}")
            self.crash_in, self.up = None, False
            self._die(self.replica)
            self._crashed.set()

    def _die(self, replica: Replica) -> None:
        replica.die()
        self._world.bells.part(self._signals)

    async def ask(self, do: Callable[[ControlPlane], Awaitable[T]]) -> T:
        """Answer a client. Raises Died when it does so before the answer is there."""
        replica, plane = self.replica, self._plane
        assert replica is not None and plane is not None
        asked = asyncio.ensure_future(replica.run(_asked(do, plane)))
        gone = asyncio.ensure_future(self._crashed.wait())
        try:
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if replica.dead or asked.cancelled():
                raise Died
            answer: T = asked.result()
            return answer
        finally:
            gone.cancel()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)


async def _asked(do: Callable[[ControlPlane], Awaitable[T]], plane: ControlPlane) -> T:
    return await do(plane)


def _nothing_set(place: str) -> Mapping[str, object]:
    return {}


def _nothing_allowed() -> None:
    return None
