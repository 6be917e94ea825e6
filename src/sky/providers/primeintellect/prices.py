"""What Prime Intellect brokers: machines of many clouds in stock right now, from its API with the user's key.

Found by the manifest. Types are named for the cloud behind, devices, vCPUs and GiB, as in
`lambdalabs__8xH100_80GB__208__1800`, regions for country and data centre, `US - us-south-2`. An offer costs what its
machine and the processors, memory and disk that come with it cost together.
"""

import math
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://api.primeintellect.ai"
_MOST_PAGES = 100
#: In place of a device where there is none.
_NO_DEVICE = "CPU_NODE"
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
        named, price = _named(offer), _price(offer)
        region = f"{text(offer.get('country'))} - {text(offer.get('dataCenter')) or text(offer.get('region'))}"
        if named is None:
            continue  # some clouds behind do not tell their shape, and without it a machine has no name
        if price is None:
            reading.skip(named)
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
            if text(offer.get("stockStatus")).lower() in _IN_STOCK:
                yield offer
        seen += len(entries(told["items"]))
        if not entries(told["items"]) or seen >= (number(told.get("totalCount")) or 0.0):
            return
    raise reading.malformed("end of its pages")


def _named(offer: Mapping[str, object]) -> str | None:
    device, behind, count = text(offer.get("gpuType")), text(offer.get("provider")), number(offer.get("gpuCount"), 64)
    cpus, gib = _shape_of(offer)
    if not device or not behind or cpus is None or gib is None or (count is None and device != _NO_DEVICE):
        return None
    kind = device if device == _NO_DEVICE else f"{count:g}x{device}"
    return f"{behind}__{kind}__{cpus:g}__{gib:g}"


def _shape_of(offer: Mapping[str, object]) -> tuple[float | None, float | None]:
    cpus, gib = (fields(offer.get(each)).get("defaultCount") for each in ("vcpu", "memory"))
    return number(cpus, 4096), number(gib, 65536)


def _price(offer: Mapping[str, object]) -> float | None:
    """USD per hour of the whole offer; None where a part of it has no price that can be read."""
    total = number(fields(offer.get("prices")).get("onDemand"))
    for part in (fields(offer.get(each)) for each in ("vcpu", "memory", "disk")):
        extra, unit = number(part.get("defaultCount")), number(part.get("pricePerUnit"))
        if total is not None and part.get("defaultIncludedInPrice") is False and extra and unit:
            total += extra * unit
    return total


def _shape(reading: Reading, named: str, offer: Mapping[str, object]) -> list[Row]:
    with_devices = text(offer.get("gpuType")) != _NO_DEVICE
    count, memory = number(offer.get("gpuCount"), 64), number(offer.get("gpuMemory"), 1e5)
    cpus, gib = _shape_of(offer)
    return reading.type(
        named, cpus, gib,
        accelerator=offer.get("gpuType") if with_devices else None, count=count if with_devices else None,
        # The memory is that of all devices together.
        device_gib=memory / count if memory and count else None, family=text(offer.get("provider")),
    )  # fmt: skip
