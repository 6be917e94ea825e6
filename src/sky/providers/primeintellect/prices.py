"""What Prime Intellect brokers: machines of many clouds in stock right now, from its API with the user's key.

Found by the manifest. Types are named for count, device and the cloud behind, `8x_H100_80GB_lambdalabs`; an offer
costs what its machine and the processors, memory and disk that come with it cost together.
"""

import math
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://api.primeintellect.ai"
_MOST_PAGES = 100
_IN_STOCK = ("available", "low", "medium", "high", "")


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Offers in stock, the cheapest of each kind and place. See `core.ports.PriceSource`."""
    secret = key(
        "primeintellect",
        env=("PRIME_API_KEY", "PRIME_INTELLECT_API_KEY"),
        file="~/.prime/config.json",
        pattern=r"\"api_key\"\s*:\s*\"([^\"\s]+)\"",
    )
    url, only = f"{endpoint(ask, _API)}/api/v1/availability/gpus", wanted(ask)
    reading = Reading("primeintellect", url, ask, Quality.LIVE)
    cheapest: dict[tuple[str, str], tuple[float, Mapping[str, object]]] = {}
    for offer in _offers(web, reading, {"Authorization": f"Bearer {secret}"}):
        region = text(offer.get("dataCenter")) or text(offer.get("region")) or text(offer.get("country"))
        named, price = _named(offer), _price(offer)
        if named is None or price is None:
            reading.skip(offer.get("gpuType"))
        elif price < cheapest.get((named, region), (math.inf,))[0] and (only is None or region in only):
            cheapest[named, region] = (price, offer)
    for (named, region), (price, offer) in cheapest.items():
        yield from _shape(reading, named, offer)
        yield from reading.price(named, region, price)
    yield from reading.end()


def _offers(web: Web, reading: Reading, headers: Mapping[str, str]) -> Iterator[Mapping[str, object]]:
    seen = 0.0
    for page in range(1, _MOST_PAGES + 1):
        with web.get(f"{reading.url}?page={page}&page_size=100", headers=headers) as reply:
            told = fields(reply.json())
        if not isinstance(told.get("items"), list):
            raise reading.malformed("list of offers")
        for offer in map(fields, entries(told["items"])):
            if text(offer.get("stockStatus")).lower() in _IN_STOCK and not text(offer.get("gpuType")).startswith("CPU"):
                yield offer
        seen += len(entries(told["items"]))
        if not entries(told["items"]) or seen >= (number(told.get("totalCount")) or 0.0):
            return
    raise reading.malformed("end of its pages")


def _named(offer: Mapping[str, object]) -> str | None:
    count, device, behind = number(offer.get("gpuCount"), 64), text(offer.get("gpuType")), text(offer.get("provider"))
    return f"{count:g}x_{device}_{behind}" if count and device and behind else None


def _price(offer: Mapping[str, object]) -> float | None:
    """USD per hour of the whole offer; None where a part of it has no price that can be read."""
    total = number(fields(offer.get("prices")).get("onDemand"))
    for part in (fields(offer.get(each)) for each in ("vcpu", "memory", "disk")):
        extra, unit = number(part.get("defaultCount")), number(part.get("pricePerUnit"))
        if total is not None and part.get("defaultIncludedInPrice") is False and extra and unit:
            total += extra * unit
    return total


def _shape(reading: Reading, named: str, offer: Mapping[str, object]) -> list[Row]:
    count, memory = number(offer.get("gpuCount"), 64), number(offer.get("gpuMemory"), 1e5)
    cpus, gib = (number(fields(offer.get(each)).get("defaultCount")) for each in ("vcpu", "memory"))
    if cpus is None or gib is None:
        return []  # some clouds behind do not tell their shape; what is known of it stays
    return reading.type(
        named, cpus, gib, accelerator=offer.get("gpuType"), count=count,
        # The memory is that of all devices together.
        device_gib=memory / count if memory and count else None, family=text(offer.get("provider")),
    )  # fmt: skip
