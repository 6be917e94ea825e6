"""What was made for clusters beside their machines, and is not gone: disks, addresses, groups. `compute` asks here."""

from collections.abc import Sequence
from datetime import datetime

from sky.core.errors import ProviderFailure
from sky.core.ports import Remnant
from sky.providers.aws import marks
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.errors import code_behind

#: Of each kind: the call that lists it, the key of its list, of its name, of what tells that a machine holds it, and of
#: the time that it was made; and the call that removes it, with the name of its parameter.
_KINDS = {
    "volume": ("DescribeVolumes", "Volumes", "VolumeId", "Attachments", "CreateTime", "DeleteVolume", "VolumeId"),
    "address": (
        "DescribeAddresses", "Addresses", "AllocationId", "AssociationId", "", "ReleaseAddress", "AllocationId",
    ),
    "network-interface": (
        "DescribeNetworkInterfaces", "NetworkInterfaces", "NetworkInterfaceId", "Attachment", "",
        "DeleteNetworkInterface", "NetworkInterfaceId",
    ),
    "placement-group": (
        "DescribePlacementGroups", "PlacementGroups", "GroupName", "", "", "DeletePlacementGroup", "GroupName",
    ),
    "security-group": (
        "DescribeSecurityGroups", "SecurityGroups", "GroupId", "", "", "DeleteSecurityGroup", "GroupId",
    ),
}  # fmt: skip
#: Lists that are told in pages; the others come whole.
_PAGED = ("volume", "network-interface", "security-group")


async def found(clients: Clients, region: str, installation: str) -> Sequence[Remnant]:
    """All of one region with our mark and a cluster's. What is shared by clusters carries none, and stays."""
    filters = marks.of_cluster(installation, None)
    left: list[Remnant] = []
    for kind, (listing, key, name, held, made, _, _) in _KINDS.items():
        if kind in _PAGED:
            listed = await clients.pages(region, listing, key, Filters=filters)
        else:
            listed = list((await clients.ec2(region, listing, Filters=filters)).get(key) or ())
        for raw in listed:
            mark = marks.read(raw.get("Tags") or raw.get("TagSet")).get(marks.CLUSTER, "")
            if mark and raw.get(name):
                used = bool(held and raw.get(held))
                left.append(Remnant(kind, str(raw[name]), mark, region, _time(raw, made), used))
    return left


async def remove(clients: Clients, installation: str, remnant: Remnant) -> None:
    """Remove one that is still ours and still as it was told: names of things may come back to life as others'."""
    there = await found(clients, remnant.region, installation)
    if not any((each.kind, each.name, each.mark) == (remnant.kind, remnant.name, remnant.mark) for each in there):
        return
    *_, operation, parameter = _KINDS[remnant.kind]
    try:
        await clients.ec2(remnant.region, operation, **{parameter: remnant.name})
    except ProviderFailure as error:
        if not code_behind(error).endswith((".NotFound", ".Unknown")):
            raise


def _time(raw: Answer, key: str) -> float | None:
    told = raw.get(key) if key else None
    return told.timestamp() if isinstance(told, datetime) else None
