"""One seed played to its end: the real engine, core, store and fleet among simulated clouds, nodes, people and faults.

`python -m sky.sim` and the tests do it. The trace of a run is the same for the same seed; a seed that breaks an
invariant is the report.
"""

import asyncio
import gc
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from sky.kit.ids import drawn_from
from sky.sim import invariants, spot
from sky.sim.faults import POWER, Fault, draw, lose
from sky.sim.loop import Deadlock, Livelock, SimLoop, run
from sky.sim.managed_users import Manager
from sky.sim.markets import Market
from sky.sim.pool_users import PoolKeeper
from sky.sim.replica import count_tasks
from sky.sim.server import Server
from sky.sim.users import User
from sky.sim.world import IMAGE_S, ZONES, World

#: Seconds of a world in which people and faults are at work, and after which it has to have come to rest.
BUSY_S = 200.0
_REST_S = 900.0
#: Seconds that it may take to come to rest once nobody wants anything any more and nothing goes wrong.
_SETTLE_S = 300.0
_CHECK_EVERY_S = 20.0
#: The share of worlds in which somebody has jobs managed: such a world takes two to three times as long to play.
MANAGED_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: what was broken (nothing, if all is well), a digest of its trace, and the trace."""

    seed: int
    broken: tuple[str, ...]
    digest: str
    trace: tuple[str, ...] = field(repr=False, default=())
    steps: int = 0
    seconds: float = 0.0


class Play:
    """A world with everybody in it."""

    def __init__(
        self, loop: SimLoop, seed: int, faults: Sequence[Fault], users: int, managers: int = 0, pools: int = 0
    ) -> None:
        world = self.world = World(loop, seed)
        count = world.chance("servers").choice((1, 2))
        self._servers = [Server(world, f"server {number}", alone=count == 1) for number in range(1, count + 1)]
        self._users: list[User | Manager] = [
            User(world, f"u{number}", world.chance(f"user {number}")) for number in range(users)
        ]
        self._users += [Manager(world, f"m{at}", world.chance(f"manager {at}")) for at in range(managers)]
        self._users += [PoolKeeper(world, f"p{at}", world.chance(f"pool {at}")) for at in range(pools)]
        world.servers, world.people = list(self._servers), list(self._users)
        self._faults = faults

    async def main(self) -> None:
        """The whole run."""
        world = self.world
        count_tasks(world.loop)
        servers = [asyncio.ensure_future(each.live()) for each in self._servers]
        weather = asyncio.ensure_future(self._weather())
        watch = [asyncio.ensure_future(self._watch())]
        if len(self._servers) == 1 and any(each.kind == POWER for each in self._faults):
            watch.append(asyncio.ensure_future(self._disk()))
        people = [asyncio.ensure_future(user.live()) for user in self._users]
        left: list[str] | None = None
        try:
            async with asyncio.timeout(BUSY_S + _REST_S):
                await asyncio.gather(weather, *people)
                left = await self._come_to_rest()
        except TimeoutError:
            waiting = [user.name for user, life in zip(self._users, people, strict=True) if not life.done()]
            world.violated(f"users still wait for an answer: {waiting}; {[u.doing for u in self._users]}")
        except Exception as error:  # noqa: BLE001 - nobody foresaw it: that is what is looked for
            world.violated(f"somebody met with {type(error).__name__}: {error}")
        finally:
            for each in (*people, weather, *watch):
                each.cancel()
            await asyncio.gather(*people, weather, *watch, return_exceptions=True)
        for line in await self._complaints() if left is None else left:
            world.violated(line)
        for server in servers:
            server.cancel()
        await asyncio.gather(*servers, return_exceptions=True)

    async def _come_to_rest(self) -> list[str]:
        """Wait until nothing is left to complain of, or for as long as that may take; what is left."""
        await asyncio.sleep(max(0.0, self.world.calm_since - self.world.loop.time()))
        until = self.world.loop.time() + _SETTLE_S
        while (left := await self._complaints()) and self.world.loop.time() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(10.0)
        return left

    async def _complaints(self) -> list[str]:
        return [line async for line in invariants.at_rest(self.world)]

    async def _weather(self) -> None:
        for fault in sorted(self._faults, key=lambda each: each.at):
            await asyncio.sleep(max(0.0, fault.at - self.world.loop.time()))
            self.world.tell(f"fault: {fault}")
            fault.strike(self.world)
            self.world.calm_since = max(self.world.calm_since, self.world.loop.time() + fault.lasts)

    async def _disk(self) -> None:
        """Keep what a power failure would leave, in worlds that have one."""
        while True:
            self.world.keep_image()
            await asyncio.sleep(IMAGE_S)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await invariants.meanwhile(self.world)


def play(
    seed: int,
    faults: Sequence[Fault] | None = None,
    users: int | None = None,
    managers: int = 0,
    pools: int = 0,
    *,
    recorded: Market | None = None,
) -> Outcome:
    """Run one world to its end, with so many people who use clusters, have their jobs managed, have pools.

    Who is there is drawn where `users` is not said. `faults` replaces those that the seed would bring; `recorded` its
    spot market.
    """
    if users is None:
        users, managers = company(seed)
    ids = Random(f"{seed}:ids")  # noqa: S311 - a world that can be repeated
    before = random.getstate()
    random.seed(seed)

    plays: list[Play] = []

    async def main(loop: SimLoop) -> None:
        weather = drawn(seed, recorded, losses=managers + pools > 0) if faults is None else faults
        plays.append(Play(loop, seed, weather, users, managers, pools))
        await plays[0].main()

    try:
        with drawn_from(ids.randbytes), _unswept():
            run(main)
    except (Deadlock, Livelock) as error:
        plays[0].world.violated(f"{type(error).__name__}: {error}")
    finally:
        random.setstate(before)
    world = plays[0].world
    world.disk._file.close()
    digest = hashlib.sha256("\n".join(world.trace).encode()).hexdigest()
    return Outcome(seed, tuple(world.broken), digest, tuple(world.trace), world.loop.steps, world.loop.time())


@contextmanager
def _unswept() -> Iterator[None]:
    """A world ends before its garbage is worth looking for: a tenth of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def company(seed: int) -> tuple[int, int]:
    """How many people of a seed's world use clusters, and how many have their jobs managed."""
    rng = Random(f"{seed}:company")  # noqa: S311 - a world that can be repeated
    return (rng.choice((0, 1)), 1) if rng.random() < MANAGED_SHARE else (3, 0)


def drawn(seed: int, recorded: Market | None = None, *, losses: bool | None = None) -> tuple[Fault, ...]:
    """The faults that a seed brings, its spot market among them; or a stretch of one that was recorded.

    With `losses` machines of all clouds are taken away besides, again and again: where jobs are managed, unless said
    otherwise.
    """
    if losses is None:
        losses = company(seed)[1] > 0
    weather = draw(Random(f"{seed}:faults"), BUSY_S)  # noqa: S311 - a world that can be repeated
    if losses:
        weather = (*weather, *lose(Random(f"{seed}:losses"), BUSY_S))  # noqa: S311 - the same
    if recorded is None:
        return (*weather, *spot.drawn(seed, ZONES, BUSY_S))
    return (*weather, *spot.played(recorded, seed, ZONES, BUSY_S))
