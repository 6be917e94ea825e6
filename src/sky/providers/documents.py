"""Reading what a price source was sent, none of which is to be trusted: fields with bounds, rows with sense.

Used by the `prices.py` of every place. A row whose fields make no sense is left out and counted; a document of which
nothing can be read, or that is senseless for the greater part, fails as a whole, so that an endpoint that changed its
shape keeps the rows of the last time.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sky.core.errors import CredentialsRejected, ProviderDown, RequestInvalid
from sky.core.model.catalog import Egress, InstanceType, Market, Place, Price, Quality, Row, Source, Unchanged
from sky.core.ports import PriceAsk, Reply, Web
from sky.providers.web import shown

#: A name that a place gives to a type or a region: no control characters, no novels.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/:+$@()-]{0,119}")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{0,15})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_HIGHEST_PRICE = 10_000.0
_MOST_CPUS = 4096.0
_MOST_MEMORY_GIB = 65_536.0
_MOST_DEVICES = 256.0
_MOST_DEVICE_GIB = 2048.0


def number(value: object, most: float = math.inf) -> float | None:
    """A number above 0 and up to `most`, also where it is sent as text; None for anything else."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A whole number of a thousand digits is legal JSON and no float.
    return float(value) if 0 < value <= min(most, 1e15) else None


def name(value: object) -> str | None:
    """A name as places give them to types, regions and devices; None for anything else."""
    # Interned: a list names a few thousand types and regions some hundred thousand times.
    return sys.intern(value) if isinstance(value, str) and _NAME.fullmatch(value) else None


def text(value: object) -> str:
    """A text of bounded length, empty for anything else."""
    return value if isinstance(value, str) and len(value) <= 2000 else ""


def fields(value: object) -> Mapping[str, object]:
    """An object of JSON, empty for anything else."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[object]:
    """A list of JSON, empty for anything else."""
    return value if isinstance(value, list) else []


def endpoint(ask: PriceAsk, public: str) -> str:
    """Where to ask: the public endpoint, or the one that the user configured; without a slash at its end."""
    told = ask.config.get("endpoint", public)
    if not isinstance(told, str) or not told.startswith(("https://", "http://")):
        raise RequestInvalid(f"endpoint: found {str(told)[:80]!r}; allowed: the beginning of an https URL")
    return told.rstrip("/")


def wanted(ask: PriceAsk) -> frozenset[str] | None:
    """The regions that the user restricted the refresh to (`regions` in the cloud's configuration), None for all."""
    told = ask.config.get("regions")
    if told is None:
        return None
    if not isinstance(told, list | tuple) or not all(isinstance(each, str) for each in told):
        raise RequestInvalid(f"regions: found {str(told)[:80]!r}; allowed: a list of names of regions")
    return frozenset(told)


def same_origin(url: str, other: str) -> bool:
    """Whether a link stays with the server that sent it; a page must not send the next question elsewhere."""
    ports = {"https": 443, "http": 80}
    try:
        one, two = urlsplit(url), urlsplit(other)
        return (one.scheme, one.hostname, one.port or ports.get(one.scheme)) == (
            two.scheme,
            two.hostname,
            two.port or ports.get(two.scheme),
        )
    except ValueError:
        return False


def key(cloud: str, *, env: tuple[str, ...] = (), file: str = "", pattern: str = r"\A\s*(\S+)\s*\Z") -> str:
    """The user's key: the first of the variables that is set, or what the file holds.

    `pattern` finds it in the file as its first group. Raises CredentialsRejected saying what is missing; never the key.
    """
    for variable in env:
        if found := os.environ.get(variable, "").strip():
            return _printable(found, cloud, variable)
    try:
        content = Path(file).expanduser().read_text(encoding="utf-8") if file else ""
    except (OSError, UnicodeDecodeError, RuntimeError):
        content = ""
    match = re.search(pattern, content, re.MULTILINE)
    if match is None:
        places = [f"the variable {each}" for each in env] + ([f"the file {file}"] if file else [])
        raise CredentialsRejected(f"{cloud}: its prices need your key, which was looked for in {' and '.join(places)}")
    return _printable(match[1], cloud, file)


def _printable(found: str, cloud: str, where: str) -> str:
    if not all("!" <= char <= "~" for char in found) or len(found) > 4096:
        raise CredentialsRejected(f"{cloud}: what {where} holds is not a key; check it for blanks and line ends")
    return found


def ask_for(
    web: Web, ask: PriceAsk, url: str, *, headers: Mapping[str, str] | None = None, at_most: int = 64 * 2**20
) -> Reply:
    """GET a document that may be known from last time."""
    return web.get(url, headers=headers, known=ask.known.get(url), at_most=at_most)


def _device(said: str | None, gib: float | None) -> str | None:
    """A device without what is told beside its name: its memory, which has a column, and how an A100 is mounted."""
    if said is None:
        return None
    bare = re.sub(r" ?\(compute mode\)$", "", said)
    bare = re.sub(r"^(A100.*?)[ _-](?:SXM4?|PCIE)$", r"\1", bare, flags=re.IGNORECASE)
    if gib is not None:
        bare = re.sub(rf"[ _-]?{gib:g} ?GB?$", "", bare, flags=re.IGNORECASE)
    return bare or said


class Reading:
    """One document on its way into rows.

    Every method returns the rows it made, none where the fields make no sense; `end` closes the document with its
    `Source`. `usd` is what one unit of the document's currency is worth in USD. A type and a place are made once, a
    price once for each (type, region, zone, market): the first counts.
    """

    def __init__(self, cloud: str, url: str, ask: PriceAsk, quality: Quality, *, usd: float = 1.0) -> None:
        self.cloud = cloud
        self.url = url
        self.made = 0
        self.left_out = 0
        self._types = 0
        self._types_left_out = 0
        self._first_left_out = ""
        self._all = wanted(ask) is None
        self._now = ask.now
        # A price that was converted is computed from published figures, whatever it was before.
        self._quality = quality if usd == 1.0 else Quality.DERIVED
        self._usd = usd
        self._seen: set[tuple[object, ...]] = set()

    def type(
        self,
        type_name: object,
        cpus: object,
        memory_gib: object,
        *,
        arch: str = "x86_64",
        accelerator: object = None,
        count: object = None,
        device_gib: object = None,
        disk_gb: object = None,
        disk_kind: str | None = None,
        network_gbps: object = None,
        family: str = "",
        features: frozenset[str] = frozenset(),
    ) -> list[Row]:
        """The shape of a machine; memory of the machine and of one device in GiB, `disk_gb` of all disks inside."""
        named, vcpus, memory = name(type_name), number(cpus, _MOST_CPUS), number(memory_gib, _MOST_MEMORY_GIB)
        device, devices = _device(name(accelerator), number(device_gib)), number(count, _MOST_DEVICES)
        if named is None or vcpus is None or memory is None or (device is None) != (devices is None):
            self._types_left_out += 1
            self._note(type_name)
            return []
        if not self._first(("type", named)):
            return []
        self._types += 1
        disk = number(disk_gb, 1e7)
        return [
            InstanceType(
                self.cloud, named, vcpus, memory, arch, device, devices or 0.0,
                number(device_gib, _MOST_DEVICE_GIB) if device else None,
                disk or 0.0, disk_kind if disk else None, number(network_gbps, 1e6), family, features,
            )
        ]  # fmt: skip

    def price(
        self,
        type_name: object,
        region: object,
        price: object,
        *,
        zone: object = None,
        market: Market = Market.ON_DEMAND,
        quality: Quality | None = None,
        interruption: float | None = None,
    ) -> list[Row]:
        """What a type costs in a place per hour, with the place."""
        named, where, within = name(type_name), name(region), name(zone)
        cost = number(price, _HIGHEST_PRICE)
        if named is None or where is None or cost is None or (zone is not None and within is None):
            return self.skip(type_name)
        rows = self.place(where, within)
        if not self._first((named, where, within, market)):
            return rows
        self.made += 1
        row = Price(
            self.cloud, named, where, within, market, cost * self._usd, quality or self._quality, self._now, self.url,
            interruption=interruption,
        )  # fmt: skip
        return [*rows, row]

    def place(self, region: object, zone: object = None, *, country: object = None) -> list[Row]:
        """A region, or a zone of one, when it is met first."""
        where, within = name(region), name(zone)
        if where is None or not self._first(("place", where, within)):
            return []
        land = country if isinstance(country, str) and re.fullmatch(r"[A-Z]{2}", country) else None
        return [Place(self.cloud, where, within, None, land)]

    def egress(self, region: object, to: object, usd_per_gb: object) -> list[Row]:
        """What moving data out of a region costs; `to` in the words of `core.model.catalog.Egress`."""
        where, there, cost = name(region), name(to), number(usd_per_gb, 10)
        if where is None or there is None or cost is None:
            return self.skip(region)
        if not self._first(("egress", where, there)):
            return []
        self.made += 1
        return [Egress(self.cloud, where, there, cost, self._quality, self.url)]

    def skip(self, what: object = None) -> list[Row]:
        """Count a row that cannot be believed."""
        self.left_out += 1
        self._note(what)
        return []

    def end(self, reply: Reply | None = None) -> Iterator[Row]:
        """The document's Source. Raises ProviderDown where less than half of it made sense, or nothing was in it."""
        if self.left_out > self.made or self._types_left_out > self._types or (self.made == 0 and self._all):
            about = f", the first about {self._first_left_out}" if self._first_left_out else ""
            raise ProviderDown(
                f"{shown(self.url)}: {self.made} prices and {self._types} types can be read, "
                f"{self.left_out} and {self._types_left_out} cannot{about}; "
                f"the document may have changed its shape, and the prices of {self.cloud} stay as they were"
            )
        etag, modified = (reply.etag, reply.last_modified) if reply is not None else (None, None)
        yield Source(self.cloud, self.url, self._now, self.made, etag, modified)

    def unchanged(self, region: str | None = None) -> Row:
        """The server said that the document is the one known."""
        return Unchanged(self.cloud, self.url, region)

    def malformed(self, wanted: str) -> ProviderDown:
        """The failure of a document that lacks what it is read for."""
        return ProviderDown(f"{shown(self.url)}: no {wanted} in it; the document may have changed its shape")

    def _note(self, what: object) -> None:
        if not self._first_left_out:
            self._first_left_out = repr(what)[:60]

    def _first(self, row: tuple[object, ...]) -> bool:
        if row in self._seen:
            return False
        self._seen.add(row)
        return True
