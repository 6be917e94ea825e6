"""What a place sells, and where a run was put; made by providers, ranked by the optimizer, kept by the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sky.core.model.catalog import Market, Quality


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one place at one price.

    `memory_gb` and `accelerator_memory_gb` (of one device) in GiB, `local_disk_gb` of all disks inside, `price_hourly`
    in USD per node and hour, `accelerators` name to count per node. `shared` is a machine on which nodes of several
    clusters live side by side. `interruption` is the chance of losing a spot machine within an hour, `observed` when
    the price was seen (seconds since the epoch), `source` where; `None` where that is not known.
    """

    cloud: str
    region: str
    zone: str | None
    instance_type: str
    cpus: float
    memory_gb: float
    price_hourly: float
    accelerators: Mapping[str, float] = field(default_factory=dict)
    use_spot: bool = False
    shared: bool = False
    accelerator_memory_gb: float | None = None
    arch: str = "x86_64"
    local_disk_gb: float = 0.0
    local_disk_kind: str | None = None
    network_gbps: float | None = None
    family: str = ""
    features: frozenset[str] = frozenset()
    quality: Quality | None = None
    observed: float | None = None
    source: str | None = None
    interruption: float | None = None

    @property
    def market(self) -> Market:
        """How the machine is rented."""
        return Market.SPOT if self.use_spot else Market.ON_DEMAND

    @property
    def place(self) -> str:
        """The infra string a user would write for this place."""
        return "/".join(
            part for part in (self.cloud, self.region if self.region != self.cloud else None, self.zone) if part
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """An offer taken for `num_nodes` nodes; `cpus` and `memory_gb` are the slots each node lends to jobs."""

    offer: Offer
    num_nodes: int
    cpus: float
    memory_gb: float
    accelerators: Mapping[str, float] = field(default_factory=dict)

    @property
    def price_hourly(self) -> float:
        """USD per hour for all nodes."""
        return self.offer.price_hourly * self.num_nodes


@dataclass(frozen=True, slots=True)
class Rejection:
    """An offer that was not chosen, and why, in words for the user."""

    place: str
    instance_type: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements from best to worst, and every offer that was left out with its reason."""

    placements: tuple[Placement, ...]
    rejections: tuple[Rejection, ...] = ()
