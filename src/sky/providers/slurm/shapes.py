"""What a Slurm cluster has: partitions, the shapes of their nodes, and the names of their devices. Read of `sinfo`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sky.core.catalog.accelerators import canonical
from sky.core.model.offers import Offer

_GPU = re.compile(r"gpu(?::(?P<type>[A-Za-z][\w.-]*))?(?::(?P<count>\d+))")
_MOST_LINES = 20_000
#: States in which a node will not take a job soon.
_AWAY = ("down", "drain", "fail", "unknown", "maint", "inval", "perfctrs", "future", "power_down", "powering_down")


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes of a partition that are alike. `gres` is what Slurm calls their devices, `device` what everybody does.

    `nodes` of them may take a job, `away` are down or drained.
    """

    partition: str
    cpus: int
    memory_mb: int
    gres: str = ""
    device: str = ""
    count: int = 0
    nodes: int = 0
    away: int = 0

    @property
    def instance_type(self) -> str:
        """`16cpu-62gb-h100x8`."""
        devices = f"-{self.device.lower()}x{self.count}" if self.device else ""
        return f"{self.cpus}cpu-{self.memory_mb / 1024:.0f}gb{devices}"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. `minutes` is its longest time limit, None where there is none."""

    name: str
    default: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """A cluster as it said at `seen` (seconds since the epoch)."""

    seen: float
    version: str
    partitions: Mapping[str, Partition]
    shapes: Sequence[Shape]

    def shape(self, partition: str, instance_type: str) -> Shape | None:
        """A shape by its name."""
        return next(
            (each for each in self.shapes if (each.partition, each.instance_type) == (partition, instance_type)), None
        )


def read_cluster(text: str, now: float, device_partitions: Mapping[str, str]) -> ClusterFacts:
    """The answer of `login_scripts.LOOK`. `device_partitions` name the devices of GRES that have no type."""
    version, partitions = "", {}
    found: dict[tuple[str, int, int, str], list[int]] = {}
    for line in text.splitlines()[:_MOST_LINES]:
        kind, _, rest = line.partition("|")
        if kind == "version":
            version = rest.strip()[:100]
        elif kind == "partition" and (made := _partition(rest)) is not None:
            partitions[made.name] = made
        elif kind == "nodes":
            for partition, cpus, memory, gres, here, away in _nodes(rest):
                counts = found.setdefault((partition, cpus, memory, gres), [0, 0])
                counts[0] += here
                counts[1] += away
    by_partition = {partition: device for device, partition in device_partitions.items()}
    shapes = [_shape(*key, here, away, by_partition) for key, (here, away) in found.items()]
    return ClusterFacts(now, version, partitions, tuple(shapes))


def offers(cloud: str, cluster: str, facts: ClusterFacts, pricing: Mapping[str, object]) -> Iterator[Offer]:
    """What can be asked for: each shape of each partition that takes jobs, whole, since Slurm lets one wait."""
    for shape in facts.shapes:
        partition = facts.partitions.get(shape.partition)
        if not shape.nodes or (partition is not None and not partition.up):
            continue
        yield Offer(
            cloud=cloud,
            region=cluster,
            zone=shape.partition,
            instance_type=shape.instance_type,
            cpus=float(shape.cpus),
            memory_gb=round(shape.memory_mb / 1024, 1),
            price_hourly=_price(shape, pricing),
            accelerators={shape.device: float(shape.count)} if shape.device else {},
            shared=True,
        )


def _partition(line: str) -> Partition | None:
    values = dict(word.split("=", 1) for word in line.split() if "=" in word)
    name = values.get("PartitionName", "")
    if not _plain(name):
        return None
    return Partition(name, values.get("Default") == "YES", values.get("State", "UP") == "UP")


def _nodes(line: str) -> Iterator[tuple[str, int, int, str, int, int]]:
    parts = line.split("|")
    if len(parts) < 6:
        return
    partition, cpus, memory, gres, state, count = (each.strip() for each in parts[:6])
    partition = partition.rstrip("*")
    numbers = [each.rstrip("+") for each in (cpus, memory, count)]
    if not _plain(partition) or not all(each.isascii() and each.isdigit() for each in numbers):
        return
    word = state.lower().rstrip("*$~#!%@^-+")
    away = state.endswith("*") or word.startswith(_AWAY)
    many = int(numbers[2])
    yield partition, int(numbers[0]), int(numbers[1]), gres[:500], 0 if away else many, many if away else 0


def _shape(
    partition: str, cpus: int, memory: int, gres: str, here: int, away: int, by_partition: Mapping[str, str]
) -> Shape:
    kind = _GPU.search(re.sub(r"\([^)]*\)", "", gres))
    if kind is None:
        return Shape(partition, cpus, memory, nodes=here, away=away)
    raw, count = kind["type"] or "", int(kind["count"])
    device = (canonical(raw) or raw.upper()) if raw else by_partition.get(partition, "")
    # Devices that nobody can name can be asked for by nobody.
    return Shape(partition, cpus, memory, raw, device, count if device else 0, here, away)


def _price(shape: Shape, pricing: Mapping[str, object]) -> float:
    """USD per hour of a whole node: so much per CPU, per GB and per device."""
    devices = pricing.get("accelerators")
    per_device = devices.get(shape.device) if isinstance(devices, Mapping) else None
    parts = (
        (pricing.get("cpu"), shape.cpus),
        (pricing.get("memory"), shape.memory_mb / 1024),
        (per_device, shape.count),
    )
    return sum(float(price) * amount for price, amount in parts
               if isinstance(price, int | float) and not isinstance(price, bool))  # fmt: skip


def _plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,100}", name) is not None
