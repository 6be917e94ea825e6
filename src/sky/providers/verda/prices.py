"""What Verda (once DataCrunch) sells and where it has capacity right now, from its API with the user's credentials.

Found by the manifest. A token is asked for first; it is used for this refresh and kept nowhere.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sky.core.errors import CredentialsRejected, ProviderDown
from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, number, text, wanted
from sky.providers.web import shown

_API = "https://api.datacrunch.io"
_FILE = "~/.verda/config.json"


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types with capacity, by location. See `core.ports.PriceSource`."""
    base, only = f"{endpoint(ask, _API)}/v1", wanted(ask)
    headers = {"Authorization": f"Bearer {_token(web, f'{base}/oauth2/token')}"}
    reading = Reading("verda", f"{base}/instance-types", ask, Quality.LIVE)
    with web.get(reading.url, headers=headers) as reply:
        types = reply.json()
    if not isinstance(types, list):
        raise reading.malformed("list of types")
    stock = {
        market: _stock(web, f"{base}/instance-availability?is_spot={spot}", headers)
        for market, spot in ((Market.ON_DEMAND, "false"), (Market.SPOT, "true"))
    }
    for told in map(fields, types):
        yield from _shape(reading, told)
        for market, locations in stock.items():
            for location in locations.get(text(told.get("instance_type")), []):
                if only is None or location in only:
                    yield from _price(reading, told, location, market)
    yield from reading.end()


def _token(web: Web, url: str) -> str:
    name, secret = _credentials()
    body = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
    with web.get(url, headers={"Content-Type": "application/json"}, body=json.dumps(body).encode()) as reply:
        token = text(fields(reply.json()).get("access_token"))
    if not re.fullmatch(r"[!-~]+", token):
        raise CredentialsRejected("verda: the endpoint that gives tokens answered without one")
    return token


def _credentials() -> tuple[str, str]:
    """The user's id and secret. Raises CredentialsRejected saying where they were looked for."""
    pair = os.environ.get("VERDA_CLIENT_ID", ""), os.environ.get("VERDA_CLIENT_SECRET", "")
    if all(pair):
        return pair
    try:
        told = fields(json.loads(Path(_FILE).expanduser().read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        told = {}
    pair = text(told.get("client_id")), text(told.get("client_secret"))
    if not all(pair):
        raise CredentialsRejected(
            "verda: its prices need your credentials, which were looked for in the variables VERDA_CLIENT_ID and "
            f"VERDA_CLIENT_SECRET, and as client_id and client_secret in the file {_FILE}"
        )
    return pair


def _stock(web: Web, url: str, headers: Mapping[str, str]) -> dict[str, list[str]]:
    """Locations by type."""
    with web.get(url, headers=headers) as reply:
        told = reply.json()
    if not isinstance(told, list):
        raise ProviderDown(f"{shown(url)}: no list of locations in it; the document may have changed its shape")
    found: dict[str, list[str]] = {}
    for location in map(fields, told):
        for named in map(text, entries(location.get("availabilities"))):
            found.setdefault(named, []).append(text(location.get("location_code")))
    return found


def _shape(reading: Reading, told: Mapping[str, object]) -> list[Row]:
    count, total = number(fields(told.get("gpu")).get("number_of_gpus"), 64), fields(told.get("gpu_memory"))
    # The memory is that of all devices together: 640 for eight of 80.
    memory = number(total.get("size_in_gigabytes"), 1e5)
    return reading.type(
        told.get("instance_type"), fields(told.get("cpu")).get("number_of_cores"),
        fields(told.get("memory")).get("size_in_gigabytes"),
        accelerator=_device(told) if count else None, count=count,
        device_gib=memory / count if memory and count else None,
        family=text(told.get("instance_type")).partition(".")[0].lstrip("0123456789"),
    )  # fmt: skip


def _device(told: Mapping[str, object]) -> str | None:
    """`8x H100 SXM5 80GB` as `H100 SXM5`."""
    said = text(fields(told.get("gpu")).get("description"))
    found = re.fullmatch(r"(?:\d{1,2}x )?(?:NVIDIA )?(?:Tesla )?(.{1,40}?)(?: \d{1,4}GB)?", said)
    return found[1] if found else text(told.get("model")) or None


def _price(reading: Reading, told: Mapping[str, object], location: str, market: Market) -> list[Row]:
    price = told.get("price_per_hour")
    if market is Market.ON_DEMAND:
        return reading.price(told.get("instance_type"), location, price)
    spot = told.get("spot_price_per_hour", told.get("spot_price"))
    # A spot price that equals the other says that there is no such market.
    if spot is None or number(spot) == number(price):
        return []
    return reading.price(told.get("instance_type"), location, spot, market=market)
