"""Everything that fits a task, best first, found lazily over all types of all places.

Each alternative asks the catalog for its offers, which come in the order of their price. What counts is another order:
the user's own prices, data that has to be moved, expected losses, reservations. So a placement is given out only when
nothing unseen can stand before it: no offer that follows in a stream is better than `goals.bound` of the last price
seen there. That is exact, and takes about as many offers from the catalog as it gives out. Data does not break it,
because the search is split by what the data costs (`gravity.levels`), which is the same for everything in one stream.
What is small is taken whole: offers that no catalog holds, and types of which the user holds reservations.

Ties stand in the order of place and type, so that the same question has the same answer.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from sky.core.model.catalog import Market, Place, Query
from sky.core.model.offers import Offer, Placement, Rejection
from sky.core.optimizer.conditions import Conditions, Repriced
from sky.core.optimizer.fit import misfit
from sky.core.optimizer.goals import Goal, Worth, bound, worth
from sky.core.optimizer.gravity import Level, bring, levels
from sky.core.optimizer.sold import Sold
from sky.core.optimizer.wanted import Wish, query

#: Rejections that a ranking keeps of those it meets on its way.
MOST_REJECTIONS = 200
#: Up to so many regions of a level are asked for one by one.
_FEW_REGIONS = 6


class Ranked(NamedTuple):
    """An offer that fits a wish, and how it stands."""

    wish: Wish
    offer: Offer
    worth: Worth

    def placement(self) -> Placement:
        """The offer taken: all of a machine that is ours alone, what was asked of one that is shared."""
        wish, offer = self.wish, self.offer
        accelerators, cpus = dict(offer.accelerators), offer.cpus
        if offer.shared:
            name = wish.accelerator.name.lower() if wish.accelerator else ""
            accelerators = {
                each: min(count, wish.count) for each, count in accelerators.items() if each.lower() == name
            }
            cpus = wish.cpus.least if wish.cpus is not None and wish.cpus.exact else offer.cpus
        return Placement(
            offer,
            wish.num_nodes,
            cpus,
            offer.memory_gb,
            accelerators,
            self.worth.reserved,
            wish.cpus.least if offer.shared and wish.cpus is not None else 0.0,
            wish.memory.least if offer.shared and wish.memory is not None else 0.0,
        )


class _Stream:
    """One question to the catalog, asked when its turn comes."""

    __slots__ = ("level", "offers", "query", "wish", "zone")

    def __init__(self, wish: Wish, level: Level, asked: Query, zone: str | None = None) -> None:
        self.wish = wish
        self.level = level
        self.query = asked
        #: A zone that is asked for, where the question is about prices that hold in its whole region.
        self.zone = zone
        self.offers: Iterator[Offer] | None = None


class Ranking:
    """An iterator over `Ranked`, best first. `rejections` are the offers that it met and did not take, so far."""

    def __init__(
        self,
        wishes: Sequence[Wish],
        catalog: Sold,
        conditions: Conditions,
        goal: Goal = Goal.COST,
        *,
        ordered: bool = False,
    ) -> None:
        self._wishes = wishes
        self._catalog = catalog
        self._conditions = conditions
        self._goal = goal
        self._ordered = ordered
        self._seen: set[tuple[str, str, str | None, str, bool]] = set()
        self._count = 0
        self._heap: list[tuple[object, ...]] = []
        self._rejected: dict[tuple[str, str, object], Rejection] = {}
        self._tariff = conditions.tariff
        #: By what bounds the search, a named type more than a region: one's own price list may have thousands of rows.
        self._repriced: dict[tuple[str | None, str | None, str | None], list[Repriced]] = {}
        for own in conditions.repriced:
            bounds = (own.cloud, None if own.instance_type else own.region, own.instance_type)
            self._repriced.setdefault(bounds, []).append(own)
        self._zones: dict[str, list[Place]] = {}
        for each in wishes:
            self._take_small(each)
        self._queue_streams()

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """What was met on the way and does not fit; not everything that there is."""
        return tuple(self._rejected.values())

    def __iter__(self) -> Iterator[Ranked]:
        return self

    def __next__(self) -> Ranked:
        while self._heap:
            found = heapq.heappop(self._heap)[-1]
            if isinstance(found, Ranked):
                offer = found.offer
                key = (offer.cloud, offer.region, offer.zone, offer.instance_type, offer.use_spot)
                if key not in self._seen:
                    self._seen.add(key)
                    return found
            elif isinstance(found, _Stream):
                self._advance(found)
        raise StopIteration

    # --- what is small, taken whole ----------------------------------------------------------------------------------

    def _take_small(self, wish: Wish) -> None:
        for offer in self._conditions.extra:
            self._consider(wish, offer, None)
        for (cloud, region, named), rules in self._repriced.items():
            asked = query(wish, frozenset([cloud]) if cloud else None, region)
            if asked is None or (named is not None and asked.instance_type not in (None, named)):
                continue
            for offer in self._sold(asked._replace(instance_type=named or asked.instance_type)):
                if any(own.covers(offer) for own in rules):
                    self._consider_small(wish, offer)
        if wish.market is not Market.ON_DEMAND:
            return
        for held in self._conditions.reservations:
            asked = query(wish, frozenset([held.cloud]), held.region)
            if asked is None or asked.instance_type not in (None, held.instance_type):
                continue
            asked = Query(asked.clouds, asked.region, asked.zone, held.instance_type, market=Market.ON_DEMAND)
            for offer in self._sold(asked):
                if self._conditions.reserved(offer, 1):
                    self._consider_small(wish, offer)

    def _sold(self, asked: Query) -> Iterator[Offer]:
        """All that a question finds; where it names a zone, also what has one price in the region of that zone."""
        yield from self._catalog.offers(asked)
        for one in self._around_zone(asked):
            for offer in self._catalog.offers(one):
                zonal = self._in_zone(offer, asked.zone or "")
                if zonal is not None:
                    yield zonal

    def _consider_small(self, wish: Wish, offer: Offer) -> None:
        if offer.cloud not in self._conditions.replaced:
            self._consider(wish, self._conditions.priced(offer), None)

    def _is_small(self, offer: Offer) -> bool:
        """Whether an offer of the catalog has been taken with what is small already."""
        conditions = self._conditions
        if conditions.reservations and conditions.reserved(offer, 1) > 0:
            return True
        return any(
            own.covers(offer)
            for cloud in (offer.cloud, None)
            for within in ((None, offer.instance_type), (offer.region, None), (None, None))
            for own in self._repriced.get((cloud, *within), ())
        )

    # --- streams -----------------------------------------------------------------------------------------------------

    def _queue_streams(self) -> None:
        conditions = self._conditions
        spread = levels(conditions.holdings, self._catalog.places() if conditions.holdings else (), self._tariff)
        for wish in self._wishes:
            for level in spread:
                for asked in self._questions(wish, level):
                    self._push_stream(_Stream(wish, level, asked), 0.0)
                    for one in self._around_zone(asked):
                        self._push_stream(_Stream(wish, level, one, asked.zone), 0.0)

    def _questions(self, wish: Wish, level: Level) -> Iterable[Query]:
        enabled, least = self._conditions.enabled, self._conditions.least_multiplier
        clouds = level.clouds if enabled is None else enabled if level.clouds is None else enabled & level.clouds
        few = level.members is not None and len(level.members) <= _FEW_REGIONS
        parts: Iterable[tuple[frozenset[str] | None, str | None]] = (
            [(frozenset([cloud]), region) for cloud, region in sorted(level.members) if clouds and cloud in clouds]
            if few and level.members is not None
            else [(clouds, None)]
        )
        for some, region in parts:
            asked = query(wish, some, region)
            if asked is not None and wish.max_price is not None and least > 0:
                yield asked._replace(max_price=wish.max_price / least)
            elif asked is not None:
                yield asked

    def _around_zone(self, asked: Query) -> Iterable[Query]:
        """Where a zone is asked for: the same of each region that has it, for prices that name no zone."""
        if asked.zone is None:
            return
        if asked.zone not in self._zones:
            self._zones[asked.zone] = [place for place in self._catalog.places() if place.zone == asked.zone]
        for place in self._zones[asked.zone]:
            here = asked.clouds is None or place.cloud in asked.clouds
            if here and asked.region in (None, place.region):
                yield asked._replace(clouds=frozenset([place.cloud]), region=place.region, zone=None)

    def _in_zone(self, offer: Offer, zone: str) -> Offer | None:
        """An offer for a whole region as one in a zone, if it is sold in that zone and has no other price there."""
        if offer.zone is not None:
            return None
        asked = Query(clouds=frozenset([offer.cloud]), region=offer.region, instance_type=offer.instance_type)
        zones = {each for listing in self._catalog.listings(asked) for each in listing.zones}
        if zones and zone not in zones:
            return None
        own_price = next(self._catalog.offers(asked._replace(zone=zone, market=offer.market)), None)
        return replace(offer, zone=zone) if own_price is None else None

    def _push_stream(self, stream: _Stream, price: float) -> None:
        at_least = bound(self._goal, price, stream.wish.num_nodes, stream.level.transfer, self._conditions)
        self._count += 1
        heapq.heappush(self._heap, (self._rank(stream.wish), at_least, 0, self._count, stream))

    def _advance(self, stream: _Stream) -> None:
        """Take one offer of a stream that fits its level, and put the stream back with what it may still hold."""
        if stream.offers is None:
            stream.offers = self._catalog.offers(stream.query)
        offer = next(stream.offers, None)
        if offer is None:
            return
        price, members, conditions = offer.price_hourly, stream.level.members, self._conditions
        if stream.zone is not None:
            zonal = self._in_zone(offer, stream.zone)
            if zonal is None:
                self._push_stream(stream, price)
                return
            offer = zonal
        mine = members is None or (offer.cloud, offer.region) in members
        if mine and offer.cloud not in conditions.replaced and not self._is_small(offer):
            self._consider(stream.wish, conditions.priced(offer), stream.level)
        self._push_stream(stream, price)

    def _consider(self, wish: Wish, offer: Offer, level: Level | None) -> None:
        conditions = self._conditions
        wrong = misfit(wish, offer, conditions)
        if wrong is not None:
            key = (offer.place, offer.instance_type, wrong.code)
            if len(self._rejected) < MOST_REJECTIONS and key not in self._rejected:
                self._rejected[key] = wrong.of(offer)
            return
        transfer = level.transfer if level else bring(conditions.holdings, (offer.cloud, offer.region), self._tariff)
        stands = worth(self._goal, offer, wish.num_nodes, transfer, conditions)
        self._count += 1
        where = (offer.cloud, offer.region, offer.zone or "", offer.instance_type, wish.rank)
        item = (self._rank(wish), stands.key, 1, where, self._count, Ranked(wish, offer, stands))
        heapq.heappush(self._heap, item)

    def _rank(self, wish: Wish) -> int:
        return wish.rank if self._ordered else 0
