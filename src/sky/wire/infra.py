"""Messages about places with compute: access, accelerators, plans. Used by the server's routes."""

from collections.abc import Iterable
from typing import Any

from sky.core.model.offers import Offer, Placement, Plan
from sky.core.ports import Access
from sky.wire.clusters import accelerators_text
from sky.wire.codec import Body, Record


class CheckBody(Body):
    """Arguments of `/check`; without `infra_list`, every place."""

    infra_list: list[str] | None = None
    verbose: bool = False
    workspace: str | None = None


class EnabledCloudsBody(Body):
    """Arguments of `/enabled_clouds`."""

    workspace: str | None = None
    expand: bool = False


class AcceleratorsBody(Body):
    """Arguments of `/list_accelerators` and `/list_accelerator_counts`; filters are substrings."""

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
    return {
        name: sorted(rows.values(), key=lambda row: (row.price if row.price is not None else float("inf"), row.cloud))
        for name, rows in sorted(found.items())
    }


def _fits(offer: Offer, name: str, count: float, wanted: AcceleratorsBody) -> bool:
    def has(part: str | None, whole: str) -> bool:
        if part is None:
            return True
        return part in whole if wanted.case_sensitive else part.lower() in whole.lower()

    if wanted.clouds is not None and offer.cloud.lower() not in {cloud.lower() for cloud in wanted.clouds}:
        return False
    if wanted.quantity_filter is not None and count != wanted.quantity_filter:
        return False
    return has(wanted.name_filter, name) and has(wanted.region_filter, offer.region)
