"""What Mithril sells: spot by auction, at the price of the last round by region, from its API with the user's key.

Found by the manifest. The lowest bid that is accepted is a floor and not told as a price.
"""

import re
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://api.mithril.ai"


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types with the last price of each region. See `core.ports.PriceSource`."""
    secret = key(
        "mithril",
        env=("MITHRIL_API_KEY",),
        file="~/.config/mithril/config.yaml",
        pattern=r"^\s*api_key:\s*[\"']?([^\s\"']+)",
    )
    base, only = endpoint(ask, _API), wanted(ask)
    headers = {"Authorization": f"Bearer {secret}"}
    with web.get(f"{base}/v2/instance-types", headers=headers) as reply:
        shapes = {text(fields(each).get("fid")): fields(each) for each in entries(reply.json())}
    reading = Reading("mithril", f"{base}/v2/spot/availability", ask, Quality.LIVE)
    with web.get(reading.url, headers=headers) as reply:
        told = reply.json()
    if not isinstance(told, list):
        raise reading.malformed("list of prices")
    for each in map(fields, told):
        shape = shapes.get(text(each.get("instance_type")))
        if shape is None:
            reading.skip(each.get("instance_type"))
        elif only is None or each.get("region") in only:
            yield from _shape(reading, shape)
            price = re.sub(r"^\$", "", text(each.get("last_instance_price")))
            yield from reading.price(shape.get("name"), each.get("region"), price, market=Market.SPOT)
    yield from reading.end()


def _shape(reading: Reading, shape: Mapping[str, object]) -> list[Row]:
    count = number(shape.get("num_gpus"), 64)
    return reading.type(
        shape.get("name"), shape.get("num_cpus"), shape.get("ram_gb"),
        accelerator=shape.get("gpu_type") if count else None, count=count, device_gib=shape.get("gpu_memory_gb"),
        family=text(shape.get("gpu_type")),
    )  # fmt: skip
