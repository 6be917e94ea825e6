"""What Hyperbolic sells, from the catalog that its API makes, with the user's key.

Found by the manifest.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://api.dev-hyperbolic.xyz"


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Machines by region. See `core.ports.PriceSource`."""
    secret = key("hyperbolic", env=("HYPERBOLIC_API_KEY",), file="~/.hyperbolic/api_key")
    url = f"{endpoint(ask, _API)}/v2/skypilot/catalog"
    reading = Reading("hyperbolic", url, ask, Quality.LIVE)
    with web.get(url, headers={"Authorization": f"Bearer {secret}"}) as reply:
        machines = fields(reply.json()).get("vms")
        if not isinstance(machines, list):
            raise reading.malformed("list of machines")
        only = wanted(ask)
        for machine in map(fields, entries(machines)):
            if only is None or machine.get("Region") in only:
                yield from _machine(reading, machine)
        yield from reading.end(reply)


def _machine(reading: Reading, machine: Mapping[str, object]) -> Iterator[Row]:
    named, count = machine.get("InstanceType"), number(machine.get("AcceleratorCount"), 64)
    yield from reading.type(
        named, machine.get("vCPUs"), machine.get("MemoryGiB"),
        accelerator=machine.get("AcceleratorName") if count else None, count=count,
        disk_gb=machine.get("StorageGiB"), disk_kind="ssd", family=text(machine.get("AcceleratorName")),
    )  # fmt: skip
    yield from reading.price(named, machine.get("Region"), machine.get("Price"))
    if machine.get("SpotPrice") not in (None, "", 0):
        yield from reading.price(named, machine.get("Region"), machine.get("SpotPrice"), market=Market.SPOT)
