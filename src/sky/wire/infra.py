"""Messages about places with compute: access and accelerators. Used by the server's routes."""

import math
from collections.abc import Iterable, Iterator

from sky.core.model.catalog import Listing, Query
from sky.core.model.offers import Offer
from sky.core.ports import Access, Catalog
from sky.wire.codec import Body, Record

#: Accelerators of one kind that are asked for at most.
_MOST_QUANTITY = 1_000_000


class CheckBody(Body):
    """Arguments of `/check`; without `infra_list`, every place."""

    infra_list: list[str] | None = None
    verbose: bool = False
    workspace: str | None = None


class EnabledCloudsBody(Body):
    """Arguments of `/enabled_clouds`; `expand` names each part of a place that has parts, and `local` has none."""

    workspace: str | None = None
    expand: bool = False


class AcceleratorsBody(Body):
    """Arguments of `/list_accelerators` and `/list_accelerator_counts`; filters are substrings.

    `gpus_only` leaves out accelerators that are no GPUs; without `all_regions`, each instance type is told once, from
    where it is cheapest; `require_price` leaves out what has no price.
    """

    gpus_only: bool = True
    name_filter: str | None = None
    region_filter: str | None = None
    quantity_filter: int | None = None
    clouds: list[str] | None = None
    all_regions: bool = False
    require_price: bool = True
    case_sensitive: bool = True

    def __post_init__(self) -> None:
        """Refuse a quantity that no database holds."""
        if self.quantity_filter is not None and not 0 <= self.quantity_filter <= _MOST_QUANTITY:
            raise ValueError(f"quantity_filter: allowed: 0 to {_MOST_QUANTITY}")


class AccessRecord(Record):
    """Whether a place can be used, and if not, why and what to do; `credentials`: whether the user's were found."""

    enabled: bool
    capabilities: list[str]
    reason: str
    hint: str
    account: str | None
    credentials: bool | None


class AcceleratorOffer(Record):
    """An instance type with accelerators in one place; memory in GiB, prices in USD per hour.

    `quality` says how well the price is known, `observed` when it was seen (seconds since the epoch), `source` where.
    """

    cloud: str
    instance_type: str
    accelerator_name: str
    accelerator_count: float
    cpu_count: float
    device_memory: float | None
    memory: float
    price: float | None
    spot_price: float | None
    region: str
    quality: str | None
    observed: float | None
    source: str | None


def access_record(access: Access) -> AccessRecord:
    """Access to a place as it is told."""
    return AccessRecord(
        enabled=access.enabled,
        capabilities=list(access.capabilities),
        reason=access.reason,
        hint=access.hint,
        account=access.account,
        credentials=access.credentials,
    )


#: How the names of accelerators begin that are no GPUs.
_NOT_GPUS = ("tpu", "inferentia", "trainium", "fpga")


def accelerator_listings(catalog: Catalog, wanted: AcceleratorsBody) -> Iterator[Listing]:
    """What a catalog sells of the accelerators asked for: one question to it for each name."""
    clouds = None if wanted.clouds is None else frozenset(cloud.lower() for cloud in wanted.clouds)
    region = _only_region(catalog, wanted)
    for name in _names(catalog, wanted):
        yield from catalog.listings(
            Query(clouds=clouds, region=region, accelerator=name, accelerator_count=wanted.quantity_filter)
        )


def _names(catalog: Catalog, wanted: AcceleratorsBody) -> list[str]:
    """Canonical names that hold the filter, or the one for which the filter is another spelling."""
    spellings = catalog.accelerators()
    names = sorted({name for name in spellings.values() if _is_wanted(name, wanted)})
    if not names and wanted.name_filter and not wanted.case_sensitive:
        names = [name for spelling, name in spellings.items() if spelling == wanted.name_filter.lower()]
    return names


def _only_region(catalog: Catalog, wanted: AcceleratorsBody) -> str | None:
    """The region that the filter names in full; a part of a name is compared row by row."""
    named = wanted.region_filter
    return named if named and any(place.region == named for place in catalog.places()) else None


def accelerator_offers(
    offers: Iterable[Offer], wanted: AcceleratorsBody, listings: Iterable[Listing] = ()
) -> dict[str, list[AcceleratorOffer]]:
    """What providers offer now and a catalog lists, by accelerator name, filtered, each list by count and price."""
    found: dict[str, list[AcceleratorOffer]] = {}
    for row in (*_offered(offers, wanted), *_listed(listings, wanted)):
        if not wanted.require_price or row.price is not None or row.spot_price is not None:
            found.setdefault(row.accelerator_name, []).append(row)
    told = {
        name: sorted(rows, key=lambda row: (row.accelerator_count, _dearness(row), row.cloud, row.instance_type))
        for name, rows in sorted(found.items())
    }
    return told if wanted.all_regions else {name: _cheapest_regions(rows) for name, rows in told.items()}


def accelerator_counts(
    offers: Iterable[Offer], wanted: AcceleratorsBody, listings: Iterable[Listing] = ()
) -> dict[str, list[float]]:
    """The counts in which each accelerator is sold, ascending, also where its price is not known."""
    found: dict[str, set[float]] = {}
    for offer in offers:
        for name, count in offer.accelerators.items():
            if _fits(offer, name, count, wanted):
                found.setdefault(name, set()).add(count)
    for listing in listings:
        sold = listing.type
        if sold.accelerator is not None and _part_of(wanted.region_filter, listing.region, wanted):
            found.setdefault(sold.accelerator, set()).add(sold.accelerator_count)
    return {name: sorted(counts) for name, counts in sorted(found.items())}


def _offered(offers: Iterable[Offer], wanted: AcceleratorsBody) -> list[AcceleratorOffer]:
    """Rows of live offers: on-demand and spot of the same type in the same place are one."""
    found: dict[tuple[str, str, str, str, float], AcceleratorOffer] = {}
    for offer in offers:
        for name, count in offer.accelerators.items():
            if not _fits(offer, name, count, wanted):
                continue
            key = (name, offer.cloud, offer.region, offer.instance_type, count)
            known = found.get(key)
            found[key] = AcceleratorOffer(
                cloud=offer.cloud,
                instance_type=offer.instance_type,
                accelerator_name=name,
                accelerator_count=count,
                cpu_count=offer.cpus,
                device_memory=offer.accelerator_memory_gb,
                memory=offer.memory_gb,
                price=(known.price if known else None) if offer.use_spot else offer.price_hourly,
                spot_price=offer.price_hourly if offer.use_spot else (known.spot_price if known else None),
                region=offer.region,
                quality=offer.quality,
                observed=offer.observed,
                source=offer.source,
            )
    return list(found.values())


def _listed(listings: Iterable[Listing], wanted: AcceleratorsBody) -> list[AcceleratorOffer]:
    """Rows of a catalog, which the question has filtered; of each type only the cheapest where that is wanted."""
    kept: dict[tuple[str, str, str | None], Listing] = {}
    for listing in listings:
        if not _part_of(wanted.region_filter, listing.region, wanted):
            continue
        sold = listing.type
        key = (sold.cloud, sold.name, listing.region if wanted.all_regions else None)
        known = kept.get(key)
        if known is None or _price_order(listing) < _price_order(known):
            kept[key] = listing
    return [_listing_row(listing) for listing in kept.values()]


def _listing_row(listing: Listing) -> AcceleratorOffer:
    sold = listing.type
    return AcceleratorOffer(
        cloud=sold.cloud,
        instance_type=sold.name,
        accelerator_name=sold.accelerator or "",
        accelerator_count=sold.accelerator_count,
        cpu_count=sold.cpus,
        device_memory=sold.accelerator_memory_gib,
        memory=sold.memory_gib,
        price=listing.price,
        spot_price=listing.spot_price,
        region=listing.region,
        quality=listing.quality,
        observed=listing.observed,
        source=listing.source,
    )


def _price_order(row: Listing | AcceleratorOffer) -> tuple[float, float]:
    """Cheapest on demand first, then cheapest spot; a price that is not known is the highest."""
    return (
        math.inf if row.price is None else row.price,
        math.inf if row.spot_price is None else row.spot_price,
    )


def _dearness(row: AcceleratorOffer) -> float:
    prices = [price for price in (row.price, row.spot_price) if price is not None]
    return prices[0] if prices else math.inf


def _cheapest_regions(rows: Iterable[AcceleratorOffer]) -> list[AcceleratorOffer]:
    """Of rows in the order of their price, the first of each instance type."""
    first: dict[tuple[str, str, float], AcceleratorOffer] = {}
    for row in rows:
        first.setdefault((row.cloud, row.instance_type, row.accelerator_count), row)
    return list(first.values())


def _part_of(part: str | None, whole: str, wanted: AcceleratorsBody) -> bool:
    if part is None:
        return True
    return part in whole if wanted.case_sensitive else part.lower() in whole.lower()


def _is_wanted(name: str, wanted: AcceleratorsBody) -> bool:
    if wanted.gpus_only and name.lower().startswith(_NOT_GPUS):
        return False
    return _part_of(wanted.name_filter, name, wanted)


def _fits(offer: Offer, name: str, count: float, wanted: AcceleratorsBody) -> bool:
    if wanted.clouds is not None and offer.cloud.lower() not in {cloud.lower() for cloud in wanted.clouds}:
        return False
    if wanted.quantity_filter is not None and count != wanted.quantity_filter:
        return False
    return _is_wanted(name, wanted) and _part_of(wanted.region_filter, offer.region, wanted)
