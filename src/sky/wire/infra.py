"""Messages about places with compute: access, accelerators, plans. Used by the server's routes."""

import math
from collections.abc import Iterable
from typing import Any

from sky.core.errors import not_supported
from sky.core.model.offers import Offer, Placement, Plan
from sky.core.ports import Access
from sky.wire.clusters import accelerators_text, check_target
from sky.wire.codec import Body, Record

#: The only workspace there is yet.
DEFAULT_WORKSPACE = "default"


def _check_workspace(name: str | None) -> None:
    if name not in (None, DEFAULT_WORKSPACE):
        raise not_supported(f"Workspace {name!r}", instead=f"There is one workspace, {DEFAULT_WORKSPACE!r}.")


class CheckBody(Body):
    """Arguments of `/check`; without `infra_list`, every place."""

    infra_list: list[str] | None = None
    verbose: bool = False
    workspace: str | None = None

    def __post_init__(self) -> None:
        """Refuse a workspace that cannot exist."""
        _check_workspace(self.workspace)


class EnabledCloudsBody(Body):
    """Arguments of `/enabled_clouds`; `expand` names each part of a place that has parts, and `local` has none."""

    workspace: str | None = None
    expand: bool = False

    def __post_init__(self) -> None:
        """Refuse a workspace that cannot exist."""
        _check_workspace(self.workspace)


class AcceleratorsBody(Body):
    """Arguments of `/list_accelerators` and `/list_accelerator_counts`; filters are substrings.

    `gpus_only` leaves out accelerators that are no GPUs; without `all_regions`, each instance type is told once, from
    where it is cheapest; `require_price` leaves out what has no price.
    """

    gpus_only: bool = True
    name_filter: str | None = None
    region_filter: str | None = None
    quantity_filter: int | None = None
    clouds: list[str] | None = None
    all_regions: bool = False
    require_price: bool = True
    case_sensitive: bool = True


class DagBody(Body):
    """Arguments of `/optimize` and `/validate`: tasks in their canonical configuration, in order."""

    tasks: list[dict[str, Any]]
    name: str | None = None
    minimize: str = "COST"
    workdir_only: bool = False

    def __post_init__(self) -> None:
        """Refuse what the optimizer cannot make small."""
        check_target(self.minimize)


class AccessRecord(Record):
    """Whether a place can be used, and if not, why and what to do."""

    enabled: bool
    capabilities: list[str]
    reason: str
    hint: str
    account: str | None


class AcceleratorOffer(Record):
    """An instance type with accelerators in one place; memory in GiB, prices in USD per hour."""

    cloud: str
    instance_type: str
    accelerator_name: str
    accelerator_count: float
    cpu_count: float
    device_memory: float | None
    memory: float
    price: float | None
    spot_price: float | None
    region: str


class PlacementRecord(Record):
    """A place where a task can run; `price_hourly` in USD for all nodes, memory in GiB per node."""

    infra: str
    cloud: str
    region: str
    zone: str | None
    instance_type: str
    num_nodes: int
    cpus: float
    memory_gb: float
    accelerators: str | None
    use_spot: bool
    price_hourly: float
    chosen: bool


class RejectionRecord(Record):
    """An offer that was not chosen, and why."""

    infra: str
    instance_type: str
    reason: str


class PlanRecord(Record):
    """Placements of one task from best to worst, and what was left out."""

    task: str | None
    placements: list[PlacementRecord]
    rejections: list[RejectionRecord]


def access_record(access: Access) -> AccessRecord:
    """Access to a place as it is told."""
    return AccessRecord(
        enabled=access.enabled,
        capabilities=list(access.capabilities),
        reason=access.reason,
        hint=access.hint,
        account=access.account,
    )


def _placement_record(placement: Placement, chosen: bool) -> PlacementRecord:
    offer = placement.offer
    return PlacementRecord(
        infra=offer.place,
        cloud=offer.cloud,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        num_nodes=placement.num_nodes,
        cpus=placement.cpus,
        memory_gb=placement.memory_gb,
        accelerators=accelerators_text(placement.accelerators),
        use_spot=offer.use_spot,
        price_hourly=placement.price_hourly,
        chosen=chosen,
    )


def plan_record(name: str | None, plan: Plan) -> PlanRecord:
    """A plan as it is told; the first placement is the chosen one."""
    return PlanRecord(
        task=name,
        placements=[_placement_record(placement, at == 0) for at, placement in enumerate(plan.placements)],
        rejections=[
            RejectionRecord(infra=rejection.place, instance_type=rejection.instance_type, reason=rejection.reason)
            for rejection in plan.rejections
        ],
    )


#: How the names of accelerators begin that are no GPUs.
_NOT_GPUS = ("tpu", "inferentia", "trainium", "fpga")


def accelerator_offers(offers: Iterable[Offer], wanted: AcceleratorsBody) -> dict[str, list[AcceleratorOffer]]:
    """Offers by accelerator name, filtered, each list cheapest first."""
    found: dict[str, dict[tuple[str, str, str, float], AcceleratorOffer]] = {}
    for offer in offers:
        for name, count in offer.accelerators.items():
            if not _fits(offer, name, count, wanted):
                continue
            key = (offer.cloud, offer.region, offer.instance_type, count)
            known = found.setdefault(name, {}).get(key)
            found[name][key] = AcceleratorOffer(
                cloud=offer.cloud,
                instance_type=offer.instance_type,
                accelerator_name=name,
                accelerator_count=count,
                cpu_count=offer.cpus,
                device_memory=None,
                memory=offer.memory_gb,
                price=(known.price if known else None) if offer.use_spot else offer.price_hourly,
                spot_price=offer.price_hourly if offer.use_spot else (known.spot_price if known else None),
                region=offer.region,
            )
    told = {
        name: sorted(rows.values(), key=lambda row: (_dearness(row), row.cloud)) for name, rows in sorted(found.items())
    }
    return told if wanted.all_regions else {name: _cheapest_regions(rows) for name, rows in told.items()}


def _dearness(row: AcceleratorOffer) -> float:
    prices = [price for price in (row.price, row.spot_price) if price is not None]
    return prices[0] if prices else math.inf


def _cheapest_regions(rows: Iterable[AcceleratorOffer]) -> list[AcceleratorOffer]:
    """Of rows in the order of their price, the first of each instance type."""
    first: dict[tuple[str, str, float], AcceleratorOffer] = {}
    for row in rows:
        first.setdefault((row.cloud, row.instance_type, row.accelerator_count), row)
    return list(first.values())


def _fits(offer: Offer, name: str, count: float, wanted: AcceleratorsBody) -> bool:
    def has(part: str | None, whole: str) -> bool:
        if part is None:
            return True
        return part in whole if wanted.case_sensitive else part.lower() in whole.lower()

    if wanted.clouds is not None and offer.cloud.lower() not in {cloud.lower() for cloud in wanted.clouds}:
        return False
    if wanted.gpus_only and name.lower().startswith(_NOT_GPUS):
        return False
    if wanted.quantity_filter is not None and count != wanted.quantity_filter:
        return False
    return has(wanted.name_filter, name) and has(wanted.region_filter, offer.region)
