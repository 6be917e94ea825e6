"""What may go wrong in a world, each with its time; drawn from a seed, and left out one by one when a run is shrunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from sky.sim.world import World

#: The fault after which records are not what they were.
POWER = "power fails"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: `kind` at `at` seconds for `lasts` seconds; `dose` is how bad, between 0 and 1.

    What happens to one zone names it, and its dose may be a share of a price.
    """

    kind: str
    at: float
    lasts: float
    dose: float
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind}{self.where and f' in {self.where}'} for {self.lasts:.0f} s, dose {self.dose:.2f}"

    def strike(self, world: World) -> None:
        """Let it happen."""
        _KINDS[self.kind](world, self)


def draw(rng: Random, until: float) -> tuple[Fault, ...]:
    """As many and as bad as the seed will have it."""
    kinds = sorted(_KINDS.keys() - _OF_MARKETS)
    return tuple(
        Fault(rng.choice(kinds), round(rng.uniform(1, until), 3), round(rng.choice((3.0, 20.0, 45.0)), 3),
              round(rng.random(), 3))
        for _ in range(rng.choice((0, 2, 4, 8, 14)))
    )  # fmt: skip


def lose(rng: Random, until: float) -> tuple[Fault, ...]:
    """Machines that are taken away, and more or less of what comes with it; some are out of reach for very long."""
    kinds = ("preemption wave", "machine breaks", "preemption wave", "partition", "crash at a call")
    drawn = [
        Fault(
            rng.choice(kinds), round(rng.uniform(20, until), 3), rng.choice((3.0, 45.0, 400.0)), round(rng.random(), 3)
        )
        for _ in range(rng.randint(2, 7))
    ]
    # The others are over at once, and a world need not be waited for on their account.
    return tuple(each if each.kind == "partition" else replace(each, lasts=3.0) for each in drawn)


def _crash_soon(world: World, fault: Fault) -> None:
    """After so many calls to the outside of one kind: between a commit and its effect, or an effect and its commit."""
    kinds = ("", "jobs.commit", "clusters.commit", "requests.commit", ".create", ".terminate", ".post", "agent.submit")
    number = int(fault.dose * 1000)
    kind = kinds[number % len(kinds)]
    world.server(fault.dose).crash_in = (1 + number // len(kinds) % (3 if kind else 30), kind)


def _crash_now(world: World, fault: Fault) -> None:
    """At some await: so many rounds of the loop from here."""
    strike_at = world.loop.steps + 1 + int(fault.dose * 200)

    def each_round(step: int) -> None:
        if step >= strike_at:
            world.loop.each_round = None
            world.server(fault.dose).crash(f"at round {step}")

    world.loop.each_round = each_round


def _weather(**change: object) -> Callable[[World, Fault], None]:
    def strike(world: World, fault: Fault) -> None:
        cloud = world.clouds[sorted(world.clouds)[int(fault.dose * len(world.clouds)) % len(world.clouds)]]
        for name, value in change.items():
            worse = value if isinstance(value, bool) else float(str(value)) * (0.3 + 0.7 * fault.dose)
            setattr(cloud.weather, name, worse)
            world.loop.call_later(fault.lasts, setattr, cloud.weather, name, False if value is True else 0.0)

    return strike


def _wave(world: World, fault: Fault) -> None:
    """Spot machines are taken back."""
    alive = [each for each in world.machines() if each.alive and each.spot]
    for each in alive[: 1 + int(fault.dose * len(alive))]:
        world.clouds[each.name.partition("-")[0]].end_one(each, "taken back by the cloud")


def _one_dies(world: World, fault: Fault) -> None:
    """Any machine breaks."""
    alive = [each for each in world.machines() if each.alive]
    if alive:
        each = alive[int(fault.dose * len(alive)) % len(alive)]
        world.clouds[each.name.partition("-")[0]].end_one(each, "the machine broke")


def _partition(world: World, fault: Fault) -> None:
    alive = [each for each in world.machines() if each.alive]
    for each in alive[: 1 + int(fault.dose * len(alive))]:
        each.node.cut = True
        world.loop.call_later(fault.lasts, setattr, each.node, "cut", False)


def _lines_break(world: World, fault: Fault) -> None:
    """Connections to nodes end in the middle of what they carry."""
    for each in world.machines():
        if each.alive:
            each.node.break_lines(0.001 + 0.02 * fault.dose)
            for after in range(1, int(fault.lasts)):
                world.loop.call_later(after, each.node.break_lines, 0.02 * fault.dose)


def _agent_dies(world: World, fault: Fault) -> None:
    for each in world.machines():
        if each.alive:
            each.node.kill_agent()


def _clock_jump(world: World, fault: Fault) -> None:
    """A server's wall clock is set, forward or back; time itself goes on."""
    world.server(fault.dose).clock.skew += (fault.dose - 0.4) * 200


def _full_disk(world: World, fault: Fault) -> None:
    world.disk_full = True
    world.loop.call_later(fault.lasts, setattr, world, "disk_full", False)


def _slow_disk(world: World, fault: Fault) -> None:
    world.disk_slow_s = 0.5 * fault.dose
    world.loop.call_later(fault.lasts, setattr, world, "disk_slow_s", 0.0)


def _pause(world: World, fault: Fault) -> None:
    """The server stands still, longer than its leases hold, and then goes on as if nothing had been."""
    server = world.server(fault.dose)
    if server.replica is not None:
        server.replica.paused_until = world.loop.time() + fault.lasts


def _deaf(world: World, fault: Fault) -> None:
    """Servers do not hear each other's wake-ups; polling is all there is."""
    world.bells.deafen(fault.lasts)


def _power_fails(world: World, fault: Fault) -> None:
    """The only server's machine loses its power, and its disk what came last; shared databases are elsewhere."""
    if len(world.servers) == 1:
        world.servers[0].crash("as the power fails")
        world.lose(30.0 * fault.dose)


def _market_dry(world: World, fault: Fault) -> None:
    """Spot machines of a zone are taken back, one after the other, and no others are to be had there."""
    cloud = world.clouds[fault.where.partition("-")[0]]
    cloud.dry[fault.where] += 1
    world.loop.call_later(fault.lasts, cloud.dry.subtract, [fault.where])
    taken = [each for each in cloud.machines.values() if each.alive and each.spot and each.zone == fault.where]
    for number, each in enumerate(taken):
        world.loop.call_later(1.7 * number, cloud.end_one, each, "taken back by the cloud")


def _price_moves(world: World, fault: Fault) -> None:
    """What a new spot machine of a zone costs from now on, as a share of the price on demand."""
    world.clouds[fault.where.partition("-")[0]].shares[fault.where] = fault.dose


#: What only markets do; see `spot`.
_OF_MARKETS = {"market dry", "price moves"}
_KINDS: dict[str, Callable[[World, Fault], None]] = {
    "crash at a call": _crash_soon,
    "crash at an await": _crash_now,
    "cloud down": _weather(down=True),
    "credentials expired": _weather(expired=True),
    "throttled": _weather(throttled=0.7),
    "answers lost": _weather(lost=0.6),
    "requests doubled": _weather(doubled=0.7),
    "capacity refused": _weather(refused=0.8),
    "cloud slow": _weather(slow_s=20.0),
    "preemption wave": _wave,
    "machine breaks": _one_dies,
    "partition": _partition,
    "lines break": _lines_break,
    "agents die": _agent_dies,
    "clock jump": _clock_jump,
    "disk full": _full_disk,
    "disk slow": _slow_disk,
    "server paused": _pause,
    "wake-ups lost": _deaf,
    POWER: _power_fails,
    "market dry": _market_dry,
    "price moves": _price_moves,
}
