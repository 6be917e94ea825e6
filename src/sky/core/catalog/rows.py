"""The rows of one cloud, told apart by kind: what a price source or the seed brings, before and after it is judged.

`gather` is called by `store.catalog.merge` and by whoever compiles a seed; `core.catalog.soundness` takes rows out,
`store.catalog.build` writes what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sky.core.model.catalog import Egress, InstanceType, Place, Price, Quarantined, Row, Source, Unchanged


@dataclass(slots=True)
class CloudRows:
    """What is known of one cloud.

    `types` by name; `prices` have a price, `unpriced` say only that a type is sold in a place. `unchanged` names
    documents whose rows of the previous generation still hold.
    """

    cloud: str
    types: dict[str, InstanceType] = field(default_factory=dict)
    prices: list[Price] = field(default_factory=list)
    unpriced: list[Price] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    egress: list[Egress] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


def gather(cloud: str, rows: Iterable[Row]) -> CloudRows:
    """Tell rows apart. A row of another cloud is set aside: a source speaks for its own cloud only."""
    made = CloudRows(cloud)
    prices, foreign = made.prices, 0
    keep = {Place: made.places, Egress: made.egress, Source: made.sources, Unchanged: made.unchanged}
    for row in rows:
        kind = type(row)
        if row[0] != cloud:
            foreign += 1
        elif kind is Price:
            prices.append(row)  # type: ignore[arg-type] - `kind` tells
        elif kind is InstanceType:
            made.types[row[1]] = row  # type: ignore[index,assignment] - `kind` tells
        else:
            keep[kind].append(row)  # type: ignore[index,attr-defined] - `kind` tells
    if any(price[5] is None for price in prices):
        made.unpriced = [price for price in prices if price.price is None]
        made.prices = [price for price in prices if price.price is not None]
    if foreign:
        made.quarantined.append(Quarantined(cloud, f"{foreign} rows", "foreign", "rows of other clouds"))
    return made
