"""What OVHcloud sells: instances of its public cloud by region, from its public order catalog.

Found by the manifest. Needs no key. Prices are in the currency of a subsidiary (`subsidiary` under
`catalog.sources.ovhcloud` in the configuration, `IE` without it), before tax, in units of a hundred-millionth, and
converted.
"""

import re
from collections.abc import Iterator, Mapping

from sky.core.errors import RequestInvalid
from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, ask_for, endpoint, entries, fields, number, text, wanted
from sky.providers.exchange import usd_per

_API = "https://api.ovh.com"
_UNITS = 1e8
#: The hourly plan of a flavour, with a mark where it is sold in local or three-zone regions at a price of its own.
_HOURLY = re.compile(r"(?!win-)[a-z0-9-]{1,40}\.consumption(?:\.[A-Za-z0-9.]{1,20})?")


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Flavours by region. See `core.ports.PriceSource`."""
    subsidiary = ask.config.get("subsidiary", "IE")
    if not isinstance(subsidiary, str) or not re.fullmatch(r"[A-Z]{2,4}", subsidiary):
        raise RequestInvalid(f"subsidiary: found {str(subsidiary)[:40]!r}; allowed: letters such as IE, DE, CA, WE")
    url = f"{endpoint(ask, _API)}/1.0/order/catalog/public/cloud?ovhSubsidiary={subsidiary}"
    with ask_for(web, ask, url) as reply:
        if reply.unchanged:
            yield Reading("ovhcloud", url, ask, Quality.LIST).unchanged()
            return
        catalog = fields(reply.json())
        currency = text(fields(catalog.get("locale")).get("currencyCode"))
        addons = catalog.get("addons")
        if not isinstance(addons, list):
            raise Reading("ovhcloud", url, ask, Quality.LIST).malformed("list of addons")
        reading = Reading("ovhcloud", url, ask, Quality.LIST, usd=usd_per(web, ask, currency))
        only = wanted(ask)
        for addon in map(fields, entries(addons)):
            technical = fields(fields(addon.get("blobs")).get("technical"))
            if _is_linux(addon, technical):
                yield from _flavour(reading, addon, technical, only)
        yield from reading.end(reply)


def _is_linux(addon: Mapping[str, object], technical: Mapping[str, object]) -> bool:
    return (
        addon.get("product") == "publiccloud-instance"
        and bool(_HOURLY.fullmatch(text(addon.get("planCode"))))
        and fields(technical.get("os")).get("family", "linux") == "linux"
    )


def _flavour(
    reading: Reading, addon: Mapping[str, object], technical: Mapping[str, object], only: frozenset[str] | None
) -> Iterator[Row]:
    named = text(addon.get("invoiceName")) or text(addon.get("planCode")).partition(".")[0]
    gpu = fields(technical.get("gpu"))
    count = number(gpu.get("number"), 64)
    yield from reading.type(
        named, fields(technical.get("cpu")).get("cores"), fields(technical.get("memory")).get("size"),
        accelerator=gpu.get("model") if count else None, count=count,
        device_gib=fields(gpu.get("memory")).get("size"),
        disk_gb=_nvme_gb(technical), disk_kind="nvme", family=named.partition("-")[0],
    )  # fmt: skip
    rates = (fields(each).get("price") for each in entries(addon.get("pricings")))
    units = number(next(rates, None))
    regions = [
        region
        for setting in map(fields, entries(addon.get("configurations")))
        for region in entries(setting.get("values"))
        if setting.get("name", "region") == "region"
    ]
    for region in regions:
        if only is None or region in only:
            yield from reading.price(named, region, units / _UNITS if units else None)


def _nvme_gb(technical: Mapping[str, object]) -> float | None:
    disks = map(fields, entries(fields(technical.get("nvme")).get("disks")))
    total = sum((number(each.get("capacity"), 1e6) or 0.0) * (number(each.get("number"), 64) or 1.0) for each in disks)
    return total or None
