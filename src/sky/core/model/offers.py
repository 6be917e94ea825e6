"""What a place sells, and where a run was put; made by providers, ranked by the optimizer, kept by the store."""

import enum
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
    """An offer taken for `num_nodes` nodes; `cpus` and `memory_gb` are the slots each node lends to jobs.

    `reserved_nodes` of them are paid for already by a reservation. `asked_cpus` and `asked_memory_gb` are what the task
    wants at least of a shared machine, 0 where it left that open. `disk_hourly` and `address_hourly` are USD per hour
    for each node's disk and public address, None where nobody knows; they are told once machines are there.
    """

    offer: Offer
    num_nodes: int
    cpus: float
    memory_gb: float
    accelerators: Mapping[str, float] = field(default_factory=dict)
    reserved_nodes: int = 0
    asked_cpus: float = 0.0
    asked_memory_gb: float = 0.0
    disk_hourly: float | None = None
    address_hourly: float | None = None

    @property
    def price_hourly(self) -> float:
        """USD per hour for all nodes; those of a reservation cost nothing more."""
        return self.offer.price_hourly * (self.num_nodes - self.reserved_nodes)


class Reason(enum.StrEnum):
    """Why an offer was not taken: stable codes for programs, the words beside them are for people."""

    PLACE = "place"
    INSTANCE_TYPE = "instance_type"
    MARKET = "market"
    CPUS = "cpus"
    MEMORY = "memory"
    ACCELERATORS = "accelerators"
    ACCELERATOR_MEMORY = "accelerator_memory"
    ARCH = "arch"
    ONLY_BY_NAME = "only_by_name"
    LOCAL_DISK = "local_disk"
    PRICE_LIMIT = "price_limit"
    NO_PRICE = "no_price"
    NOT_ENABLED = "not_enabled"
    UNREACHABLE = "unreachable"
    DENIED = "denied"
    REFUSED = "refused"
    QUOTA = "quota"
    RESERVATION = "reservation"
    FEATURE = "feature"
    DEARER = "dearer"
    SLOWER = "slower"
    NOT_SOLD = "not_sold"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An offer that was not chosen, and why: in words for the user, and as code, numbers and remedy.

    `asked` and `found` are the two figures that do not meet, with their units; empty where there are none. `remedy`
    is what the user could change.
    """

    place: str
    instance_type: str
    reason: str
    code: Reason | None = None
    asked: str = ""
    found: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a placement stands where it does in the order.

    `objective` in USD, or in hours where time is made small; `price` USD for the machines over the run, `data` USD for
    transfers, `expected_loss` USD that refusals and preemptions are expected to cost; `hours` from the start to the
    end, transfers included; `why` in words.
    """

    objective: float
    price: float
    data: float
    expected_loss: float
    hours: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements from best to worst, the order in which they are tried; and what was left out, with its reason.

    `standings` go with the placements one by one (or there are none). `more` is how many placements follow those that
    are held here, `None` where nobody counted. `data` is one line about what has to be moved for the first one.
    """

    placements: tuple[Placement, ...]
    rejections: tuple[Rejection, ...] = ()
    standings: tuple[Standing, ...] = ()
    more: int | None = None
    data: str = ""
