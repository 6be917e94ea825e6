"""What hosts offer on Vast right now: machines of many makes, gathered into types by shape and into countries.

Found by the manifest. The market answers without a key. A type is named for its shape, `8x-H100_SXM-128-512000`
(devices, device, vCPUs, MB of memory), and costs what its cheapest offer in the country costs.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, number, text

_MARKET = "https://console.vast.ai"
_QUESTION = {
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "rented": {"eq": False},
    "external": {"eq": False},
    "type": "on-demand",
    "order": [["dph_total", "asc"]],
    "limit": 5000,
}
_MIB_OF_A_GIB = 1024


class _Shape(NamedTuple):
    name: str
    cpus: float
    memory_gib: float
    device: str
    devices: float
    device_gib: float | None


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Today's offers. See `core.ports.PriceSource`."""
    url = f"{endpoint(ask, _MARKET)}/api/v0/bundles/"
    reading = Reading("vast", url, ask, Quality.LIVE)
    headers = {"Content-Type": "application/json"}
    with web.get(url, headers=headers, body=json.dumps(_QUESTION).encode()) as reply:
        offers = fields(reply.json()).get("offers")
    if not isinstance(offers, list):
        raise reading.malformed("list of offers")
    cheapest: dict[tuple[_Shape, str, Market], float] = {}
    for offer in map(fields, entries(offers)):
        shape, country = _shape(offer), _country(offer.get("geolocation"))
        price, bid = number(offer.get("dph_total")), number(offer.get("min_bid"))
        if shape is None or price is None:
            reading.skip(offer.get("gpu_name"))
        elif country is not None:
            _lower(cheapest, (shape, country, Market.ON_DEMAND), price)
            # A floor that is no lower than the price is no spot market.
            if bid is not None and bid < price:
                _lower(cheapest, (shape, country, Market.SPOT), bid)
    for (shape, country, market), price in cheapest.items():
        yield from reading.type(
            shape.name, shape.cpus, shape.memory_gib,
            accelerator=shape.device, count=shape.devices, device_gib=shape.device_gib, family=shape.device,
        )  # fmt: skip
        yield from reading.place(country, country=country)
        yield from reading.price(shape.name, country, price, market=market)
    yield from reading.end()


def _lower(cheapest: dict[tuple[_Shape, str, Market], float], at: tuple[_Shape, str, Market], price: float) -> None:
    cheapest[at] = min(price, cheapest.get(at, math.inf))


def _shape(offer: Mapping[str, object]) -> _Shape | None:
    """The part of a machine that is offered: devices may be a share of it, and memory is told for the whole."""
    count, device = number(offer.get("num_gpus"), 64), text(offer.get("gpu_name")).strip()
    cores, lent = number(offer.get("cpu_cores"), 4096), number(offer.get("cpu_cores_effective"), 4096)
    memory = number(offer.get("cpu_ram"), 1e9)
    if count is None or not device or cores is None or lent is None or lent > cores or memory is None:
        return None
    cpus = math.floor(lent)
    # Memory in steps of a GiB, cores whole: offers of one make differ in the last digits only.
    megabytes = math.floor(memory * lent / cores / _MIB_OF_A_GIB) * _MIB_OF_A_GIB
    device_mib = number(offer.get("gpu_ram"), 4e6)
    if cpus < 1 or megabytes < 1:
        return None
    return _Shape(
        f"{count:g}x-{re.sub(r'[^A-Za-z0-9]+', '_', device)}-{cpus}-{megabytes}",
        float(cpus),
        megabytes / _MIB_OF_A_GIB,
        device,
        count,
        round(device_mib / _MIB_OF_A_GIB, 1) if device_mib else None,
    )


def _country(said: object) -> str | None:
    """`Sweden, SE` as `SE`."""
    found = re.search(r"(?:^|[ ,])([A-Z]{2})$", text(said))
    return found[1] if found else None
