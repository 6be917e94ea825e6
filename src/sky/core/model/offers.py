"""What a place sells, and where a run was put; made by providers, ranked by the optimizer, kept by the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one place at one price.

    `memory_gb` in GiB, `price_hourly` in USD per node and hour, `accelerators` name to count per node. `shared` is a
    machine on which nodes of several clusters live side by side.
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
