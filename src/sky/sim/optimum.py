"""What a job would have cost for somebody who knew the market in advance: the yardstick of `sky.sim.simulate`.

Exact dynamic programming backwards over ticks, for every amount of work left at once. Needs numpy, which is in the
extra `simulate`; only this module imports it. Called by `sky simulate` and `benchmarks/policies.py`.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sky.core.errors import NotSupportedError
from sky.core.policy.deadlines import HOUR, Decision, Memory, Observation, Offer, Policy
from sky.sim.markets import Market
from sky.sim.simulate import Job, LastTick, Player, Rules, Run, horizon

if TYPE_CHECKING:
    import numpy as np

#: Work is reckoned in units of at least so many seconds: below, tables grow and answers do not change.
FINEST = 60.0
KNOWN = "the market is known in advance"


def _numpy() -> Any:
    try:
        import numpy  # noqa: PLC0415 - an extra
    except ImportError:
        raise NotSupportedError(
            "The optimum of somebody who knows the market in advance needs numpy, which is not installed here. "
            "Install it with `pip install 'altostratus[simulate]'`, or leave the optimum out with --no-optimum."
        ) from None
    return numpy


def unit_of(job: Job, gap: float, regions: int) -> float:
    """Return the seconds that one unit of work stands for: what tick, restart and way of the data have in common.

    Where that is too fine, a part of the tick; starts are then rounded down, and the optimum is a bound still.
    """
    way = job.transfers.size_gb * job.transfers.seconds_per_gb if regions > 1 else 0.0
    common = float(math.gcd(math.gcd(round(gap), round(job.overhead)), round(way)))
    return common if common >= min(FINEST, gap) else gap / math.floor(gap / min(FINEST, gap))


@dataclass(frozen=True)
class _Kind:
    """A way to run: a zone's spot or on-demand."""

    index: int
    spot: bool
    region: int


class Optimum:
    """The table for one market, one kind of job, from one start to its deadline."""

    def __init__(self, market: Market, job: Job, rules: Rules, start: int, *, coarse: bool = False) -> None:
        """`coarse` reckons work and restarts in whole ticks, rounded up, as one of the published optima does."""
        self.market, self.job, self.rules, self.start, self.coarse = market, job, rules, start, coarse
        self.ticks = horizon(job, market.gap)
        self.regions = sorted({zone.region for zone in market.zones})
        self.unit = market.gap if coarse else unit_of(job, market.gap, len(self.regions))
        self.units = math.ceil(job.work / self.unit - 1e-9)
        self.kinds = [
            _Kind(index, spot, self.regions.index(zone.region))
            for spot in (True, False)
            for index, zone in enumerate(market.zones)
        ]
        self.starts = [[self._units(self._start(a, b)) for b in self.regions] for a in ["", *self.regions]]
        self.entries = [[job.transfers.usd(a, b) for b in self.regions] for a in ["", *self.regions]]

    def _start(self, origin: str, target: str) -> float:
        return self.job.overhead + self.job.transfers.seconds(origin, target)

    def _units(self, seconds: float) -> int:
        # Down: what is found must be a bound below what anybody pays.
        return math.ceil(seconds / self.unit - 1e-9) if self.coarse else math.floor(seconds / self.unit + 1e-9)

    def cost(self) -> float:
        """Return the least USD for which the deadline can be kept; infinite where it cannot."""
        units = self.units if self.coarse else math.floor(self.job.work / self.unit + 1e-9)
        return float(self._tables(keep=False)[0][0][0, units])

    def plan(self) -> list[tuple[str, bool] | None]:
        """Return per tick what runs in a cheapest way: (zone, whether spot) or nothing; ends with the work."""
        tables = self._tables(keep=True)
        size = tables[0][0].shape[1]
        origin, kind, left = 0, -1, self.units
        found: list[tuple[str, bool] | None] = []
        for tick in range(self.ticks):
            if left <= 0:
                break
            idle, runs = tables[tick + 1]
            best, choice, rest = float(idle[origin, left]), -1, left
            for number in range(len(self.kinds)):
                cost, after = self._taken(tick, number, kind, origin, left, runs, size)
                # What runs goes on where that costs no more.
                if cost < best - 1e-9 or (cost <= best + 1e-9 and number == kind):
                    best, choice, rest = cost, number, after
            kind, left = choice, rest
            if choice < 0:
                found.append(None)
                continue
            origin = self.kinds[choice].region + 1
            found.append((self.market.zones[self.kinds[choice].index].zone, self.kinds[choice].spot))
        return found

    def _taken(
        self, tick: int, number: int, kind: int, origin: int, left: int, runs: "np.ndarray[Any, Any]", size: int
    ) -> tuple[float, int]:
        """Return what it costs from a tick on to run this way, and what is left after the tick."""
        target = self.kinds[number]
        rate = self._rate(target, tick)
        entry = 0.0
        if number != kind:
            left += self.starts[origin][target.region]
            entry = self.entries[origin][target.region]
        if rate is None or left >= size:
            return math.inf, left
        per_tick = self._units(self.market.gap)
        if left <= per_tick:
            return entry + float(self._last(_numpy(), rate, per_tick, self._until(tick))[left]), 0
        return entry + rate + float(runs[number, left - per_tick]), left - per_tick

    def _until(self, tick: int) -> int:
        return math.floor(min(self.job.deadline - tick * self.market.gap, self.market.gap) / self.unit + 1e-9)

    def _tables(self, *, keep: bool) -> list[tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]]:
        """Return what is to pay from a tick on, per place or running kind and units left; of tick 0, or of all."""
        np = _numpy()
        per_tick = self._units(self.market.gap)
        most = max(max(row) for row in self.starts)
        # Index n stands for n units left; a start adds to it, so the table reaches beyond the work.
        size = self.units + most + 1
        idle = np.full((len(self.regions) + 1, size), np.inf)
        runs = np.full((len(self.kinds), size), np.inf)
        idle[:, 0] = 0.0
        runs[:, 0] = 0.0
        tables = [(idle, runs)]
        for tick in range(self.ticks - 1, -1, -1):
            idle, runs = self._before(np, tick, per_tick, idle, runs)
            tables = [*tables, (idle, runs)] if keep else [(idle, runs)]
        return tables[::-1]

    def _before(
        self, np: Any, tick: int, per_tick: int, idle: "np.ndarray[Any, Any]", runs: "np.ndarray[Any, Any]"
    ) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        size = idle.shape[1]
        going = np.full((len(self.kinds), size), np.inf)
        # Per region, the cheapest way to run there.
        regions = np.full((len(self.regions), size), np.inf)
        for number, kind in enumerate(self.kinds):
            rate = self._rate(kind, tick)
            if rate is None:
                continue
            line = going[number]
            np.add(runs[number, : size - per_tick], rate, out=line[per_tick:])
            line[: per_tick + 1] = self._last(np, rate, per_tick, self._until(tick))
            line[0] = 0.0
            np.minimum(regions[kind.region], line, out=regions[kind.region])
        new_idle = idle.copy()
        for origin, best in enumerate(new_idle):
            for target, line in enumerate(regions):
                extra = self.starts[origin][target]
                there = line[extra:] + self.entries[origin][target]
                np.minimum(best[: size - extra], there, out=best[: size - extra])
            best[0] = 0.0
        new_runs = np.empty_like(runs)
        for number, kind in enumerate(self.kinds):
            np.minimum(going[number], new_idle[kind.region + 1], out=new_runs[number])
        return new_idle, new_runs

    def _rate(self, kind: _Kind, tick: int) -> float | None:
        zone = self.market.zones[kind.index]
        if not kind.spot:
            return zone.on_demand * self.market.gap / HOUR
        return zone.prices[self.start + tick] * self.market.gap / HOUR if zone.up[self.start + tick] else None

    def _last(self, np: Any, rate: float, per_tick: int, until: int) -> "np.ndarray[Any, Any]":
        """Return the cost of ending within this tick, per unit left."""
        left = np.arange(per_tick + 1)
        if self.rules.last_tick is LastTick.USED:
            cost = rate * left / per_tick
        elif self.rules.last_tick is LastTick.WHOLE:
            cost = np.full(per_tick + 1, rate)
        else:
            cost = np.zeros(per_tick + 1)
        found: np.ndarray[Any, Any] = np.where(left <= until, cost, np.inf)
        return found


def scripted(plan: list[tuple[str, bool] | None], gap: float) -> Policy:
    """Return the policy that follows a plan; made for one market and start."""

    def follow(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
        tick = min(round(seen.now / gap), len(plan) - 1)
        step = plan[tick]
        if step is None:
            return Decision(None, KNOWN, seen.now), memory
        offers: tuple[Offer, ...] = seen.spot if step[1] else seen.on_demand
        return Decision(next(offer for offer in offers if offer.zone == step[0]), KNOWN, seen.now), memory

    return follow


def omniscient(player: Player, start: int, *, coarse: bool = False) -> Run:
    """Return the run of somebody who knows the market, from this start."""
    optimum = Optimum(player.market, player.job, player.rules, start, coarse=coarse)
    return player.play(scripted(optimum.plan(), player.market.gap), start)
