"""What Cudo Compute has free now, by data centre, from its API with the user's key.

Found by the manifest. Machines are cut to measure: each is told in a few usual sizes that fit what is free and the
proportions that are allowed. Sizes are named as `h100-sxm_1x8v32gb`: type, devices, vCPUs, GiB. Disk and address, which
are billed apart, are not in the price.
"""

from collections.abc import Iterator, Mapping

from sky.core.model.catalog import Quality, Row
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import Reading, endpoint, entries, fields, key, number, text, wanted

_API = "https://rest.compute.cudo.org"
_DEVICES = (1, 2, 4, 8)
_CPUS_OF_A_DEVICE = (4, 8, 12, 24)
_CPUS = (2, 4, 8, 16, 32, 64)
_GIB_OF_A_CPU = (2, 4, 8)

Size = tuple[int, int, int]


def rows(web: Web, ask: PriceAsk) -> Iterator[Row]:
    """Sizes that can be had now. See `core.ports.PriceSource`."""
    secret = key("cudo", env=("CUDO_API_KEY",), file="~/.config/cudo/cudo.yml", pattern=r"^\s*key:\s*[\"']?([^\s\"']+)")
    url = f"{endpoint(ask, _API)}/v1/vms/machine-types"
    reading = Reading("cudo", url, ask, Quality.LIVE)
    with web.get(url, headers={"Authorization": f"Bearer {secret}"}) as reply:
        types = fields(reply.json()).get("machineTypes")
        if not isinstance(types, list):
            raise reading.malformed("list of machine types")
        only = wanted(ask)
        for told in map(fields, entries(types)):
            if only is None or told.get("dataCenterId") in only:
                yield from _type(reading, told)
        yield from reading.end(reply)


def _type(reading: Reading, told: Mapping[str, object]) -> Iterator[Row]:
    named, device = text(told.get("machineType")), text(told.get("gpuModel"))
    per_cpu, per_gib = _rate(told, "vcpuPriceHr"), _rate(told, "memoryGibPriceHr")
    per_device = _rate(told, "gpuPriceHr") if device else 0.0
    if not named or per_cpu is None or per_gib is None or per_device is None:
        reading.skip(named)
        return
    for devices, cpus, gib in _sizes(bool(device)):
        if _fits(told, (devices, cpus, gib)):
            size = f"{named}_{devices}x{cpus}v{gib}gb"
            price = devices * per_device + cpus * per_cpu + gib * per_gib
            yield from reading.type(size, cpus, gib, accelerator=device or None, count=devices or None, family=named)
            yield from reading.price(size, told.get("dataCenterId"), price)


def _rate(told: Mapping[str, object], field: str) -> float | None:
    return number(fields(told.get(field)).get("value"), 1000)


def _sizes(with_devices: bool) -> Iterator[Size]:
    """The usual sizes as (devices, vCPUs, GiB)."""
    for devices in _DEVICES if with_devices else (0,):
        for cpus in (devices * each for each in _CPUS_OF_A_DEVICE) if with_devices else _CPUS:
            for gib in (cpus * each for each in _GIB_OF_A_CPU):
                yield devices, cpus, gib


def _fits(told: Mapping[str, object], size: Size) -> bool:
    """Whether so much is free and in proportion; a bound that is not told does not bind, one that is 0 is none."""
    devices, cpus, gib = size

    def least(field: str) -> float:
        return number(told.get(field)) or 0.0

    def most(field: str, unless: float) -> float:
        return number(told.get(field)) or unless

    per_device = cpus / devices if devices else 0.0
    return (
        devices <= most("maxGpuFree", 0.0)
        and least("minVcpu") <= cpus <= most("maxVcpuFree", 0.0)
        and least("minMemoryGib") <= gib <= most("maxMemoryGibFree", 0.0)
        and least("minVcpuPerMemoryGib") <= cpus / gib <= most("maxVcpuPerMemoryGib", 1e9)
        and (not devices or least("minVcpuPerGpu") <= per_device <= most("maxVcpuPerGpu", 1e9))
    )
