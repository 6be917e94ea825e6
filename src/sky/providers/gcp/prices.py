"""What Google Cloud sells: machine types by region from a public table, attached GPUs from the official price list.

Found by the manifest. The table needs no account; the official list needs an API key (`api_key` under
`catalog.sources.gcp` in the configuration, or the variable GCP_API_KEY), and without one attached GPUs keep the prices
that are known of them.
"""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from sky.core.model.catalog import Market, Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, ask_for, endpoint, entries, fields, number, text, wanted

_TABLE = "https://gcloud-compute.com"
_BILLING = "https://cloudbilling.googleapis.com"
_COMPUTE_ENGINE = "6F81-5844-456A"
_MOST_PAGES = 200
_NEEDED = ("name", "region", "hour", "hourSpot", "vCpus", "memoryGB")
_REGION = re.compile(r"[a-z]+-[a-z]+\d{1,2}")
#: Types whose name tells the device: pattern, device, its memory in GiB, how many (None: the number in the name).
_DEVICES: tuple[tuple[str, str, float, int | None], ...] = (
    (r"a2-highgpu-(\d+)g", "A100", 40.0, None),
    (r"a2-megagpu-(\d+)g", "A100", 40.0, None),
    (r"a2-ultragpu-(\d+)g", "A100-80GB", 80.0, None),
    (r"a3-(?:high|edge)gpu-(\d+)g", "H100", 80.0, None),
    (r"a3-megagpu-(\d+)g", "H100-MEGA", 80.0, None),
    (r"a3-ultragpu-(\d+)g", "H200", 141.0, None),
    (r"a4-highgpu-(\d+)g", "B200", 180.0, None),
    (r"a4x-highgpu-(\d+)g", "GB200", 186.0, None),
    (r"g2-standard-(?:4|8|12|16|32)", "L4", 24.0, 1),
    (r"g2-standard-24", "L4", 24.0, 2),
    (r"g2-standard-48", "L4", 24.0, 4),
    (r"g2-standard-96", "L4", 24.0, 8),
    (r"g4-standard-48", "RTXPRO6000", 96.0, 1),
    (r"g4-standard-96", "RTXPRO6000", 96.0, 2),
    (r"g4-standard-192", "RTXPRO6000", 96.0, 4),
    (r"g4-standard-384", "RTXPRO6000", 96.0, 8),
)
_WITH_DEVICES = re.compile(r"(?:a\d+x?|g[2-9]\d*|ct\d\w*)-")
#: Names in the table that are a way to order a type and no type of their own.
_NO_TYPE = re.compile(r".*-(?:tier1|nolssd)")
#: What can be attached to N1: the official name, ours, GiB, and the most vCPUs that go with so many.
_ATTACHED: tuple[tuple[str, str, float, Mapping[int, int]], ...] = (
    ("Tesla T4", "T4", 16.0, {1: 48, 2: 48, 4: 96}),
    ("Tesla P4", "P4", 8.0, {1: 24, 2: 48, 4: 96}),
    ("Tesla V100", "V100", 16.0, {1: 12, 2: 24, 4: 48, 8: 96}),
    ("Tesla P100", "P100", 16.0, {1: 16, 2: 32, 4: 96}),
)
_HOST = re.compile(r"n1-(?:standard|highmem)-\d+")

Hosts = dict[str, tuple[float, float]]
Costs = dict[tuple[str, str, Market], float]


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Types, places and prices of all regions. See `core.ports.PriceSource`."""
    url = f"{endpoint(ask, _TABLE)}/machine-types-regions.csv"
    reading = Reading("gcp", url, ask, Quality.LIST)
    hosts: Hosts = {}
    costs: Costs = {}
    key = text(ask.config.get("api_key")) or os.environ.get("GCP_API_KEY", "").strip()
    # Attached GPUs are priced with their hosts: the table is read whole whenever both can be known.
    with web.get(url) if key else ask_for(web, ask, url) as reply:
        if reply.unchanged:
            yield reading.unchanged()
            return
        only = wanted(ask)
        for line in _lines(csv.reader(reply.lines()), reading):
            region = line["region"]
            if _NO_TYPE.fullmatch(line["name"]) or (only is not None and region not in only):
                continue
            if not _REGION.fullmatch(region):
                reading.skip(region)
                continue
            yield from _machine(reading, line)
            _remember_host(line, hosts, costs)
        yield from reading.end(reply)
    if key:
        yield from _attached(web, ask, key, hosts, costs)


def _lines(table: Iterator[list[str]], reading: Reading) -> Iterator[Mapping[str, str]]:
    try:
        header = next(table, [])
        if not set(_NEEDED) <= set(header):
            raise reading.malformed(f"table with the columns {', '.join(_NEEDED)}")
        for line in table:
            if len(line) == len(header):
                yield dict(zip(header, line, strict=True))
            elif line:
                reading.skip(line[0])
    except csv.Error:
        raise reading.malformed("readable table") from None


def _machine(reading: Reading, line: Mapping[str, str]) -> Iterator[Row]:
    named, region = line["name"], line["region"]
    device, memory, count = _device(named)
    # A type with devices that are not known here keeps the shape that is known of it.
    if device is not None or not _WITH_DEVICES.match(named):
        yield from reading.type(
            named,
            line["vCpus"],
            line["memoryGB"],
            arch="arm64" if line.get("arm") == "1" else "x86_64",
            accelerator=device,
            count=count,
            device_gib=memory,
            network_gbps=line.get("bandwidth"),
            family=named.partition("-")[0],
            features=frozenset(["shared_core"]) if line.get("sharedCpu") == "1" else frozenset(),
        )
    yield from reading.place(region, country=line.get("regionLocationCountryCode"))
    # Some types are sold only as spot or only by reservation; those cells are empty or 0.
    if number(line["hour"]) is not None or number(line["hourSpot"]) is None:
        yield from reading.price(named, region, line["hour"])
    if number(line["hourSpot"]) is not None:
        yield from reading.price(named, region, line["hourSpot"], market=Market.SPOT)
    for zone in re.findall(rf"\b{re.escape(region)}-[a-z]\b", line.get("zones", "")):
        yield from reading.place(region, zone)


def _device(named: str) -> tuple[str | None, float | None, float | None]:
    for pattern, device, memory, count in _DEVICES:
        if found := re.fullmatch(pattern, named):
            return device, memory, float(count if count is not None else found[1])
    return None, None, None


def _remember_host(line: Mapping[str, str], hosts: Hosts, costs: Costs) -> None:
    named, cpus, memory = line["name"], number(line["vCpus"]), number(line["memoryGB"])
    if not _HOST.fullmatch(named) or cpus is None or memory is None:
        return
    hosts[named] = (cpus, memory)
    for market, column in ((Market.ON_DEMAND, "hour"), (Market.SPOT, "hourSpot")):
        if (cost := number(line[column])) is not None:
            costs[named, line["region"], market] = cost


def _attached(web: Web, ask: PriceAsk, key: str, hosts: Hosts, costs: Costs) -> Iterator[Row]:
    """Types such as `n1-standard-8+T4:1`, for every host that may carry so many, at the price of both."""
    base = endpoint(ask, _BILLING)
    reading = Reading("gcp", f"{base}/v1/services/{_COMPUTE_ENGINE}/skus", ask, Quality.DERIVED)
    devices: Costs = {}
    for sku in _skus(web, reading, key):
        _remember_device(sku, devices)
    for _, device, memory, most in _ATTACHED:
        for count, cpus_at_most in most.items():
            for host, (cpus, host_memory) in hosts.items():
                if cpus <= cpus_at_most:
                    named = f"{host}+{device}:{count}"
                    made = reading.type(
                        named, cpus, host_memory, accelerator=device, count=count, device_gib=memory, family="n1"
                    )
                    priced = _both(reading, named, host, device, count, costs, devices)
                    if priced:
                        yield from [*made, *priced]
    yield from reading.end()


def _both(reading: Reading, named: str, host: str, device: str, count: int, costs: Costs, devices: Costs) -> list[Row]:
    made: list[Row] = []
    for (kind, region, market), each in devices.items():
        if kind == device and (alone := costs.get((host, region, market))) is not None:
            made += reading.price(named, region, alone + count * each, market=market)
    return made


def _skus(web: Web, reading: Reading, key: str) -> Iterator[Mapping[str, object]]:
    token = ""
    for _ in range(_MOST_PAGES):
        with web.get(f"{reading.url}?pageSize=5000&pageToken={quote(token)}", headers={"X-Goog-Api-Key": key}) as reply:
            page = fields(reply.json())
        if not isinstance(page.get("skus"), list):
            raise reading.malformed("list of SKUs")
        yield from map(fields, entries(page["skus"]))
        token = text(page.get("nextPageToken"))
        if not token:
            return
    raise reading.malformed("end of its pages")


def _remember_device(sku: Mapping[str, object], devices: Costs) -> None:
    """Keep what one GPU of one kind costs per hour by region; commitments and reservations are other SKUs."""
    category, said = fields(sku.get("category")), text(sku.get("description"))
    markets = {"OnDemand": Market.ON_DEMAND, "Preemptible": Market.SPOT}
    market = markets.get(text(category.get("usageType")))
    found = next((device for official, device, _, _ in _ATTACHED if f"{official} GPU" in said), None)
    if market is None or found is None or category.get("resourceGroup") != "GPU" or "Commitment" in said:
        return
    if (cost := _hourly(sku)) is not None:
        for region in map(text, entries(sku.get("serviceRegions"))):
            devices[found, region, market] = cost


def _hourly(sku: Mapping[str, object]) -> float | None:
    """USD per hour of the last tier; units and nano-units are sent apart, the units as text."""
    pricing = entries(sku.get("pricingInfo"))
    expression = fields(fields(pricing[0] if pricing else None).get("pricingExpression"))
    rates = entries(expression.get("tieredRates"))
    price = fields(fields(rates[-1] if rates else None).get("unitPrice"))
    if expression.get("usageUnit") != "h" or price.get("currencyCode") != "USD":
        return None
    return number((number(price.get("units")) or 0.0) + (number(price.get("nanos")) or 0.0) / 1e9)
