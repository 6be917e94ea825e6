"""What a plan is made under, apart from the task and the catalog: what the user may use, holds, and has learnt.

The engine fills it from configuration, credentials, overrides and the store; everything in `optimizer` reads it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sky.core.model.catalog import Market
from sky.core.model.conditions import Quota, Reservation
from sky.core.model.offers import Offer
from sky.core.optimizer.gravity import Holding
from sky.core.optimizer.memory import Memory
from sky.core.optimizer.transfers import UNKNOWN, Tariff


@dataclass(frozen=True, slots=True)
class Blocked:
    """Not to be tried again for now; None leaves a part open. `since` in seconds since the epoch, `why` in words."""

    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    market: Market | None = None
    why: str = "capacity"
    since: float | None = None

    def covers(self, offer: Offer) -> bool:
        """Whether an offer lies within."""
        return (
            self.cloud in (None, offer.cloud)
            and self.region in (None, offer.region)
            and self.zone in (None, offer.zone)
            and self.instance_type in (None, offer.instance_type)
            and self.market in (None, offer.market)
        )


@dataclass(frozen=True, slots=True)
class Repriced:
    """Offers to which the user gave a price of its own, which may be anything: they are looked at one and all.

    The first three bound the search, None leaves them open; `covers` decides.
    """

    cloud: str | None
    region: str | None
    instance_type: str | None
    covers: Callable[[Offer], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """Times of a run, in hours. `hours_of` tells them by offer, then `hours` must be the least that it tells.

    For the expected cost: `refusal_hours` lost with each try that is refused, `recovery_hours` without machines after
    each preemption, `checkpoint_hours` of work between two checkpoints (None: none are taken), `value_of_hour` USD
    that an hour lost costs beside the machines, `interruption` of a spot machine per hour where its offer tells none.
    """

    hours: float = 1.0
    hours_of: Callable[[Offer], float] | None = None
    refusal_hours: float = 0.05
    recovery_hours: float = 0.15
    checkpoint_hours: float | None = 0.5
    value_of_hour: float = 1.0
    interruption: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Everything that a choice depends on beside the task and the catalog.

    `enabled` clouds, None for all. `features` by cloud; a cloud that is not named has them all. `price_of` may change
    a price, but never below `least_multiplier` times the catalog's, `repriced` offers excepted. `unsuited` says what a
    place cannot take as it was asked for, `denied` why the user will not have an offer. `extra` are offers that no
    catalog holds: the user's own, and those that places were asked for just now; for `replaced` clouds these are all
    there is. `now` in seconds since the epoch.
    """

    enabled: frozenset[str] | None = None
    features: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blocked: tuple[Blocked, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    quotas: tuple[Quota, ...] = ()
    price_of: Callable[[Offer], Offer] | None = None
    unsuited: Callable[[Offer], str | None] | None = None
    denied: Callable[[Offer], str | None] | None = None
    least_multiplier: float = 1.0
    repriced: tuple[Repriced, ...] = ()
    extra: tuple[Offer, ...] = ()
    replaced: frozenset[str] = frozenset()
    memory: Memory = field(default_factory=Memory)
    holdings: tuple[Holding, ...] = ()
    tariff: Tariff = UNKNOWN
    tempo: Tempo = field(default_factory=Tempo)
    now: float = 0.0

    def priced(self, offer: Offer) -> Offer:
        """An offer at the user's own price."""
        return offer if self.price_of is None else self.price_of(offer)

    def reserved(self, offer: Offer, num_nodes: int) -> int:
        """How many of so many nodes are paid for already."""
        if offer.market is not Market.ON_DEMAND:
            return 0
        return min(num_nodes, sum(each.count for each in self.reservations if holds(each, offer)))

    def beside(self, offer: Offer, num_nodes: int) -> "Conditions":
        """What is left of reservations and quotas while another task holds so many machines of an offer."""
        if not self.reservations and not self.quotas:
            return self
        needed = self.reserved(offer, num_nodes)
        reservations = []
        for each in self.reservations:
            taken = min(needed, each.count) if holds(each, offer) else 0
            needed -= taken
            if taken < each.count:
                reservations.append(replace(each, count=each.count - taken))
        quotas = tuple(
            replace(
                quota,
                max_nodes=None if quota.max_nodes is None else max(0, quota.max_nodes - num_nodes),
                max_cpus=None if quota.max_cpus is None else max(0.0, quota.max_cpus - num_nodes * offer.cpus),
            )
            if counts(quota, offer)
            else quota
            for quota in self.quotas
        )
        return replace(self, reservations=tuple(reservations), quotas=quotas)


def counts(quota: Quota, offer: Offer) -> bool:
    """Whether machines of an offer count against a quota."""
    return (
        quota.cloud == offer.cloud
        and quota.region in (None, offer.region)
        and quota.market in (None, offer.market)
        and fnmatchcase(offer.instance_type, quota.instance_type)
    )


def holds(reservation: Reservation, offer: Offer) -> bool:
    """Whether machines of an offer come out of a reservation."""
    return (
        reservation.instance_type == offer.instance_type
        and reservation.cloud == offer.cloud
        and reservation.region in (None, offer.region)
        # A reservation in one zone serves an offer for the region: the zone is chosen when machines are made.
        and (reservation.zone is None or offer.zone in (None, reservation.zone))
    )
