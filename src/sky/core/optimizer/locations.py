"""The best placement of one task at each location: all that plans of several tasks need of its many offers.

Everything at a location (a region of a cloud) moves data equally, so only the best there can be in a best plan.
`several` and `groups` ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sky.core.model.infra import Infra
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.rank import Ranked, Ranking
from sky.core.optimizer.sold import Sold
from sky.core.optimizer.transfers import Location
from sky.core.optimizer.wanted import Wish

#: Offers taken from a ranking per location found before the locations that are left are asked one by one.
_PATIENCE = 12


@dataclass(frozen=True, slots=True)
class Search:
    """One task's wishes with all that ranks them. `ordered`: the first wish that can be met wins over price."""

    wishes: tuple[Wish, ...]
    catalog: Sold
    conditions: Conditions
    goal: Goal
    ordered: bool = False

    def first_level(self) -> "Search":
        """Of ordered wishes the first that can be met at all; this otherwise."""
        if self.ordered:
            for wish in self.wishes:
                one = replace(self, wishes=(wish,), ordered=False)
                if next(one.ranking(), None) is not None:
                    return one
        return self

    def ranking(self) -> Ranking:
        """Everything that fits, best first."""
        return Ranking(self.wishes, self.catalog, self.conditions, self.goal, ordered=self.ordered)

    def narrowed(self, location: Location) -> tuple[Wish, ...]:
        """The wishes that can be met at one location, bound to it."""
        cloud, region = location
        return tuple(
            replace(wish, infra=Infra(cloud, region, wish.infra.zone))
            for wish in self.wishes
            if wish.infra.cloud in (None, cloud) and wish.infra.region in (None, region)
        )

    def at(self, location: Location) -> Ranked | None:
        """The best at one location."""
        wishes = self.narrowed(location)
        return next(Ranking(wishes, self.catalog, self.conditions, self.goal, ordered=self.ordered), None)


def best_by_location(search: Search, reach: float, places: Sequence[Location]) -> dict[Location, Ranked]:
    """The best at each location, as far as it can matter: exact for plans of several tasks.

    `reach`: the most that this task's transfers can cost (or last) together. A location whose best is worse than the
    best of all by more than that is never in a best plan. `places`: all locations of the catalog.
    """
    found: dict[Location, Ranked] = {}
    limit = 0.0
    missing = set(places)
    for taken, each in enumerate(search.ranking(), 1):
        primary = each.worth.key[0]
        if not found:
            limit = primary + reach
        if primary > limit:
            return found
        where = (each.offer.cloud, each.offer.region)
        found.setdefault(where, each)
        missing.discard(where)
        if not missing:
            return found
        if taken > _PATIENCE * (len(found) + 20):
            break
    else:
        return found
    for where in sorted(missing):
        best = search.at(where)
        if best is not None and best.worth.key[0] <= limit:
            found[where] = best
    return found
