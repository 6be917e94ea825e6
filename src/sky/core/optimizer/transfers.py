"""Money and time for moving data between real regions; asked by `gravity` and by the plans of several tasks.

Prices are the catalog's `Egress` rows: within a region nothing, across regions of one
cloud the price of that cloud (never taken for free), to another cloud the source's price to the internet. Times follow
from a bandwidth. Volumes in GB (10**9 bytes, 8 Gbit).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sky.core.model.catalog import Egress, Place

#: Gbit/s between two regions, unless told otherwise; within a region data is there at once.
ACROSS_GBPS = 10.0

#: (cloud, region)
Location = tuple[str, str]


class Transfer(NamedTuple):
    """USD and hours. `sure` is False where the price is not known and the dearest known of that cloud stands in."""

    usd: float
    hours: float
    sure: bool = True


NOTHING = Transfer(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Tariff:
    """What moving data costs. `rates`: (cloud, region or `*`) to scope to USD per GB; `continents`: of regions."""

    rates: Mapping[Location, Mapping[str, float]]
    continents: Mapping[Location, str | None]
    across_gbps: float = ACROSS_GBPS

    def transfer(self, source: Location, target: Location, gigabytes: float) -> Transfer:
        """Move so many GB. An unknown price is the dearest known of the source's cloud, or of all, and flagged."""
        if gigabytes <= 0:
            return NOTHING
        if source == target:
            return NOTHING
        hours = gigabytes * 8 / self.across_gbps / 3600
        known = self.rate(source, target)
        if known is not None:
            return Transfer(known * gigabytes, hours)
        return Transfer(self.dearest(source[0]) * gigabytes, hours, sure=False)

    def rate(self, source: Location, target: Location) -> float | None:
        """USD per GB between two different regions; None where no row says it."""
        for row in (self.rates.get(source), self.rates.get((source[0], "*"))):
            if row is None:
                continue
            for scope in self._scopes(source, target):
                if scope in row:
                    return row[scope]
        return None

    def _scopes(self, source: Location, target: Location) -> Sequence[str]:
        if source[0] != target[0]:
            return ("internet",)
        here = self.continents.get(source)
        near = here is not None and here == self.continents.get(target)
        return (target[1], "continent", "region") if near else (target[1], "region")

    def dearest(self, cloud: str | None = None) -> float:
        """The dearest price of a cloud; of all clouds where nothing of this one is known; 0 in a world without."""
        own = [rate for (name, _), row in self.rates.items() if name == cloud for rate in row.values()]
        return max(own or [rate for row in self.rates.values() for rate in row.values()], default=0.0)


def tariff(egress: Iterable[Egress], places: Iterable[Place] = (), across_gbps: float = ACROSS_GBPS) -> Tariff:
    """From a catalog's rows."""
    if not math.isfinite(across_gbps) or across_gbps <= 0:
        raise ValueError(f"found the bandwidth {across_gbps}; allowed: Gbit/s above 0")
    rates: dict[Location, dict[str, float]] = {}
    for row in egress:
        rates.setdefault((row.cloud, row.region), {})[row.to] = row.usd_per_gb
    continents = {(place.cloud, place.region): place.continent for place in places if place.continent}
    return Tariff(rates, continents, across_gbps)


#: Where nothing is known of prices: nothing costs anything, and is flagged.
UNKNOWN = Tariff({}, {})
