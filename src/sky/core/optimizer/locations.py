"""The best placement of one task at each location: all that plans of several tasks need of its many offers.

Everything at a location (a region of a cloud) moves data equally, so only the best there can be in a best plan.
`several` and `groups` ask.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sky.core.model.catalog import Market
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.fit import misfit
from sky.core.optimizer.goals import Goal, worth
from sky.core.optimizer.gravity import bring
from sky.core.optimizer.rank import Ranked, Ranking
from sky.core.optimizer.sold import Sold, SoldByPlace
from sky.core.optimizer.transfers import NOTHING, Location
from sky.core.optimizer.wanted import Wish, of_task, query

#: Offers taken from a ranking before the locations that are left are asked one by one.
_PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Search:
    """One task's wishes with all that ranks them. `ordered`: the first wish that can be met wins over price."""

    wishes: tuple[Wish, ...]
    catalog: Sold
    conditions: Conditions
    goal: Goal
    ordered: bool = False

    @classmethod
    def of(cls, task: TaskSpec, catalog: Sold, conditions: Conditions, goal: Goal) -> "Search":
        """The search for a task."""
        wishes = of_task(task, catalog.accelerators())
        return cls(wishes, catalog, conditions, goal, ordered=task.resources_order == "ordered")

    def first_level(self) -> "Search":
        """Of ordered wishes the first that can be met at all; this otherwise."""
        if self.ordered:
            for wish in self.wishes:
                one = replace(self, wishes=(wish,), ordered=False)
                if next(one.ranking(), None) is not None:
                    return one
        return self

    def beside(self, offer: Offer, num_nodes: int) -> "Search":
        """The same while another task holds so many machines of an offer."""
        return replace(self, conditions=self.conditions.beside(offer, num_nodes))

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
        if self._plain:
            return self._cheapest_at(location)
        wishes = self.narrowed(location)
        return next(Ranking(wishes, self.catalog, self.conditions, self.goal, ordered=self.ordered), None)

    def at_each(self, locations: Collection[Location]) -> dict[Location, Ranked]:
        """The best at each of some locations, where there is one."""
        catalog = self.catalog
        if not (self._plain and isinstance(catalog, SoldByPlace)):
            return {where: best for where in sorted(locations) if (best := self.at(where)) is not None}
        found: dict[Location, Ranked] = {}
        closer: set[Location] = set()
        for wish in self.wishes:
            asked = query(wish, self.conditions.enabled)
            for offer in catalog.lowest(asked) if asked is not None else ():
                where = (offer.cloud, offer.region)
                if where not in locations:
                    continue
                if misfit(wish, offer, self.conditions) is not None:
                    # What is cheapest there is blocked or the like: another one may do.
                    closer.add(where)
                    continue
                each = self._worth(wish, offer)
                if where not in found or each.worth.key < found[where].worth.key:
                    found[where] = each
        for where in sorted(closer):
            best = self.at(where)
            if best is not None:
                found[where] = best
        return found

    def _worth(self, wish: Wish, offer: Offer) -> Ranked:
        has = self.conditions
        transfer = bring(has.holdings, (offer.cloud, offer.region), has.tariff) if has.holdings else NOTHING
        return Ranked(wish, offer, worth(self.goal, offer, wish.num_nodes, transfer, has))

    @property
    def _plain(self) -> bool:
        """Whether at one location the order of the catalog's prices is the order that counts."""
        has, tempo = self.conditions, self.conditions.tempo
        markets = {wish.market for wish in self.wishes}
        expected = self.goal is Goal.EXPECTED and (has.memory.records or Market.SPOT in markets)
        special = has.extra or has.replaced or has.reservations or has.price_of or tempo.hours_of
        return not (expected or special or self.ordered or any(wish.infra.zone for wish in self.wishes))

    def _cheapest_at(self, location: Location) -> Ranked | None:
        best: Ranked | None = None
        for wish in self.wishes:
            asked = query(wish, frozenset([location[0]]), location[1])
            for offer in self.catalog.offers(asked) if asked is not None else ():
                if misfit(wish, offer, self.conditions) is None:
                    found = self._worth(wish, offer)
                    if best is None or found.worth.key < best.worth.key:
                        best = found
                    break
                if wish.max_price is not None and offer.price_hourly > wish.max_price:
                    break
        return best


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
        if taken >= _PATIENCE:
            break
    else:
        return found
    found |= {where: each for where, each in search.at_each(missing).items() if each.worth.key[0] <= limit}
    return found
