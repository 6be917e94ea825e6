"""When a whole cloud is not believed: it then keeps the rows that it had, and says why.

`store.catalog.merge` asks, with figures counted from the new rows and the last generation's; whoever asked for the
refresh may accept what is refused here, since prices do change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sky.core.model.catalog import Market, Price

#: The share of rows, or of types, that may vanish: of price lists, and of markets that answer with what is free now.
LOST, LOST_LIVE = 0.2, 0.8
#: The share of prices that may move by more than so many times.
MOVED, MOVE = 0.02, 3.0
#: How far a price that was checked by hand may be off.
OFF_GOLDEN = 0.25
#: Of fewer rows than these some may always come and go, of a price list up to half; the fewest show nothing.
_FEW, _FEWEST, LOST_OF_FEW = 20, 10, 0.5

#: (cloud, type, region) to USD per hour on demand.
Golden = Mapping[tuple[str, str, str], float]


class Change(NamedTuple):
    """One cloud before and after: rows with a price, types with one, and of the prices in both how many moved far.

    `live`: most rows are what the place said of itself at this moment.
    """

    rows_before: int
    rows_after: int
    types_before: int
    types_after: int
    compared: int
    moved: int
    live: bool = False


def lost(change: Change) -> str | None:
    """A source that suddenly tells much less is broken, or was cut off."""
    least, allowed = (_FEW, LOST_LIVE) if change.live else (_FEWEST, LOST)
    for what, before, after in (
        ("rows", change.rows_before, change.rows_after),
        ("types", change.types_before, change.types_after),
    ):
        share = allowed if before >= _FEW else LOST_OF_FEW
        if before >= least and after < (1 - share) * before:
            return f"{after} {what} where there were {before}: more than {share:.0%} are gone"
    return None


def moved(change: Change) -> str | None:
    """Prices that jump together are a change of unit, of currency, or of what the rows mean."""
    if change.compared >= _FEW and change.moved > MOVED * change.compared:
        return (
            f"{change.moved} of {change.compared} prices moved more than {MOVE:g} times: "
            f"more than {MOVED:.0%} of them, which prices do not do by themselves"
        )
    return None


def off_golden(cloud: str, prices: Iterable[Price], golden: Golden) -> str | None:
    """A price that a person checked comes out wrong, so the others of this source are not to be trusted."""
    wanted = {(name, region): usd for (of, name, region), usd in golden.items() if of == cloud}
    if not wanted:
        return None
    off: dict[tuple[str, str], float] = {}
    for price in prices:
        usd = wanted.get((price.instance_type, price.region))
        if usd is None or price.market is not Market.ON_DEMAND or price.price is None:
            continue
        if abs(price.price - usd) > OFF_GOLDEN * usd:
            off[price.instance_type, price.region] = price.price
    if not off:
        return None
    (name, region), found = min(off.items())
    return (
        f"{name} in {region} costs {found:g} by this source, {wanted[name, region]:g} by a check of hand"
        f" ({len(off)} of {len(wanted)} such prices are more than {OFF_GOLDEN:.0%} off)"
    )


def refused(cloud: str, prices: Iterable[Price], change: Change | None, golden: Golden) -> str | None:
    """Why the new rows of this cloud are not taken; `None` if they are. `change` is `None` for a new cloud."""
    return (change and (lost(change) or moved(change))) or off_golden(cloud, prices, golden)
