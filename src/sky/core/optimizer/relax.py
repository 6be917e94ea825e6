"""When nothing fits: what giving up one constraint would open, each with the cheapest offer behind it.

The engine calls `relaxations` for its error message, `--explain` shows them too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from sky.core.model.accelerators import AcceleratorRequest
from sky.core.model.catalog import Market, Query
from sky.core.model.infra import Infra
from sky.core.model.offers import Reason
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.gravity import money, next_cent
from sky.core.optimizer.locations import Search
from sky.core.optimizer.rank import Ranked
from sky.core.optimizer.sold import Sold
from sky.core.optimizer.wanted import Bounds, Wish

#: Letters that look like digits.
_ALIKE = str.maketrans("oil", "011")
#: Counts of accelerators that machines come with.
_COUNTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One constraint given up: which (its code), in words, and the best that it opens. `usd_hourly` for all nodes."""

    code: Reason
    words: str
    opens: Ranked
    usd_hourly: float

    def __str__(self) -> str:
        offer = self.opens.offer
        return f"{self.words}: {offer.instance_type} in {offer.place}, {money(self.usd_hourly)} per hour"


def relaxations(search: Search) -> tuple[Relaxation, ...]:
    """What each single constraint, given up, would open; cheapest first. Empty where one is not enough."""
    found: dict[tuple[Reason, str], Relaxation] = {}
    for wish in search.wishes:
        for code, words, changed in _changed_wishes(search.catalog, wish):
            _add(found, code, words, replace(search, wishes=(changed,), ordered=False))
    for code, words, conditions in _changed_conditions(search.conditions):
        _add(found, code, words, replace(search, conditions=conditions))
    return tuple(sorted(found.values(), key=lambda each: (each.usd_hourly, each.code, each.words)))


def _add(found: dict[tuple[Reason, str], Relaxation], code: Reason, words: str, search: Search) -> None:
    best = next(search.ranking(), None)
    if best is None:
        return
    offer = best.offer
    if code is Reason.PRICE_LIMIT:
        words = f"raise max_hourly_cost to {next_cent(offer.price_hourly)}"
    elif code is Reason.NOT_ENABLED:
        words = f"enable {offer.cloud}"
    elif code is Reason.CPUS:
        words = f"take {offer.cpus:g} vCPUs"
    elif code is Reason.MEMORY:
        words = f"take {offer.memory_gb:g} GB of memory"
    made = Relaxation(code, words, best, best.placement().price_hourly)
    known = found.get((code, words))
    if known is None or made.usd_hourly < known.usd_hourly:
        found[code, words] = made


def _changed_wishes(catalog: Sold, wish: Wish) -> Iterator[tuple[Reason, str, Wish]]:
    infra = wish.infra
    if infra.zone is not None:
        yield Reason.PLACE, "leave the zone open", replace(wish, infra=Infra(infra.cloud, infra.region))
    if infra.region is not None:
        yield Reason.PLACE, "leave the region open", replace(wish, infra=Infra(infra.cloud))
    if infra.cloud is not None:
        yield Reason.PLACE, "leave the place open", replace(wish, infra=Infra())
    if wish.instance_type is not None and _says_more(wish):
        yield Reason.INSTANCE_TYPE, "leave instance_type open", replace(wish, instance_type=None)
    if wish.market is Market.SPOT:
        needs = wish.needs - {"spot"}
        yield Reason.MARKET, "take on-demand", replace(wish, market=Market.ON_DEMAND, needs=needs)
    else:
        yield Reason.MARKET, "take spot", replace(wish, market=Market.SPOT, needs=wish.needs | {"spot"})
    if wish.max_price is not None:
        yield Reason.PRICE_LIMIT, "raise max_hourly_cost", replace(wish, max_price=None)
    if wish.rented_cpus is not None:
        yield Reason.CPUS, "take other vCPUs", replace(wish, cpus=None, rented_cpus=None)
    if wish.memory is not None or wish.memory_per_cpu is not None:
        yield Reason.MEMORY, "take other memory", replace(wish, memory=None, memory_per_cpu=None)
    if wish.disk is not None:
        needs = wish.needs - {"local_disk"}
        yield Reason.LOCAL_DISK, "leave local_disk open", replace(wish, disk=None, disk_kind=None, needs=needs)
    yield from _other_accelerators(catalog, wish)


def _says_more(wish: Wish) -> bool:
    """Without a type something must be left that says what is wanted."""
    return wish.accelerator is not None or wish.cpus is not None or wish.memory is not None


def _other_accelerators(catalog: Sold, wish: Wish) -> Iterator[tuple[Reason, str, Wish]]:
    asked = wish.accelerator
    if asked is None:
        return
    near = () if asked.is_filter else similar_accelerators(asked.name, catalog.accelerators())
    for name in near:
        meant = replace(asked, name=name)
        yield Reason.ACCELERATORS, f"take {meant}", replace(wish, accelerator=meant)
    if near:
        return
    for count in _COUNTS:
        if count != wish.count:
            other = replace(asked, count=count)
            yield Reason.ACCELERATORS, f"take {other}", replace(wish, accelerator=other, count=float(count))
    if asked.is_filter:
        return
    size = _memory_of(catalog, asked.name)
    if size is not None:
        wider = AcceleratorRequest(f"{size:g}GB+", asked.count, int(size))
        changed = replace(wish, accelerator=wider, device_memory=Bounds(size * 0.97))
        yield Reason.ACCELERATORS, f"take any accelerator with {size:g} GB or more", changed


def _memory_of(catalog: Sold, accelerator: str) -> float | None:
    """GiB of one device, as any offer tells it."""
    offer = next(iter(catalog.offers(Query(accelerator=accelerator))), None)
    return offer.accelerator_memory_gb if offer else None


def _changed_conditions(conditions: Conditions) -> Iterator[tuple[Reason, str, Conditions]]:
    if conditions.enabled is not None:
        yield Reason.NOT_ENABLED, "enable another cloud", replace(conditions, enabled=None)
    if conditions.blocked:
        yield Reason.REFUSED, "try again what was refused", replace(conditions, blocked=())
    if conditions.quotas:
        yield Reason.QUOTA, "get more quota", replace(conditions, quotas=())
    if conditions.denied is not None:
        yield Reason.DENIED, "allow what your rules deny", replace(conditions, denied=None)
    if conditions.features:
        yield Reason.FEATURE, "do without a feature", replace(conditions, features={})


def similar_accelerators(name: str, spellings: Mapping[str, str]) -> tuple[str, ...]:
    """Known names near to one that nobody sells, nearest first; empty where the name is known."""
    if name.lower() in spellings:
        return ()
    alike = [each for each in spellings if each.translate(_ALIKE) == name.lower().translate(_ALIKE)]
    near = [*alike, *get_close_matches(name.lower(), list(spellings), n=6, cutoff=0.55)]
    return tuple(dict.fromkeys(spellings[each] for each in near))[:3]
