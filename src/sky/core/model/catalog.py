"""What places sell, as a catalog holds it: types, places, prices with where they come from, and questions about them.

Price sources of `providers` make rows, `core.catalog` judges them, `store.catalog` keeps and finds them, and
`core.optimizer` ranks what is found. Rows are named tuples: a generation has hundreds of thousands. So are questions,
for a cold process that asks one has no time to load `dataclasses`.
"""

import enum
from typing import NamedTuple


class Market(enum.StrEnum):
    """How a machine is rented."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"


class Quality(enum.StrEnum):
    """How well a price is known.

    `LIST`: a published list price. `LIVE`: asked of the place itself. `DERIVED`: computed from published figures.
    `ESTIMATE`: a guess that says so. `OWN`: told by the user.
    """

    LIST = "list"
    LIVE = "live"
    DERIVED = "derived"
    ESTIMATE = "estimate"
    OWN = "own"


class InstanceType(NamedTuple):
    """A shape of machine that one cloud sells.

    `memory_gib` and `accelerator_memory_gib` (of one device) in GiB, `local_disk_gb` of all disks inside. The
    accelerator is canonical in a catalog, and as the source spells it before. `features`: words such as `burstable`,
    `metal`, `shared_core`, `efa`, `nvlink`, `reservation_only`.
    """

    cloud: str
    name: str
    cpus: float
    memory_gib: float
    arch: str = "x86_64"
    accelerator: str | None = None
    accelerator_count: float = 0.0
    accelerator_memory_gib: float | None = None
    local_disk_gb: float = 0.0
    local_disk_kind: str | None = None
    network_gbps: float | None = None
    family: str = ""
    features: frozenset[str] = frozenset()


class Price(NamedTuple):
    """What one type costs in one place.

    `price` per hour in `currency`; `None` where the type is sold and its price is not known. `zone` is `None` where a
    price holds in the whole region. `observed` in seconds since the epoch. `interruption` is the chance of losing a
    spot machine within an hour, where that is known.
    """

    cloud: str
    instance_type: str
    region: str
    zone: str | None
    market: Market
    price: float | None
    quality: Quality
    observed: float
    source: str
    currency: str = "USD"
    interruption: float | None = None


class Place(NamedTuple):
    """A region (`zone` None) or a zone. `zone_id` is the name that is the same in every account, if there are two."""

    cloud: str
    region: str
    zone: str | None = None
    zone_id: str | None = None
    country: str | None = None
    continent: str | None = None


class Egress(NamedTuple):
    """USD for moving one GB out of `region` (`*`: any region of the cloud).

    `to` is `internet`, `zone` (another zone of the region), `region` (any other region of the same cloud),
    `continent` (another region of the same cloud on the same continent), or the name of one region of the same cloud.
    """

    cloud: str
    region: str
    to: str
    usd_per_gb: float
    quality: Quality
    source: str


class Source(NamedTuple):
    """One document that rows came from. `etag` and `last_modified` make the next question conditional."""

    cloud: str
    url: str
    fetched: float
    rows: int = 0
    etag: str | None = None
    last_modified: str | None = None
    sha256: str | None = None
    license: str | None = None


class Unchanged(NamedTuple):
    """A source answered that nothing has changed since the last time: rows of it (of one region, or all) stay."""

    cloud: str
    url: str
    region: str | None = None


class Quarantined(NamedTuple):
    """A row that was not believed: which, by which rule, and the figures."""

    cloud: str
    what: str
    rule: str
    detail: str


Row = InstanceType | Price | Place | Egress | Source | Unchanged


class Sale(NamedTuple):
    """One priced row of a catalog: a type in one place on one market, USD per hour, and where the price is from."""

    type: InstanceType
    region: str
    zone: str | None
    market: Market
    price: float
    quality: Quality
    observed: float
    source: str
    interruption: float | None


class Listing(NamedTuple):
    """A type in one region with its cheapest prices there, in USD per hour; `None` where a price is not known.

    `zones` are those of the region that sell it, empty where the cloud has none. `quality`, `observed` and `source` are
    those of `price`, or of `spot_price` where there is no other.
    """

    type: InstanceType
    region: str
    price: float | None
    spot_price: float | None
    zones: tuple[str, ...] = ()
    quality: Quality | None = None
    observed: float | None = None
    source: str | None = None


class RefreshState(enum.StrEnum):
    """What became of one cloud in a refresh.

    `REFRESHED`: new rows are in. `UNCHANGED`: the source says that nothing has changed. `YOUNG`: not asked, its prices
    are young enough. `KEPT`: what came was not believed, the old rows stay. `FAILED`: it could not be asked. `LOCKED`:
    it answers only with credentials, and there are none. `SOURCELESS`: nothing is known that could be asked.
    """

    REFRESHED = "refreshed"
    UNCHANGED = "unchanged"
    YOUNG = "young"
    KEPT = "kept"
    FAILED = "failed"
    LOCKED = "locked"
    SOURCELESS = "sourceless"


class Refreshed(NamedTuple):
    """The outcome of a refresh for one cloud: offers in the new generation, rows not believed, and why in words."""

    cloud: str
    state: RefreshState
    detail: str = ""
    offers: int = 0
    quarantined: int = 0


class CloudSummary(NamedTuple):
    """What a generation holds of one cloud.

    `priced` of its `offers` have a price. `observed` is when the oldest and the newest of these were seen, `fetched`
    when its documents were last read. `qualities` counts priced offers by quality.
    """

    cloud: str
    types: int
    regions: int
    offers: int
    priced: int
    observed: tuple[float, float] | None
    fetched: float | None
    qualities: tuple[tuple[Quality, int], ...] = ()
    quarantined: int = 0


class Query(NamedTuple):
    """What a catalog is asked for; `None` leaves a field open. Bounds are inclusive.

    It only narrows the search: whether an offer fits is decided by `core.optimizer`. `accelerator` is canonical and
    `accelerator_count` exact; `""` asks for types without accelerators. `memory_per_cpu` is the least GiB per vCPU.
    """

    clouds: frozenset[str] | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    accelerator: str | None = None
    accelerator_count: float | None = None
    vendor: str | None = None
    min_accelerator_memory_gib: float | None = None
    max_accelerator_memory_gib: float | None = None
    min_cpus: float | None = None
    max_cpus: float | None = None
    min_memory_gib: float | None = None
    max_memory_gib: float | None = None
    memory_per_cpu: float | None = None
    arch: str | None = None
    market: Market | None = None
    max_price: float | None = None
