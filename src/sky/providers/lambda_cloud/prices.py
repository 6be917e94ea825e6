"""What Lambda sells and where it has capacity right now, from its API with the user's key.

Found by the manifest. A type without capacity anywhere is told without a price: the API says no region for it.
"""

import re
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, ask_for, endpoint, entries, fields, key, number, text, wanted

_API = "https://cloud.lambda.ai"
_CENTS = 100
_ARM = ("GH200", "GB200", "GB300")


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types with capacity, by region. See `core.ports.PriceSource`."""
    secret = key(
        "lambda", env=("LAMBDA_API_KEY",), file="~/.lambda_cloud/lambda_keys", pattern=r"^\s*api_key\s*=\s*(\S+)"
    )
    url = f"{endpoint(ask, _API)}/api/v1/instance-types"
    reading = Reading("lambda", url, ask, Quality.LIVE)
    with ask_for(web, ask, url, headers={"Authorization": f"Bearer {secret}"}) as reply:
        if reply.unchanged:
            yield reading.unchanged()
            return
        types = fields(reply.json()).get("data")
        if not isinstance(types, dict):
            raise reading.malformed("list of types")
        only = wanted(ask)
        for told in map(fields, types.values()):
            yield from _type(reading, told, only)
        yield from reading.end(reply)


def _type(reading: Reading, told: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    about = fields(told.get("instance_type"))
    specs, named = fields(about.get("specs")), text(about.get("name"))
    count = number(specs.get("gpus"), 64)
    device, memory = _device(text(about.get("gpu_description")))
    if count is None or device:
        yield from reading.type(
            named, specs.get("vcpus"), specs.get("memory_gib"),
            arch="arm64" if device in _ARM else "x86_64",
            accelerator=device if count else None, count=count, device_gib=memory,
            disk_gb=specs.get("storage_gib"), disk_kind="ssd", family=named.rpartition("_")[0],
        )  # fmt: skip
    cents = number(about.get("price_cents_per_hour"), 1e6)
    for each in entries(told.get("regions_with_capacity_available")):
        region = fields(each).get("name")
        if only is None or region in only:
            yield from reading.price(named, region, cents / _CENTS if cents else None)


def _device(said: str) -> tuple[str | None, float | None]:
    """`H100 (80 GB SXM5)` as device and GiB of one; the figure is of one device also where there are eight."""
    found = re.fullmatch(r"(?:NVIDIA )?(?:Tesla )?([^()]{1,40}?) ?\((\d{1,4}) GB(?: [^()]*)?\)", said)
    return (found[1], float(found[2])) if found else (None, None)
