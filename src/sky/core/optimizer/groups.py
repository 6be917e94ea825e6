"""Job groups: tasks that run at the same time and talk to each other, so one place for all is best where there is one.

`several` calls `together`. The search is by threshold: places are met in the order of each task's own ranking, the
others are asked for their best there, and it ends when no place that nobody has met can have a smaller total.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sky.core.optimizer.locations import Search
from sky.core.optimizer.rank import Ranked
from sky.core.optimizer.sold import Sold
from sky.core.optimizer.transfers import Location

#: Offers met without a decision before every place of the catalog is asked.
_PATIENCE = 2000


@dataclass(frozen=True, slots=True)
class Grouped:
    """Where each task of a group goes (None: nowhere). `only`: the common place, if there is one; `note` says it."""

    chosen: tuple[Location | None, ...]
    only: Location | None
    total: float | None
    note: str


def together(searches: Sequence[Search], catalog: Sold) -> Grouped:
    """The common (cloud, region) with the smallest total; without one, each task on its own."""
    searches = [search.first_level() for search in searches]
    common = _common(searches, catalog)
    if common is not None:
        where, total = common
        return Grouped((where,) * len(searches), where, total, f"all {len(searches)} tasks in {where[0]}/{where[1]}")
    firsts = _one_by_one(searches, None)
    chosen = tuple(None if each is None else (each.offer.cloud, each.offer.region) for each in firsts)
    all_found = all(firsts)
    summed = sum((each.worth.key[0] for each in firsts if each is not None), 0.0)
    return Grouped(
        chosen,
        None,
        summed if all_found else None,
        "no place has room for all tasks of the group; each is placed on its own",
    )


def _common(searches: Sequence[Search], catalog: Sold) -> tuple[Location, float] | None:
    rankings = [search.ranking() for search in searches]
    heads: list[float] = []
    for ranking in rankings:
        first = next(ranking, None)
        if first is None:
            return None
        heads.append(first.worth.key[0])
    best: tuple[float, Location] | None = None
    met: set[Location] = set()
    rankings = [search.ranking() for search in searches]
    for _ in range(_PATIENCE):
        for task, ranking in enumerate(rankings):
            each = next(ranking, None)
            if each is None:
                # This task has no other place: all that are common have been met.
                return None if best is None else (best[1], best[0])
            heads[task] = each.worth.key[0]
            best = _try(searches, (each.offer.cloud, each.offer.region), met, best)
            if best is not None and best[0] <= sum(heads):
                return best[1], best[0]
    for place in catalog.places():
        best = _try(searches, (place.cloud, place.region), met, best)
    return None if best is None else (best[1], best[0])


def _one_by_one(searches: Sequence[Search], where: Location | None) -> list[Ranked | None]:
    """The best of each task, anywhere or at one place, beside those before it: they hold their machines together."""
    found: list[Ranked | None] = []
    left = list(searches)
    while left:
        search, *left = left
        best = next(search.ranking(), None) if where is None else search.at(where)
        found.append(best)
        if best is not None:
            left = [each.beside(best.offer, best.wish.num_nodes) for each in left]
    return found


def _try(
    searches: Sequence[Search], where: Location, met: set[Location], best: tuple[float, Location] | None
) -> tuple[float, Location] | None:
    """The better of the best so far and a place that has not been met yet."""
    if where in met:
        return best
    met.add(where)
    total = 0.0
    for found in _one_by_one(searches, where):
        if found is None:
            return best
        total += found.worth.key[0]
    return min(best, (total, where)) if best is not None else (total, where)
