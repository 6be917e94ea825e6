"""What AWS sells, from its public price lists: on demand by region, spot by region with how often it is reclaimed.

Found by the manifest. The list of a region is some hundred megabytes of CSV and is read as a stream.
"""

import contextlib
import csv
import re
from collections.abc import Iterator, Mapping

from sky.core.errors import ProviderFailure
from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.aws.transfers import egress
from sky.providers.documents import Reading, ask_for, endpoint, entries, fields, number, text, wanted

_LISTS = "https://pricing.us-east-1.amazonaws.com"
_SPOT = "https://website.spot.ec2.aws.a2z.com/spot.json"
_ADVISOR = "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json"
_LARGEST_LIST = 2 * 2**30
#: A region of the partition `aws`: neither a local zone, nor one of those for governments or China, which need accounts
#: of their own.
_REGION = re.compile(r"(?!cn-)[a-z]{2}-[a-z]+-\d{1,2}")
#: What a row must say to be the price of a plain Linux machine; other rows of the same type cost more or less.
_PLAIN = {
    "TermType": "OnDemand",
    "Unit": "Hrs",
    "Currency": "USD",
    "Location Type": "AWS Region",
    "Tenancy": "Shared",
    "Operating System": "Linux",
    "Pre Installed S/W": "NA",
    "CapacityStatus": "Used",
    "operation": "RunInstances",
}
_NEEDED = ("Instance Type", "PricePerUnit", "vCPU", "Memory", *_PLAIN)
#: Families whose device and its memory in GiB are known; the list says how many, and never what.
_DEVICES = {
    "p2": ("K80", 12.0), "p3": ("V100", 16.0), "p3dn": ("V100-32GB", 32.0), "p4d": ("A100", 40.0),
    "p4de": ("A100-80GB", 80.0), "p5": ("H100", 80.0), "p5e": ("H200", 141.0), "p5en": ("H200", 141.0),
    "g3": ("M60", 8.0), "g3s": ("M60", 8.0), "g4dn": ("T4", 16.0), "g5": ("A10G", 24.0), "g5g": ("T4g", 16.0),
    "g6": ("L4", 24.0), "gr6": ("L4", 24.0), "g6e": ("L40S", 48.0), "g7e": ("RTXPRO6000", 96.0),
    "p6-b200": ("B200", 180.0),
}  # fmt: skip
#: Families with devices of any kind: of those not above only the price is told, their shape comes from elsewhere.
_WITH_DEVICES = re.compile(r"(?:p\d|g\d|gr\d|inf|trn|dl|vt|f\d)")
#: How often a machine was reclaimed within a month, by bucket of the advisor (the middle of each; the last is open).
_RECLAIMED = (0.025, 0.075, 0.125, 0.175, 0.25)
_HOURS_OF_A_MONTH = 730


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """On-demand prices of every region, prices of transfers, then spot prices. See `core.ports.PriceSource`."""
    base = endpoint(ask, _LISTS)
    for region in _regions(web, f"{base}/offers/v1.0/aws/AmazonEC2/current/region_index.json", ask):
        yield from _on_demand(web, ask, f"{base}/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv", region)
    with contextlib.suppress(ProviderFailure):
        # Prices of machines are not thrown away because those of transfers cannot be had: their source shows its age.
        yield from list(egress(web, ask, base))
    replaced = "endpoint" in ask.config
    yield from _spot(
        web, ask, f"{base}/spot.json" if replaced else _SPOT, f"{base}/spot-advisor-data.json" if replaced else _ADVISOR
    )


def _regions(web: Web, url: str, ask: PriceAsk) -> list[str]:
    with web.get(url, at_most=4 * 2**20) as reply:
        found = [each for each in fields(fields(reply.json()).get("regions")) if _REGION.fullmatch(each)]
    if not found:
        raise Reading("aws", url, ask, Quality.LIST).malformed("list of regions")
    only = wanted(ask)
    return sorted(each for each in found if only is None or each in only)


def _on_demand(web: Web, ask: PriceAsk, url: str, region: str) -> Iterator[Row]:
    reading = Reading("aws", url, ask, Quality.LIST)
    with ask_for(web, ask, url, at_most=_LARGEST_LIST) as reply:
        if reply.unchanged:
            yield reading.unchanged(region)
            return
        for line in _plain(csv.reader(reply.lines()), reading):
            yield from _machine(reading, line)
            yield from reading.price(line["Instance Type"], region, line["PricePerUnit"])
        yield from reading.end(reply)


def _plain(table: Iterator[list[str]], reading: Reading) -> Iterator[Mapping[str, str]]:
    """Rows of plain machines by column, whatever the order of columns; what stands above the header is skipped."""
    try:
        header = next((line for _, line in zip(range(20), table, strict=False) if line and line[0] == "SKU"), None)
        if header is None or not set(_NEEDED) <= set(header):
            raise reading.malformed(f"table with the columns {', '.join(_NEEDED)}")
        # One row in some hundreds is plain: the others are told by position, and never become a mapping.
        told = [(header.index(column), value) for column, value in _PLAIN.items()]
        for line in table:
            if len(line) != len(header):
                if line:
                    reading.skip(line[0])
            elif all(line[at] == value for at, value in told):
                row = dict(zip(header, line, strict=True))
                # Capacity blocks are listed beside on-demand machines, at a price of nothing.
                if row.get("MarketOption", "OnDemand") in ("OnDemand", ""):
                    yield row
    except csv.Error:
        raise reading.malformed("readable table") from None


def _machine(reading: Reading, line: Mapping[str, str]) -> list[Row]:
    named = line["Instance Type"]
    family = named.partition(".")[0]
    device, memory = _DEVICES.get(family, (None, None))
    count = number(line.get("GPU"))
    if _WITH_DEVICES.match(family) and (device is None or count is None):
        return []
    disk, kind = _disks(line.get("Storage", ""))
    return reading.type(
        named,
        line["vCPU"],
        _gib(line["Memory"]),
        arch="arm64" if "Graviton" in line.get("Physical Processor", "") else "x86_64",
        accelerator=device,
        count=count if device else None,
        device_gib=memory,
        disk_gb=disk,
        disk_kind=kind,
        network_gbps=_gbps(line.get("Network Performance", "")),
        family=family,
        features=_features(named, family),
    )


def _features(named: str, family: str) -> frozenset[str]:
    words = {"metal"} if ".metal" in named else set()
    return frozenset(words | ({"burstable"} if re.match(r"t\d", family) else set()))


def _gib(said: str) -> float | None:
    """`1,952 GiB` as a number."""
    amount, _, unit = said.replace(",", "").partition(" ")
    return number(amount) if unit == "GiB" else None


def _disks(said: str) -> tuple[float, str | None]:
    """`4 x 900 NVMe SSD` as GB of all disks, and their kind."""
    found = re.match(r"(\d{1,3}) x ([\d,]{1,8})", said)
    if found is None:
        return 0.0, None
    kind = "nvme" if "NVMe" in said else "ssd" if "SSD" in said else "hdd"
    return float(found[1]) * float(found[2].replace(",", "") or "0"), kind


def _gbps(said: str) -> float | None:
    found = re.search(r"(\d{1,5}(?:\.\d)?) ?Gigabit", said)
    return float(found[1]) if found else None


def _spot(web: Web, ask: PriceAsk, url: str, advisor: str) -> Iterator[Row]:
    reading = Reading("aws", url, ask, Quality.LIVE)
    with ask_for(web, ask, url) as reply:
        if reply.unchanged:
            yield reading.unchanged()
            return
        regions = entries(fields(fields(reply.json()).get("config")).get("regions"))
        if not regions:
            raise reading.malformed("list of regions")
        reclaimed = _reclaimed(web, advisor)
        only = wanted(ask)
        for each in regions:
            region = text(fields(each).get("region"))
            if _REGION.fullmatch(region) and (only is None or region in only):
                yield from _spot_of(reading, region, fields(each), reclaimed)
        yield from reading.end(reply)


def _spot_of(
    reading: Reading, region: str, told: Mapping[str, object], reclaimed: Mapping[tuple[str, str], float]
) -> Iterator[Row]:
    for group in entries(told.get("instanceTypes")):
        for size in entries(fields(group).get("sizes")):
            named = text(fields(size).get("size"))
            for column in map(fields, entries(fields(size).get("valueColumns"))):
                price = fields(column.get("prices")).get("USD")
                # `N/A*` is how the feed says that a type has no spot market here.
                if column.get("name") == "linux" and not text(price).startswith("N/A"):
                    yield from reading.price(
                        named, region, price, market=Market.SPOT, interruption=reclaimed.get((region, named))
                    )


def _reclaimed(web: Web, url: str) -> dict[tuple[str, str], float]:
    """Chance of losing a spot machine within an hour by (region, type); empty where the advisor does not answer."""
    try:
        with web.get(url) as reply:
            told = fields(fields(reply.json()).get("spot_advisor"))
    except ProviderFailure:
        return {}
    found = {}
    for region, systems in told.items():
        for named, figures in fields(fields(systems).get("Linux")).items():
            bucket = fields(figures).get("r")
            if isinstance(bucket, int) and not isinstance(bucket, bool) and 0 <= bucket < len(_RECLAIMED):
                found[region, named] = 1 - (1 - _RECLAIMED[bucket]) ** (1 / _HOURS_OF_A_MONTH)
    return found
