"""Spot markets on a grid of ticks: what was to be had where, at what price. Recorded (`sky.sim.traces`) or generated.

Read by `sky.sim.simulate` and `sky.sim.optimum`. A market is made once and played many times, so what play needs again
and again (changes, sums of prices, lists of offers) is worked out once.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.policy.deadlines import HOUR, Offer

#: A market has at most so many zones and ticks; recorded ones have 13 zones and 20,158 ticks.
MOST_ZONES = 256
MOST_TICKS = 1_000_000


@dataclass(frozen=True)
class ZoneTrace:
    """One zone's history: per tick whether spot was to be had (1) or not (0), and its price; prices USD per hour."""

    zone: str
    region: str
    up: bytes
    prices: tuple[float, ...]
    on_demand: float


@dataclass(frozen=True)
class Transfers:
    """What moving a job's data costs: so many GB, USD per GB and seconds per GB between regions; none within one."""

    size_gb: float = 0.0
    usd_per_gb: float = 0.02
    seconds_per_gb: float = 0.0
    #: USD per GB of pairs that differ, both ways.
    near: frozenset[frozenset[str]] = frozenset([frozenset(["us-east-1", "us-east-2"])])
    near_usd_per_gb: float = 0.01

    def usd(self, origin: str, target: str) -> float:
        """Return USD for the way between two regions; nothing from nowhere."""
        if not origin or origin == target:
            return 0.0
        rate = self.near_usd_per_gb if frozenset([origin, target]) in self.near else self.usd_per_gb
        return self.size_gb * rate

    def seconds(self, origin: str, target: str) -> float:
        """Return seconds for the way between two regions."""
        return 0.0 if not origin or origin == target else self.size_gb * self.seconds_per_gb


@dataclass(frozen=True)
class Market:
    """Zones on one grid. `name` says where it is from."""

    name: str
    gap: float
    zones: tuple[ZoneTrace, ...]
    #: Per tick the next tick at which an offer appears, goes or changes its price.
    changes: tuple[int, ...] = field(init=False, repr=False, compare=False)
    #: Per zone, sums of USD from tick 0 on: spot.
    spent: tuple[tuple[float, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out what play needs."""
        ticks = self.ticks
        marks = bytearray(ticks)
        for zone in self.zones:
            for tick in range(1, ticks):
                if zone.up[tick] != zone.up[tick - 1] or zone.prices[tick] != zone.prices[tick - 1]:
                    marks[tick] = 1
        after = [ticks] * ticks
        for tick in range(ticks - 2, -1, -1):
            after[tick] = tick + 1 if marks[tick + 1] else after[tick + 1]
        object.__setattr__(self, "changes", tuple(after))
        sums = tuple(
            tuple(accumulate((price * self.gap / HOUR for price in zone.prices), initial=0.0)) for zone in self.zones
        )
        object.__setattr__(self, "spent", sums)

    @property
    def ticks(self) -> int:
        """How many ticks it has."""
        return len(self.zones[0].up)

    def only(self, names: Sequence[str]) -> "Market":
        """Return the market of these zones alone, in this order."""
        held = {zone.zone: zone for zone in self.zones}
        missing = [name for name in names if name not in held]
        if missing:
            known = ", ".join(sorted(held))
            raise InvalidSkyPilotConfigError(f"The market {self.name} has no zone {missing[0]!r}. It has: {known}.")
        return Market(self.name, self.gap, tuple(held[name] for name in names))


class Board:
    """The offers of a market as a policy sees them, worked out once per state of the market and place of the data."""

    def __init__(self, market: Market, overhead: float, transfers: Transfers) -> None:
        """`overhead` is seconds of a restart where the data is."""
        self.market = market
        self.overhead = overhead
        self.transfers = transfers
        self.places = {zone.zone: index for index, zone in enumerate(market.zones)}
        self._known: dict[tuple[object, str], tuple[Offer, ...]] = {}
        self._kept: dict[str, tuple[Offer, ...]] = {}
        self._ticks: dict[str, list[tuple[Offer, ...] | None]] = {}

    def spot(self, tick: int, region: str) -> tuple[Offer, ...]:
        """Return the spot offers at a tick, cheapest first, for data in a region."""
        ticks = self._ticks.get(region)
        if ticks is None:
            ticks = self._ticks[region] = [None] * self.market.ticks
        found = ticks[tick]
        if found is None:
            found = ticks[tick] = self._offers(tick, region)
        return found

    def _offers(self, tick: int, region: str) -> tuple[Offer, ...]:
        """Return the same tuple for all ticks with the same prices."""
        state = tuple(sorted((each.prices[tick], at) for at, each in enumerate(self.market.zones) if each.up[tick]))
        found = self._known.get((state, region))
        if found is None:
            found = tuple(self._offer(index, price, region, spot=True) for price, index in state)
            self._known[state, region] = found
        return found

    def on_demand(self, region: str) -> tuple[Offer, ...]:
        """Return the on-demand offers, cheapest first, for data in a region."""
        found = self._kept.get(region)
        if found is None:
            offers = [self._offer(index, z.on_demand, region, spot=False) for index, z in enumerate(self.market.zones)]
            found = tuple(sorted(offers, key=lambda offer: offer.price))
            self._kept[region] = found
        return found

    def _offer(self, index: int, price: float, region: str, *, spot: bool) -> Offer:
        zone = self.market.zones[index]
        start = self.overhead + self.transfers.seconds(region, zone.region)
        return Offer(zone.zone, zone.region, spot, price, start, self.transfers.usd(region, zone.region))


def generated(seed: int, *, ticks: int = 720, gap: float = 600.0) -> Market:
    """Return a market drawn from a seed: one to six zones in up to four regions, with runs of spot of all lengths.

    Lengths of runs are a mixture of exponentials per zone (the scale itself changes now and then), prices walk, and one
    in ten zones is nearly always up or nearly never: what recorded markets show, and worse.
    """
    chance = random.Random(seed)  # noqa: S311 - a market to test with, nothing secret
    base = chance.uniform(1.0, 90.0)
    zones = []
    for number in range(chance.randint(1, 6)):
        region = f"region-{chance.randint(1, 4)}"
        up = _runs(chance, ticks, gap)
        price = base * chance.uniform(0.15, 0.9)
        prices = []
        for _ in range(ticks):
            if chance.random() < 0.005:
                price = min(base, max(base * 0.1, price * chance.uniform(0.8, 1.25)))
            prices.append(round(price, 4))
        zones.append(ZoneTrace(f"{region}{chr(97 + number)}", region, up, tuple(prices), base * chance.uniform(1, 1.2)))
    return Market(f"generated {seed}", gap, tuple(zones))


def _runs(chance: random.Random, ticks: int, gap: float) -> bytes:
    up = bytearray()
    state = chance.random() < 0.5
    scales = [0.0, 0.0]
    while len(up) < ticks:
        if scales[0] == 0.0 or chance.random() < 0.05:
            scales = [HOUR * 10 ** chance.uniform(-0.7, 1.6) / gap for _ in range(2)]
            if chance.random() < 0.1:
                scales[chance.randint(0, 1)] *= 20
        up += bytes([state]) * max(1, round(chance.expovariate(1 / scales[state])))
        state = not state
    return bytes(up[:ticks])
