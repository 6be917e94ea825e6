"""What a vendor's own descriptions say of its machines, as the package `moto` records them (of Amazon's EC2).

`store.catalog.seed` reads the two data files of that package (Apache-2.0, see `NOTICE`) when a wheel is built: the
specifications of every type, and which zone offers it. They hold no prices. The package is never imported.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sky.core.model.catalog import InstanceType, Place

#: Amazon's name and memory of one device (GiB, rounded down) to ours, where they differ.
_RENAMED = {("A100", 80): "A100-80GB", ("V100", 32): "V100-32GB", ("RTX PRO Server 6000", 96): "RTXPRO6000"}
_ALSO_RENAMED = {"RTX PRO 4500": "RTXPRO4500", "Qualcomm AI100": "AI100"}
#: GiB of one device where Amazon's record gives another figure: https://aws.amazon.com/ai/machine-learning/trainium/
_MEMORY = {"Trainium2": 96.0}
_GIB = 1024.0


def resources() -> Path | None:
    """Where the installed package keeps its data, None without it."""
    spec = find_spec("moto")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "ec2" / "resources" if places else None


def release() -> str | None:
    """The version of the installed package."""
    try:
        return version("moto")
    except PackageNotFoundError:
        return None


def types(folder: Path, cloud: str) -> Iterator[InstanceType]:
    """Every type, by name."""
    record: Mapping[str, Mapping[str, Any]] = _load(folder / "instance_types.json.gz")
    for name in sorted(record):
        yield _type(record[name], cloud)


def offerings(folder: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Region, zone and the types that it offers, by name."""
    for path in sorted((folder / "instance_type_offerings" / "availability-zone").glob("*.json.gz")):
        for zone, names in sorted(_by_location(path).items()):
            yield path.name.removesuffix(".json.gz"), zone, tuple(sorted(names))


def places(folder: Path, cloud: str) -> Iterator[Place]:
    """Regions and zones. A zone's id is known where exactly one id of the region offers just the same types."""
    for path in sorted((folder / "instance_type_offerings" / "availability-zone").glob("*.json.gz")):
        region = path.name.removesuffix(".json.gz")
        yield Place(cloud, region)
        by_id = _by_location(path.parents[1] / "availability-zone-id" / path.name)
        by_zone = _by_location(path)
        for zone, names in sorted(by_zone.items()):
            alike = [each for each, sold in by_id.items() if sold == names]
            alone = len(alike) == 1 and sum(sold == names for sold in by_zone.values()) == 1
            yield Place(cloud, region, zone, alike[0] if alone else None)


def _load(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as opened:
        return json.load(opened)


def _by_location(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for each in _load(path):
        found[each["Location"]].add(each["InstanceType"])
    return found


def _type(record: Mapping[str, Any], cloud: str) -> InstanceType:
    accelerator, count, memory = _accelerator(record)
    name: str = record["InstanceType"]
    disks = record.get("InstanceStorageInfo", {})
    cards = record.get("NetworkInfo", {}).get("NetworkCards", [])
    network = sum(card.get("BaselineBandwidthInGbps", 0.0) for card in cards)
    return InstanceType(
        cloud=cloud,
        name=name,
        cpus=float(record["VCpuInfo"]["DefaultVCpus"]),
        memory_gib=record["MemoryInfo"]["SizeInMiB"] / _GIB,
        arch="arm64" if "arm64" in record["ProcessorInfo"]["SupportedArchitectures"] else "x86_64",
        accelerator=accelerator,
        accelerator_count=count,
        accelerator_memory_gib=memory,
        local_disk_gb=float(disks.get("TotalSizeInGB", 0.0)),
        local_disk_kind=_disk_kind(disks),
        network_gbps=round(network, 3) or None,
        family=name.partition(".")[0],
        features=_features(record),
    )


def _disk_kind(disks: Mapping[str, Any]) -> str | None:
    """`nvme`, `ssd` or `hdd`; the record tells apart by a flag of its own what is reached by NVMe."""
    if not disks.get("Disks"):
        return None
    kind: str = disks["Disks"][0]["Type"]
    return "nvme" if kind == "ssd" and disks.get("NvmeSupport") == "required" else kind


def _accelerator(record: Mapping[str, Any]) -> tuple[str | None, float, float | None]:
    """Canonical name, count (a part of one where the machine has a part), and GiB of one whole device."""
    devices = (
        record.get("GpuInfo", {}).get("Gpus")
        or record.get("NeuronInfo", {}).get("NeuronDevices")
        or record.get("InferenceAcceleratorInfo", {}).get("Accelerators")
    )
    if not devices:
        return None, 0.0, None
    device = devices[0]
    part = device.get("GpuPartitionSize", 1.0)
    count = device["Count"] or part * device.get("LogicalGpuCount", 1)
    memory = device["MemoryInfo"]["SizeInMiB"] / _GIB / part
    name = device["Name"]
    ours = _RENAMED.get((name, int(memory))) or _ALSO_RENAMED.get(name, name)
    return ours, float(count), round(_MEMORY.get(ours, memory), 3)


def _features(record: Mapping[str, Any]) -> frozenset[str]:
    usage = record.get("SupportedUsageClasses", ())
    flags = {
        "metal": record.get("BareMetal"),
        "burstable": record.get("BurstablePerformanceSupported"),
        "efa": record.get("NetworkInfo", {}).get("EfaSupported"),
        "reservation_only": "on-demand" not in usage and "spot" not in usage,
        "no_spot": "spot" not in usage,
        "capacity_block": "capacity-block" in usage,
    }
    return frozenset(name for name, there in flags.items() if there)
