"""What Seeweb sells: plans of its cloud servers by region, from its API with the user's key.

Found by the manifest. Prices are in EUR and converted.
"""

import re
from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted
from sky.providers.exchange import usd_per

_API = "https://api.seeweb.it"
_MIB_OF_A_GIB = 1024


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Plans by region. See `core.ports.PriceSource`."""
    secret = key("seeweb", file="~/.seeweb_cloud/seeweb_keys", pattern=r"^\s*api_key\s*=\s*(\S+)")
    url = f"{endpoint(ask, _API)}/ecs/v2/plans"
    reading = Reading("seeweb", url, ask, Quality.LIVE, usd=usd_per(web, ask, "EUR"))
    with web.get(url, headers={"X-APITOKEN": secret}) as reply:
        plans = fields(reply.json()).get("plans")
        if not isinstance(plans, list):
            raise reading.malformed("list of plans")
        only = wanted(ask)
        for plan in map(fields, entries(plans)):
            if plan.get("available") is not False and not text(plan.get("name")).lower().startswith("win"):
                yield from _plan(reading, plan, only)
        yield from reading.end(reply)


def _plan(reading: Reading, plan: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    named, memory, label = text(plan.get("name")), number(plan.get("ram"), 1e9), text(plan.get("gpu_label")).strip()
    count = number(plan.get("gpu"), 64)
    told = re.search(r"\b(\d{1,4}) ?GB\b", label, re.IGNORECASE)
    yield from reading.type(
        named, plan.get("cpu"), memory / _MIB_OF_A_GIB if memory else None,
        accelerator=label or None if count else None, count=count, device_gib=told[1] if told else None,
        disk_gb=plan.get("disk"), disk_kind="ssd", family=re.split(r"[0-9-]", named)[0],
    )  # fmt: skip
    for each in entries(plan.get("available_regions")):
        location = fields(each).get("location")
        if only is None or location in only:
            yield from reading.price(named, location, plan.get("hourly_price"))
