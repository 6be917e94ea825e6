"""What a task asks for, taken apart once: one `Wish` per alternative, with the defaults of the interface filled in.

`fit` judges offers by it, `rank` turns it into the queries that it asks a catalog.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sky.core.model.accelerators import AcceleratorRequest
from sky.core.model.catalog import Market, Query
from sky.core.model.infra import Infra
from sky.core.model.requirements import DiskTier, NetworkTier
from sky.core.model.resources import Resources
from sky.core.model.tasks import TaskSpec

#: Asked for on machines that are rented whole when a task says nothing of its size.
DEFAULT_CPUS = 8.0
#: GiB per vCPU where a task without accelerators leaves its memory open.
DEFAULT_MEMORY_PER_CPU = 4.0
#: Words among the features of a type that is only taken when it is named.
ONLY_BY_NAME = ("burstable", "shared_core", "reservation_only")
#: Memory of devices is told rounded by some and exactly by others (79.6 for 80).
_MEMORY_TOLERANCE = 0.03

_DISK = re.compile(r"(?:(\w+):)?(\d+)(\+?)")


@dataclass(frozen=True, slots=True)
class Bounds:
    """From `least` to `most`, both included; `exact` is how the user wrote it: `4`, not `4+`."""

    least: float
    most: float = math.inf

    @property
    def exact(self) -> bool:
        """Whether one number only will do."""
        return self.most == self.least

    @classmethod
    def read(cls, text: str) -> "Bounds":
        """`4` or `4+`."""
        number = float(text.rstrip("+"))
        return cls(number, math.inf if text.endswith("+") else number)

    def __str__(self) -> str:
        return f"{self.least:g}" if self.exact else f"{self.least:g}+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One alternative of a task: what one node needs, in numbers. GiB, GB of disk, USD per node and hour.

    `rank` is its place in the user's order. `cpus` and `memory` are what was said, `rented_cpus` and `memory_per_cpu`
    (GiB) what holds beside it on machines that are rented whole. `count` of accelerators is that of a rented machine:
    a fraction of a device takes a whole one. `needs` are the features that the place must have.
    """

    resources: Resources
    rank: int = 0
    num_nodes: int = 1
    infra: Infra = field(default_factory=Infra)
    instance_type: str | None = None
    market: Market = Market.ON_DEMAND
    cpus: Bounds | None = None
    memory: Bounds | None = None
    rented_cpus: Bounds | None = None
    memory_per_cpu: float | None = None
    accelerator: AcceleratorRequest | None = None
    count: float = 0.0
    device_memory: Bounds | None = None
    disk: Bounds | None = None
    disk_kind: str | None = None
    max_price: float | None = None
    needs: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return str(self.resources).removesuffix("()")


def wishes(
    alternatives: Iterable[Resources], num_nodes: int = 1, *, needs: Iterable[str] = (), spellings: Mapping[str, str]
) -> tuple[Wish, ...]:
    """One wish per alternative, in order. `needs`: features needed beside those that the resources themselves tell.

    `spellings` are those of a catalog, in lower case to the canonical name.
    """
    return tuple(wish(each, rank, num_nodes, needs, spellings) for rank, each in enumerate(alternatives))


def of_task(task: TaskSpec, spellings: Mapping[str, str]) -> tuple[Wish, ...]:
    """The wishes of a task."""
    return wishes(task.resources, task.num_nodes, spellings=spellings)


def wish(resources: Resources, rank: int, num_nodes: int, needs: Iterable[str], spellings: Mapping[str, str]) -> Wish:
    """Take one alternative apart."""
    named = resources.instance_type
    accelerator = _canonical(resources.accelerator_request, spellings)
    cpus = Bounds.read(resources.cpus) if resources.cpus else None
    memory, ratio = _memory(resources.memory)
    rented_cpus = cpus
    if named is None and accelerator is None:
        if cpus is None and memory is None and ratio is None:
            rented_cpus = Bounds(DEFAULT_CPUS)
        if memory is None and ratio is None:
            ratio = DEFAULT_MEMORY_PER_CPU
    disk, kind = _disk(resources.local_disk)
    return Wish(
        resources=resources,
        rank=rank,
        num_nodes=num_nodes,
        infra=resources.infra,
        instance_type=named,
        market=Market.SPOT if resources.use_spot else Market.ON_DEMAND,
        cpus=cpus,
        memory=memory,
        rented_cpus=rented_cpus,
        memory_per_cpu=ratio,
        accelerator=accelerator,
        count=float(math.ceil(accelerator.count)) if accelerator else 0.0,
        device_memory=_device_memory(accelerator),
        disk=disk,
        disk_kind=kind,
        max_price=resources.max_hourly_cost,
        needs=_needs(resources, num_nodes) | frozenset(needs),
    )


def _canonical(asked: AcceleratorRequest | None, spellings: Mapping[str, str]) -> AcceleratorRequest | None:
    if asked is None or asked.is_filter:
        return asked
    return AcceleratorRequest(spellings.get(asked.name.lower(), asked.name), asked.count)


def _memory(text: str | None) -> tuple[Bounds | None, float | None]:
    """An amount in GiB, or a ratio to the vCPUs."""
    if text is None:
        return None, None
    return (None, float(text[:-1])) if text.endswith("x") else (Bounds.read(text), None)


def _device_memory(asked: AcceleratorRequest | None) -> Bounds | None:
    if asked is None or asked.min_memory_gb is None:
        return None
    most = math.inf if asked.max_memory_gb is None else asked.max_memory_gb * (1 + _MEMORY_TOLERANCE)
    return Bounds(asked.min_memory_gb * (1 - _MEMORY_TOLERANCE), most)


def _disk(text: str | None) -> tuple[Bounds | None, str | None]:
    found = _DISK.fullmatch(text) if text else None
    if found is None:
        return None, None
    size = float(found[2])
    return Bounds(size, math.inf if found[3] else size), found[1]


def _needs(resources: Resources, num_nodes: int) -> frozenset[str]:
    docker = resources.extract_docker_image() is not None
    tests = {
        "multi_node": num_nodes > 1,
        "spot": resources.use_spot,
        "ports": bool(resources.ports),
        "docker": docker,
        "image": bool(resources.image_id) and not docker,
        "disk_tier": resources.disk_tier in {DiskTier.LOW, DiskTier.HIGH, DiskTier.ULTRA},
        "network_tier": resources.network_tier is NetworkTier.BEST,
        "local_disk": resources.local_disk is not None,
    }
    return frozenset(name for name, needed in tests.items() if needed)


def query(asked: Wish, clouds: frozenset[str] | None, region: str | None = None) -> Query | None:
    """What to ask a catalog for: nothing that fits lies outside of it. None where `clouds` leaves nothing.

    `clouds` and `region` narrow the wish's own place further.
    """
    cloud = asked.infra.cloud
    if cloud is not None:
        if clouds is not None and cloud not in clouds:
            return None
        clouds = frozenset([cloud])
    if (clouds is not None and not clouds) or (region and asked.infra.region not in (None, region)):
        return None
    cpus, memory, device, by_name = asked.rented_cpus, asked.memory, asked.device_memory, asked.accelerator
    named = asked.instance_type is not None
    return Query(
        clouds=clouds,
        region=region or asked.infra.region,
        zone=asked.infra.zone,
        instance_type=asked.instance_type,
        accelerator=_accelerator(by_name, named),
        accelerator_count=asked.count if by_name and not named else None,
        vendor=by_name.vendor if by_name else None,
        min_accelerator_memory_gib=device.least if device else None,
        max_accelerator_memory_gib=_bound(device),
        min_cpus=cpus.least if cpus else None,
        max_cpus=_bound(cpus),
        min_memory_gib=memory.least if memory else None,
        max_memory_gib=_bound(memory),
        memory_per_cpu=asked.memory_per_cpu,
        arch=None if named or (by_name and not by_name.is_filter) else "x86_64",
        market=asked.market,
        max_price=None,
    )


def _accelerator(asked: AcceleratorRequest | None, named: bool) -> str | None:
    """A name; `""` for types without any, which is what a task that names none gets; None where it is left open."""
    if asked is None:
        return None if named else ""
    return None if asked.is_filter else asked.name


def _bound(bounds: Bounds | None) -> float | None:
    return None if bounds is None or math.isinf(bounds.most) else bounds.most
