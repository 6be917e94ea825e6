"""What RunPod sells now: GPUs of its secure cloud by data centre, asked of its public GraphQL endpoint.

Found by the manifest. Types are named for count and device, `8x_H100-SXM_SECURE`; the country is the region and the
data centre the zone. One question tells the devices, one for each data centre tells what is in stock there.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, name, number, text, wanted

_API = "https://api.runpod.io"
_MOST_CENTRES = 200
_PLACES = "query Places { dataCenters { id listed } }"
_STOCK = """query Stock($at: GpuLowestPriceInput) {
  gpuTypes {
    id displayName manufacturer memoryInGb maxGpuCount securePrice secureSpotPrice
    lowestPrice(input: $at) { minVcpu minMemory stockStatus }
  }
}"""


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """What is in stock, data centre by data centre. See `core.ports.PriceSource`."""
    reading = Reading("runpod", f"{endpoint(ask, _API)}/graphql", ask, Quality.LIVE)
    centres = [
        named
        for each in map(fields, entries(_answer(web, reading, _PLACES, {}).get("dataCenters")))
        if each.get("listed") is True and (named := name(each.get("id"))) and _country(named)
    ]
    if not centres:
        raise reading.malformed("list of data centres")
    only = wanted(ask)
    for centre in centres[:_MOST_CENTRES]:
        country = _country(centre)
        if only is None or country in only:
            at = {"at": {"gpuCount": 1, "secureCloud": True, "dataCenterId": centre}}
            for told in map(fields, entries(_answer(web, reading, _STOCK, at).get("gpuTypes"))):
                yield from _device(reading, told, country, centre)
    yield from reading.end()


def _answer(web: Web, reading: Reading, query: str, variables: Mapping[str, object]) -> Mapping[str, object]:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("RUNPOD_API_KEY", "").strip():
        headers["Authorization"] = f"Bearer {key}"
    body = json.dumps({"query": query, "variables": variables}).encode()
    with web.get(reading.url, headers=headers, body=body) as reply:
        told = fields(reply.json())
    if not isinstance(told.get("data"), dict):
        said = fields(next(iter(entries(told.get("errors"))), None)).get("message")
        raise reading.malformed(f"answer ({text(said)[:120] or 'no reason given'})")
    return fields(told["data"])


def _device(reading: Reading, told: Mapping[str, object], country: str, centre: str) -> Iterator[Row]:
    stock = fields(told.get("lowestPrice"))
    price, device = number(told.get("securePrice"), 100), name(told.get("displayName"))
    if stock.get("stockStatus") is None or told.get("securePrice") is None:
        return  # not sold here now
    cpus, memory = number(stock.get("minVcpu")), number(stock.get("minMemory"))
    most = number(told.get("maxGpuCount"), 16)
    if device is None or price is None or cpus is None or memory is None or most is None:
        reading.skip(told.get("id"))
        return
    spot = number(told.get("secureSpotPrice"), 100)
    for count in range(1, int(most) + 1):
        named = f"{count}x_{_short(device)}_SECURE"
        yield from reading.type(
            named, cpus * count, memory * count,
            accelerator=device, count=count, device_gib=told.get("memoryInGb"), family=_short(device),
        )  # fmt: skip
        yield from reading.price(named, country, price * count, zone=centre)
        # A spot price that equals the other says that there is no such market.
        if spot is not None and spot < price:
            yield from reading.price(named, country, spot * count, zone=centre, market=Market.SPOT)


def _short(device: str) -> str:
    """`H100 SXM` as `H100-SXM`, `RTX 4090` as `RTX4090`: the way types are named after them."""
    short = device.replace("RTX PRO ", "RTXPRO").replace("RTX ", "RTX").replace(" ", "-")
    return {"A100-PCIe": "A100-80GB", "A100-SXM": "A100-80GB-SXM", "H100-PCIe": "H100"}.get(short, short)


def _country(centre: str) -> str:
    """`US-GA-1` as `US`, `EUR-IS-1` as `IS`; empty where the name has another form."""
    found = re.fullmatch(r"(?:(US|CA)-[A-Z]{2,3}|[A-Z]{2,3}-([A-Z]{2}))-\d{1,2}", centre)
    return (found[1] or found[2]) if found else ""
