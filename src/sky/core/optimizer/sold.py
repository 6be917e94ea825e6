"""What the optimizer asks of a catalog; `core.ports.Catalog` is one, and so is any list of offers in a test."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from sky.core.model.catalog import InstanceType, Listing, Place, Query
from sky.core.model.offers import Offer


class Sold(Protocol):
    """What is on sale. See `core.ports.Catalog`, of which this is a part."""

    def offers(self, query: Query) -> Iterator[Offer]:
        """What has a price, cheapest first, found lazily."""
        ...

    def listings(self, query: Query) -> Iterator[Listing]:
        """One for each type and region, with the zones that sell it."""
        ...

    def types(self, name: str, cloud: str | None = None) -> list[InstanceType]:
        """The types of this name."""
        ...

    def places(self, cloud: str | None = None) -> list[Place]:
        """Regions and zones in which something is sold."""
        ...

    def accelerators(self) -> Mapping[str, str]:
        """Every known spelling in lower case to the canonical name."""
        ...


@runtime_checkable
class SoldByPlace(Sold, Protocol):
    """A catalog that can also tell the cheapest of every region at once; others are asked region by region."""

    def lowest(self, query: Query) -> Iterator[Offer]:
        """The cheapest offer of each (cloud, region) that has one, in no order."""
        ...
