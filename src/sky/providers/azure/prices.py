"""What Azure sells, from its public retail prices: on demand and spot by region.

Found by the manifest. The list tells no shapes: those that a name tells for certain are made here, the others are what
the catalog knows already. What sending data to the internet costs is told, too.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from sky.core.errors import ProviderFailure
from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.azure.sizes import shape
from sky.providers.documents import Reading, endpoint, entries, fields, number, same_origin, text, wanted

_RETAIL = "https://prices.azure.com"
_MOST_PAGES = 2000
_SOLD_OTHERWISE = ("Windows", "Dedicated", "Cloud Services", "CloudServices", "Low Priority", "Promo")
#: Regions of clouds that need accounts of their own, and sites of telephone companies.
_ELSEWHERE = re.compile(r"(?:usgov|usdod|china|att|sgx)\w*")
_SIZE = re.compile(r"(?:Standard|Basic)_[A-Za-z0-9_-]{1,60}")


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Prices of every region, page by page. See `core.ports.PriceSource`."""
    base = endpoint(ask, _RETAIL)
    only = wanted(ask)
    for region in sorted(only) if only is not None else [None]:
        reading = Reading("azure", _question(base, "Virtual Machines", region), ask, Quality.LIST)
        for item in _items(web, reading, base):
            if _is_plain(item, ask.now):
                yield from _price(reading, item)
        yield from reading.end()
        with contextlib.suppress(ProviderFailure):
            # Prices of machines are not thrown away because those of transfers cannot be had.
            yield from list(_egress(web, ask, base, region))


def _question(base: str, service: str, region: str | None) -> str:
    condition = f"serviceName eq '{service}' and priceType eq 'Consumption'"
    if region is not None:
        condition += f" and armRegionName eq '{re.sub('[^a-z0-9]', '', region)}'"
    return f"{base}/api/retail/prices?$filter={quote(condition)}"


def _items(web: Web, reading: Reading, base: str) -> Iterator[Mapping[str, object]]:
    """Items of all pages. Raises ProviderDown where pages lead in a circle, elsewhere, or nowhere."""
    asked: set[str] = set()
    url = reading.url
    while url:
        asked.add(url)
        with web.get(url, at_most=16 * 2**20) as reply:
            page = fields(reply.json())
        if not isinstance(page.get("Items"), list):
            raise reading.malformed("list of items")
        yield from map(fields, entries(page["Items"]))
        url = text(page.get("NextPageLink"))
        if url and (url in asked or len(asked) >= _MOST_PAGES or not same_origin(url, base)):
            raise reading.malformed("end of its pages")


def _egress(web: Web, ask: PriceAsk, base: str, region: str | None) -> Iterator[Row]:
    """To the internet by the default way: the first tier of a region that costs something."""
    reading = Reading("azure", _question(base, "Bandwidth", region), ask, Quality.LIST)
    tiers: dict[str, tuple[float, float]] = {}
    for item in _items(web, reading, base):
        price, begin = number(item.get("retailPrice"), 10), number(item.get("tierMinimumUnits")) or 0.0
        where = text(item.get("armRegionName"))
        if (
            price is not None
            and item.get("meterName") == "Standard Data Transfer Out"
            and "MGN" in text(item.get("productName"))
            and item.get("unitOfMeasure") == "1 GB"
            and begin < tiers.get(where, (math.inf,))[0]
        ):
            tiers[where] = (begin, price)
    for where, (_, price) in tiers.items():
        yield from reading.egress(where, "internet", price)
    yield from reading.end()


def _is_plain(item: Mapping[str, object], now: float) -> bool:
    """A Linux machine in a shared data centre by the hour, at the price of today."""
    words = " ".join(text(item.get(field)) for field in ("productName", "meterName", "skuName"))
    return (
        item.get("unitOfMeasure") == "1 Hour"
        and item.get("type") == "Consumption"
        and item.get("tierMinimumUnits", 0) == 0
        and bool(item.get("armSkuName"))
        and not _ELSEWHERE.fullmatch(text(item.get("armRegionName")))
        and not any(word in words for word in _SOLD_OTHERWISE)
        and not _begins_after(text(item.get("effectiveStartDate")), now)
    )


def _begins_after(said: str, now: float) -> bool:
    try:
        begin = datetime.fromisoformat(said)
    except ValueError:
        return False
    return (begin if begin.tzinfo else begin.replace(tzinfo=UTC)).timestamp() > now


def _price(reading: Reading, item: Mapping[str, object]) -> list[Row]:
    size, spot = text(item.get("armSkuName")), "Spot" in f"{item.get('meterName')} {item.get('skuName')}"
    if not _SIZE.fullmatch(size) or item.get("currencyCode", "USD") != "USD":
        return reading.skip(size)
    made: list[Row] = []
    if (told := shape(size)) is not None:
        made = reading.type(size, told.cpus, told.memory_gib, arch=told.arch, family=told.family)
    market = Market.SPOT if spot else Market.ON_DEMAND
    return made + reading.price(size, item.get("armRegionName"), item.get("retailPrice"), market=market)
