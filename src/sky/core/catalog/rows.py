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
    foreign = 0
    for row in rows:
        if row[0] != cloud:
            foreign += 1
        elif isinstance(row, Price):
            made.prices.append(row)
        elif isinstance(row, InstanceType):
            made.types[row.name] = row
        else:
            _keep(made, row)
    if any(price[5] is None for price in made.prices):
        made.unpriced = [price for price in made.prices if price.price is None]
        made.prices = [price for price in made.prices if price.price is not None]
    if foreign:
        made.quarantined.append(Quarantined(cloud, f"{foreign} rows", "foreign", "rows of other clouds"))
    return made


def _keep(made: CloudRows, row: Place | Egress | Source | Unchanged) -> None:
    match row:
        case Place():
            made.places.append(row)
        case Egress():
            made.egress.append(row)
        case Source():
            made.sources.append(row)
        case Unchanged():
            made.unchanged.append(row)
