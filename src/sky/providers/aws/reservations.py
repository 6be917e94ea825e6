"""Capacity that the account has paid for already: which of it fits a launch, and where it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sky.core.model.offers import Offer
from sky.providers.aws.clients import Clients
from sky.providers.aws.config import AwsConfig


@dataclass(frozen=True, slots=True)
class Reserved:
    """What is free of one reservation. One that is `targeted` is used by those alone who name it."""

    id: str
    zone: str
    free: int
    targeted: bool


async def fitting(clients: Clients, offer: Offer, config: AwsConfig) -> Sequence[Reserved]:
    """Reservations that this launch may use, the fullest first; none for spot machines, or where nobody asked.

    `specific_reservations` are used by their ids; open ones only come first with `prioritize_reservations`, and are
    EC2's own choice for any machine that fits.
    """
    if offer.use_spot or not (config.prioritize_reservations or config.specific_reservations):
        return []
    filters: list[Mapping[str, object]] = [
        {"Name": "state", "Values": ["active"]},
        {"Name": "instance-type", "Values": [offer.instance_type]},
    ]
    found = await clients.pages(offer.region, "DescribeCapacityReservations", "CapacityReservations", Filters=filters)
    reserved = []
    for raw in found:
        id = str(raw.get("CapacityReservationId", ""))
        named = id in config.specific_reservations
        targeted = raw.get("InstanceMatchCriteria") == "targeted"
        free = int(raw.get("AvailableInstanceCount") or 0)
        if free > 0 and (named or (config.prioritize_reservations and not targeted)):
            reserved.append(Reserved(id, str(raw.get("AvailabilityZone", "")), free, named))
    return sorted(reserved, key=lambda one: (-one.free, one.id))


def zones_first(reserved: Sequence[Reserved], zones: Sequence[str]) -> Sequence[str]:
    """Zones with the most reserved capacity first; the others as they were."""
    free = {zone: sum(one.free for one in reserved if one.zone == zone) for zone in zones}
    return sorted(zones, key=lambda zone: -free[zone])


def parts(reserved: Sequence[Reserved], zone: str, ranks: Sequence[int]) -> Sequence[tuple[Sequence[int], str | None]]:
    """Ranks by the reservation that they are launched into, None for none: each of these is a call of its own."""
    left, made = list(ranks), []
    for one in reserved:
        if one.zone == zone and one.targeted and left:
            made.append((left[: one.free], one.id))
            left = left[one.free :]
    return [*made, (left, None)] if left else made
