"""What Fluidstack sells: GPUs by region and count, from its API with the user's key.

Found by the manifest. Processors and memory are not told, so only prices and places are made; the shapes are those that
the catalog knows already. Types are named for device and count, `H100_SXM5_80GB::8`.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://platform.fluidstack.io"


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Prices by region. See `core.ports.PriceSource`."""
    secret = key("fluidstack", env=("FLUIDSTACK_API_KEY",), file="~/.fluidstack/api_key")
    url = f"{endpoint(ask, _API)}/list_available_configurations"
    reading = Reading("fluidstack", url, ask, Quality.LIVE)
    with web.get(url, headers={"api-key": secret}) as reply:
        plans = reply.json()
        if not isinstance(plans, list):
            raise reading.malformed("list of configurations")
        only = wanted(ask)
        for plan in map(fields, plans):
            yield from _plan(reading, plan, only)
        yield from reading.end(reply)


def _plan(reading: Reading, plan: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    device, each = text(plan.get("gpu_type")), number(plan.get("price_per_gpu_hr"), 1000)
    for count in (number(told, 64) for told in entries(plan.get("gpu_counts"))):
        for region in entries(plan.get("regions")):
            if only is None or region in only:
                price = each * count if each and count else None
                yield from reading.price(f"{device}::{count or 0:g}", region, price)
