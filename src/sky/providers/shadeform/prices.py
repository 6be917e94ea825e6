"""What Shadeform brokers: machines of many clouds with capacity right now, from its API with the user's key.

Found by the manifest. Types are named for the cloud behind and the standard name of the shape, `hyperstack_A6000`.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://api.shadeform.ai"
_CENTS = 100


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types with capacity, by region. See `core.ports.PriceSource`."""
    secret = key("shadeform", env=("SHADEFORM_API_KEY",), file="~/.shadeform/api_key")
    url = f"{endpoint(ask, _API)}/v1/instances/types?available=true"
    reading = Reading("shadeform", url, ask, Quality.LIVE)
    with web.get(url, headers={"X-API-KEY": secret}) as reply:
        types = fields(reply.json()).get("instance_types")
        if not isinstance(types, list):
            raise reading.malformed("list of types")
        only = wanted(ask)
        for told in map(fields, entries(types)):
            yield from _type(reading, told, only)
        yield from reading.end(reply)


def _type(reading: Reading, told: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    shape, cloud = fields(told.get("configuration")), text(told.get("cloud"))
    regions = [
        each.get("region")
        for each in map(fields, entries(told.get("availability")))
        if each.get("available") is True and (only is None or each.get("region") in only)
    ]
    if not regions:
        return
    named = f"{cloud}_{text(told.get('shade_instance_type')).replace('_', '-')}"
    count, cents = number(shape.get("num_gpus"), 64), number(told.get("hourly_price"), 1e6)
    yield from reading.type(
        named, shape.get("vcpus"), shape.get("memory_in_gb"),
        accelerator=text(shape.get("gpu_type")).replace("_", "-") if count else None, count=count,
        device_gib=shape.get("vram_per_gpu_in_gb"), disk_gb=shape.get("storage_in_gb"), disk_kind="ssd", family=cloud,
        features=frozenset(["nvlink"]) if shape.get("nvlink") is True else frozenset(),
    )  # fmt: skip
    for region in regions:
        yield from reading.price(named, region, cents / _CENTS if cents else None)
