"""Messages about the catalog. Used by the server's routes."""

from collections.abc import Iterable

from sky.core.model.catalog import CloudSummary
from sky.core.model.clouds import cloud_named
from sky.wire.codec import Body, Record


class CatalogRefreshBody(Body):
    """Arguments of `/catalog_refresh`; without `clouds`, all that can be asked; `if_older_s` in seconds."""

    clouds: list[str] | None = None
    if_older_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse clouds that do not exist, with the nearest name."""
        if self.clouds is not None:
            self.clouds = [cloud_named(name).canonical_name() for name in self.clouds]


class CatalogStatusBody(Body):
    """Arguments of `/catalog_status`; `quarantined` also tells which rows are not believed."""

    quarantined: bool = False


class CloudPricesRecord(Record):
    """What the catalog holds of one cloud; times are seconds since the epoch."""

    cloud: str
    types: int
    regions: int
    offers: int
    priced: int
    newest: float | None
    oldest: float | None
    fetched: float | None
    qualities: dict[str, int]
    quarantined: int
    refreshable: bool


class QuarantinedRecord(Record):
    """A row that is not believed, by which rule, and the figures."""

    cloud: str
    what: str
    rule: str
    detail: str


class CatalogRecord(Record):
    """A generation of the catalog."""

    generation: str
    clouds: list[CloudPricesRecord]
    quarantined: list[QuarantinedRecord]


def cloud_records(summaries: Iterable[CloudSummary], refreshable: Iterable[str]) -> list[CloudPricesRecord]:
    """Summaries as they are told."""
    asked = frozenset(refreshable)
    return [
        CloudPricesRecord(
            cloud=each.cloud,
            types=each.types,
            regions=each.regions,
            offers=each.offers,
            priced=each.priced,
            newest=each.observed[1] if each.observed else None,
            oldest=each.observed[0] if each.observed else None,
            fetched=each.fetched,
            qualities={quality.value: count for quality, count in each.qualities},
            quarantined=each.quarantined,
            refreshable=each.cloud in asked,
        )
        for each in summaries
    ]
