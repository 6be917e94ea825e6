"""What Scaleway sells: server types of each zone, from its public product list.

Found by the manifest. Needs no key. Prices are in EUR and converted.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, fields, number, wanted
from sky.providers.exchange import usd_per

_API = "https://api.scaleway.com"
_ZONES = (
    "fr-par-1", "fr-par-2", "fr-par-3", "nl-ams-1", "nl-ams-2", "nl-ams-3", "pl-waw-1", "pl-waw-2", "pl-waw-3",
)  # fmt: skip
_MOST_PAGES = 20
_BYTES_OF_A_GIB = 2**30
_BYTES_OF_A_GB = 10**9
_ARCHITECTURES = {"x86_64": "x86_64", "arm64": "arm64"}


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types by zone. See `core.ports.PriceSource`."""
    base, only = endpoint(ask, _API), wanted(ask)
    usd = usd_per(web, ask, "EUR")
    for zone in _ZONES:
        region = zone.rpartition("-")[0]
        if only is None or region in only:
            yield from _zone(web, ask, f"{base}/instance/v1/zones/{zone}/products/servers", region, zone, usd)


def _zone(web: Web, ask: PriceAsk, url: str, region: str, zone: str, usd: float) -> Iterator[Row]:
    reading = Reading("scaleway", url, ask, Quality.LIVE, usd=usd)
    per_page = 100
    for page in range(1, _MOST_PAGES + 1):
        with web.get(f"{url}?per_page={per_page}&page={page}") as reply:
            servers = fields(reply.json()).get("servers")
        if not isinstance(servers, dict):
            raise reading.malformed("list of servers")
        for named, told in servers.items():
            if fields(told).get("end_of_service") is not True:
                yield from _server(reading, named, fields(told), region, zone)
        if len(servers) < per_page:
            break
    yield from reading.end()


def _server(reading: Reading, named: str, told: Mapping[str, object], region: str, zone: str) -> Iterator[Row]:
    memory, count, about = number(told.get("ram"), 1e15), number(told.get("gpu"), 64), fields(told.get("gpu_info"))
    device_bytes = number(about.get("gpu_memory"), 1e13)
    arch = _ARCHITECTURES.get(str(told.get("arch")))
    if arch is None or (count and not about.get("gpu_name")):
        # Without the name of its device the shape stays as it is known; the price is told all the same.
        yield from reading.price(named, region, told.get("hourly_price"), zone=zone)
        return
    disk = number(fields(told.get("volumes_constraint")).get("max_size"), 1e15)
    yield from reading.type(
        named, told.get("ncpus"), memory / _BYTES_OF_A_GIB if memory else None, arch=arch,
        accelerator=about.get("gpu_name") if count else None, count=count,
        device_gib=round(device_bytes / _BYTES_OF_A_GIB, 1) if device_bytes else None,
        disk_gb=disk / _BYTES_OF_A_GB if disk else None, family=named.partition("-")[0],
    )  # fmt: skip
    yield from reading.price(named, region, told.get("hourly_price"), zone=zone)
