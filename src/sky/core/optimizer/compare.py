"""What if, and when: the choice beside another one, and the chance of getting it.

Called for `--what-if` and `--when`.
"""

from dataclasses import dataclass, replace
from itertools import islice

from sky.core.model.catalog import Market
from sky.core.model.infra import Infra
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Chance, Key
from sky.core.optimizer.rank import Ranked

#: Placements looked at for one that is nearly certain.
_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Comparison:
    """The choice now and under a change; `difference` of their objectives (USD, or hours for TIME), negative: better.

    None where nothing fits.
    """

    change: str
    now: Ranked | None
    then: Ranked | None

    @property
    def difference(self) -> float | None:
        """How much more the changed plan takes."""
        if self.now is None or self.then is None:
            return None
        return self.then.worth.key[0] - self.now.worth.key[0]


def what_if(
    search: Search, *, spot: bool | None = None, region: str | None = None, infra: Infra | None = None
) -> Comparison:
    """The choice if the task asked for spot (or not), for another region, or for another place."""
    changes, wishes = [], search.wishes
    if spot is not None:
        changes.append("spot" if spot else "on-demand")
        market = Market.SPOT if spot else Market.ON_DEMAND
        wishes = tuple(
            replace(wish, market=market, needs=wish.needs | {"spot"} if spot else wish.needs - {"spot"})
            for wish in wishes
        )
    if region is not None:
        changes.append(f"region={region}")
        wishes = tuple(replace(wish, infra=Infra(wish.infra.cloud, region)) for wish in wishes)
    if infra is not None:
        changes.append(f"infra={infra}")
        wishes = tuple(replace(wish, infra=infra) for wish in wishes)
    then = replace(search, wishes=wishes)
    return Comparison(", ".join(changes), next(search.ranking(), None), next(then.ranking(), None))


@dataclass(frozen=True, slots=True)
class Outlook:
    """How likely the choice can be had, as far as it is known: None is "not known", never a guess.

    `certain` is the best placement of which even the low end of the interval is at least `certainty`; `extra` what its
    objective is above that of the choice.
    """

    choice: Ranked | None
    now: Chance | None
    soon: Chance | None
    certain: Ranked | None
    extra: float | None


def when(search: Search, *, minutes: float = 30.0, certainty: float = 0.9) -> Outlook:
    """The chance of getting the choice now and within some minutes, and what certainty costs."""
    memory, now = search.conditions.memory, search.conditions.now
    first = list(islice(search.ranking(), _LOOKED_AT))
    if not first:
        return Outlook(None, None, None, None, None)
    key = Key.of(first[0].offer)
    certain = None
    for each in first:
        chance = memory.chance(Key.of(each.offer), now)
        if chance is not None and chance.low >= certainty:
            certain = each
            break
    extra = certain.worth.key[0] - first[0].worth.key[0] if certain is not None else None
    return Outlook(first[0], memory.chance(key, now), memory.within(key, now, minutes), certain, extra)
