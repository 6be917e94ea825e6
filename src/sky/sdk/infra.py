"""Places with compute: which can be used, and what accelerators they have."""

from __future__ import annotations

from collections.abc import Sequence

from sky.sdk.ids import RequestId
from sky.sdk.records import AcceleratorOffer, CloudAccess
from sky.sdk.requests import read


def check(
    infra_list: Sequence[str] | None = None, verbose: bool = False, workspace: str | None = None
) -> RequestId[dict[str, dict[str, CloudAccess]]]:
    """Try the credentials of places (None: all). Value: `{workspace: {cloud: capabilities}}`, each with its reason."""
    infra = None if infra_list is None else list(infra_list)
    return read("check", {"infra_list": infra, "verbose": verbose, "workspace": workspace})


def enabled_clouds(workspace: str | None = None, expand: bool = False) -> RequestId[list[str]]:
    """Names of places that can be used."""
    return read("enabled_clouds", {"workspace": workspace, "expand": expand})


def list_accelerators(  # noqa: PLR0917 - the compatible public signature
    gpus_only: bool = True,
    name_filter: str | None = None,
    region_filter: str | None = None,
    quantity_filter: int | None = None,
    clouds: Sequence[str] | str | None = None,
    all_regions: bool = False,
    require_price: bool = True,
    case_sensitive: bool = True,
) -> RequestId[dict[str, list[AcceleratorOffer]]]:
    """What is sold with accelerators, by their name: `{name: [AcceleratorOffer]}`, by count and price.

    The whole catalog is listed and what providers such as this machine have now, whether enabled or not. `name_filter`
    and `region_filter` match part of a name, `quantity_filter` is exact. Without `all_regions`, each instance type is
    told once, from where it is cheapest; `require_price` leaves out what has no price. Memory is in GiB, prices in USD
    per hour; `quality`, `observed` (seconds since the epoch) and `source` say where a price is from.
    """
    body = {
        **_filters(gpus_only, name_filter, region_filter, quantity_filter, clouds),
        "all_regions": all_regions,
        "require_price": require_price,
        "case_sensitive": case_sensitive,
    }
    return read("list_accelerators", body)


def list_accelerator_counts(
    gpus_only: bool = True,
    name_filter: str | None = None,
    region_filter: str | None = None,
    quantity_filter: int | None = None,
    clouds: Sequence[str] | str | None = None,
) -> RequestId[dict[str, list[float]]]:
    """Counts in which accelerators are sold, by name, ascending; see `list_accelerators` for the filters."""
    return read("list_accelerator_counts", _filters(gpus_only, name_filter, region_filter, quantity_filter, clouds))


def _filters(
    gpus_only: bool, name: str | None, region: str | None, quantity: int | None, clouds: Sequence[str] | str | None
) -> dict[str, object]:
    return {
        "gpus_only": gpus_only,
        "name_filter": name,
        "region_filter": region,
        "quantity_filter": quantity,
        "clouds": [clouds] if isinstance(clouds, str) else None if clouds is None else list(clouds),
    }
