"""Data has a place and a size: what bringing it to a run costs in each region, and the line that says so.

`rank` splits its search by these levels of cost, which keeps it lazy; `plan` prints the line.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sky.core.model.catalog import Place
from sky.core.optimizer.transfers import NOTHING, Location, Tariff, Transfer


@dataclass(frozen=True, slots=True)
class Holding:
    """Data that a run reads from where it is, or (`outgoing`) writes to there.

    `region` None: somewhere in the cloud, every region of it counts as near. `what` names it for the user.
    """

    cloud: str
    region: str | None
    gigabytes: float
    what: str = "data"
    outgoing: bool = False

    @property
    def place(self) -> str:
        """As the user would write it."""
        return f"{self.cloud}/{self.region}" if self.region else self.cloud


@dataclass(frozen=True, slots=True)
class Level:
    """Places to which all data comes at the same cost. `members` None: every place that no other level names."""

    transfer: Transfer
    clouds: frozenset[str] | None
    members: frozenset[Location] | None


def bring(holdings: Iterable[Holding], target: Location, tariff: Tariff) -> Transfer:
    """What all data costs at one place. Transfers run side by side; the longest is waited for."""
    usd, hours, sure = 0.0, 0.0, True
    for each in holdings:
        one = _one(each, target, tariff)
        usd, hours, sure = usd + one.usd, max(hours, one.hours), sure and one.sure
    return Transfer(usd, hours, sure)


def _one(each: Holding, target: Location, tariff: Tariff) -> Transfer:
    if each.region is None and each.cloud == target[0]:
        return NOTHING
    there = (each.cloud, each.region or "*")
    return (
        tariff.transfer(target, there, each.gigabytes)
        if each.outgoing
        else tariff.transfer(there, target, each.gigabytes)
    )


def levels(holdings: Sequence[Holding], places: Iterable[Place], tariff: Tariff) -> tuple[Level, ...]:
    """All places of a catalog by what the data costs there, cheapest first; one level of everything without data."""
    if not holdings:
        return (Level(NOTHING, None, None),)
    groups: dict[Transfer, set[Location]] = {}
    for location in {(place.cloud, place.region) for place in places}:
        groups.setdefault(bring(holdings, location, tariff), set()).add(location)
    return tuple(
        Level(cost, frozenset(cloud for cloud, _ in members), frozenset(members))
        for cost, members in sorted(groups.items())
    )


def line(holdings: Sequence[Holding], target: Location, tariff: Tariff) -> str:
    """`data: 1.2 TB from aws/us-east-1, $24, 40 min`; empty where nothing has to be moved."""
    moved = [each for each in holdings if _one(each, target, tariff) != NOTHING]
    if not moved:
        return ""
    total = bring(moved, target, tariff)
    volumes: dict[str, float] = {}
    for each in moved:
        key = f"{'to' if each.outgoing else 'from'} {each.place}"
        volumes[key] = volumes.get(key, 0.0) + each.gigabytes
    what = " and ".join(f"{volume(gigabytes)} {where}" for where, gigabytes in volumes.items())
    return f"data: {what}, {money(total.usd)}{'' if total.sure else ' at most'}, {span(total.hours)}"


def volume(gigabytes: float) -> str:
    """`1.2 TB`, `40 GB`."""
    return f"{gigabytes / 1000:.3g} TB" if gigabytes >= 1000 else f"{gigabytes:.3g} GB"


def money(usd: float) -> str:
    """`$24`, `$0.45`."""
    return f"${usd:,.0f}" if usd >= 10 else f"${usd:.2f}"


def next_cent(usd: float) -> str:
    """A price as a `max_hourly_cost` that lets it through: rounded up to whole cents, never down."""
    return f"{math.ceil(round(usd * 100, 6)) / 100:.2f}"


def span(hours: float) -> str:
    """`40 min`, `3.5 h`, `20 s`."""
    if hours >= 2:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
