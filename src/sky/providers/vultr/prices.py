"""What Vultr sells: plans of virtual machines, fractions of GPUs and bare metal, from its public API.

Found by the manifest. Needs no key.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, number, text, wanted

_API = "https://api.vultr.com"
_MOST_PAGES = 50
_HOURS_OF_A_MONTH = 730
_MIB_OF_A_GIB = 1024
#: GiB of one device. Plans tell the memory that comes with them, from which the count follows, also below one.
_DEVICE_GIB = {
    "A16": 16.0, "A40": 48.0, "A100": 80.0, "L40S": 48.0, "GH200": 96.0, "H100": 80.0, "H200": 141.0, "B200": 180.0,
    "MI300X": 192.0, "MI325X": 256.0, "MI355X": 288.0,
}  # fmt: skip


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Plans by region. See `core.ports.PriceSource`."""
    base, only = endpoint(ask, _API), wanted(ask)
    for path, kind in (("/v2/plans?type=all&per_page=500", "plans"), ("/v2/plans-metal?per_page=500", "plans_metal")):
        reading = Reading("vultr", f"{base}{path}", ask, Quality.LIVE)
        for plan in _plans(web, reading, kind):
            if not text(plan.get("type")).startswith("win"):
                yield from _plan(reading, plan, only)
        yield from reading.end()


def _plans(web: Web, reading: Reading, kind: str) -> Iterator[Mapping[str, object]]:
    cursor = ""
    for _ in range(_MOST_PAGES):
        with web.get(reading.url + (f"&cursor={quote(cursor)}" if cursor else "")) as reply:
            page = fields(reply.json())
        if not isinstance(page.get(kind), list):
            raise reading.malformed("list of plans")
        yield from map(fields, entries(page[kind]))
        cursor = text(fields(fields(page.get("meta")).get("links")).get("next"))
        if not cursor:
            return
    raise reading.malformed("end of its pages")


def _plan(reading: Reading, plan: Mapping[str, object], only: frozenset[str] | None) -> Iterator[Row]:
    named, memory = text(plan.get("id")), number(plan.get("ram"))
    metal = "cpu_count" in plan
    device, count, known = _device(plan, named)
    if not known:
        return  # a device whose memory is not known here: neither its count nor its share can be told
    locations = [each for each in entries(plan.get("locations")) if only is None or each in only]
    if not locations:
        return  # sold out everywhere
    disks = number(plan.get("disk_count"), 64) or 1.0
    yield from reading.type(
        named, plan.get("cpu_threads", plan.get("cpu_count")) if metal else plan.get("vcpu_count"),
        memory / _MIB_OF_A_GIB if memory else None,
        accelerator=device, count=count, device_gib=_DEVICE_GIB.get(device or ""),
        disk_gb=(number(plan.get("disk"), 1e6) or 0.0) * disks, family=named.partition("-")[0],
        features=frozenset(["metal"]) if metal else frozenset(),
    )  # fmt: skip
    hourly, monthly = number(plan.get("hourly_cost")), number(plan.get("monthly_cost"))
    quality = Quality.LIVE if hourly else Quality.DERIVED
    price = hourly or (monthly / _HOURS_OF_A_MONTH if monthly else None)
    for location in locations:
        yield from reading.price(named, location, price, quality=quality)


def _device(plan: Mapping[str, object], named: str) -> tuple[str | None, float | None, bool]:
    """Device, count, and whether that much is known; a plan without a device is known."""
    if said := text(plan.get("gpu_type")):
        device = said.partition("_")[2].upper() or said.upper()
        memory, one = number(plan.get("gpu_vram_gb"), 1e5), _DEVICE_GIB.get(device)
        return device, (memory / one if memory and one else None), bool(memory and one)
    # Bare metal tells its devices in the name only: vbm-256c-2048gb-8-mi300x-gpu, vbm-72c-480gb-gh200-gpu.
    if found := re.fullmatch(r"vbm-\d+c-\d+gb-(?:(\d{1,2})-)?([a-z0-9]+)-gpu", named):
        device = found[2].upper()
        return device, float(found[1] or 1), device in _DEVICE_GIB
    return None, None, not named.endswith("-gpu")
