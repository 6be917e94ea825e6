"""What Hetzner Cloud sells: server types by location, net prices, from its API with the user's token.

Found by the manifest. Prices are in EUR and converted.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted
from sky.providers.exchange import usd_per

_API = "https://api.hetzner.cloud"
_MOST_PAGES = 50
_ARCHITECTURES = {"x86": "x86_64", "arm": "arm64"}


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Server types by location. See `core.ports.PriceSource`."""
    secret = key(
        "hetzner",
        env=("HCLOUD_TOKEN",),
        file="~/.config/hcloud/cli.toml",
        pattern=r"^\s*token\s*=\s*[\"']([^\"'\s]+)",
    )
    headers = {"Authorization": f"Bearer {secret}"}
    base, only = endpoint(ask, _API), wanted(ask)
    with web.get(f"{base}/v1/pricing", headers=headers) as reply:
        currency = text(fields(fields(reply.json()).get("pricing")).get("currency"))
    usd = usd_per(web, ask, currency)
    reading = Reading("hetzner", f"{base}/v1/server_types", ask, Quality.LIVE, usd=usd)
    for told in _server_types(web, reading, headers):
        if told.get("deprecation") is None and told.get("deprecated") is not True:
            yield from _server_type(reading, told, only)
    yield from reading.end()


def _server_types(web: Web, reading: Reading, headers: Mapping[str, str]) -> Iterator[Mapping[str, object]]:
    for page in range(1, _MOST_PAGES + 1):
        with web.get(f"{reading.url}?per_page=50&page={page}", headers=headers) as reply:
            told = fields(reply.json())
        if not isinstance(told.get("server_types"), list):
            raise reading.malformed("list of server types")
        yield from map(fields, entries(told["server_types"]))
        if number(fields(fields(told.get("meta")).get("pagination")).get("next_page")) is None:
            return
    raise reading.malformed("end of its pages")


def _server_type(reading: Reading, told: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    named = text(told.get("name"))
    yield from reading.type(
        named, told.get("cores"), told.get("memory"),
        arch=_ARCHITECTURES.get(text(told.get("architecture")), "x86_64"),
        disk_gb=told.get("disk"), disk_kind="ssd", family=named.rstrip("0123456789"),
        features=frozenset(["shared_core"]) if told.get("cpu_type") == "shared" else frozenset(),
    )  # fmt: skip
    for price in map(fields, entries(told.get("prices"))):
        if only is None or price.get("location") in only:
            yield from reading.price(named, price.get("location"), fields(price.get("price_hourly")).get("net"))
