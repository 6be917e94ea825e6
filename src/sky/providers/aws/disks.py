"""Images of clusters' disks, from which others are cloned: made once for each ask, found again, removed whole.

An image is called by the cluster and the ask that it is for, so that asking twice makes one. `compute` asks here.
"""

from collections.abc import Sequence
from contextlib import suppress

from sky.core.errors import InstanceNotFound, ProviderDown, ProviderFailure
from sky.core.ports import DiskImage
from sky.kit.backoff import delays
from sky.providers.aws import marks
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.errors import code_behind
from sky.providers.aws.network import Owner

#: On an image and its snapshots: the ask that they are for.
_KEY = "sky-image-key"
_READY_S = 3600.0
_FAILED = ("failed", "error", "invalid", "deregistered")
#: What is removed already says so in one of these ways.
_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound")
#: Seconds for which the snapshots of an image that was just deregistered may still count as used.
_HELD_S = 60.0


class Disks:
    """See the module."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def make(self, region: str, owner: Owner, machine: str, key: str) -> str:
        """The image of a machine's disk for this ask, ready to be started from; its id. Raises ProviderDown."""
        name = f"sky-{owner.cluster_id}-{marks.digest(owner.installation, owner.cluster_id, key)[:12]}"
        image = await self._named(region, name)
        if image is None:
            image = await self._begin(region, owner, machine, (name, key))
        return await self._ready(region, image)

    async def all(self, region: str, installation: str) -> Sequence[DiskImage]:
        """Images with our mark, and snapshots that no image of ours holds any more."""
        images = await self._images(region, installation)
        held = {snapshot for raw in images for snapshot in _snapshots(raw)}
        snapshots = await self._clients.pages(
            region, "DescribeSnapshots", "Snapshots", OwnerIds=["self"], Filters=_ours(installation)
        )
        found = [(str(raw.get("ImageId", "")), raw) for raw in images]
        found += [(id, raw) for raw in snapshots if (id := str(raw.get("SnapshotId", ""))) not in held]
        return [DiskImage(id, marks.read(raw.get("Tags")).get(_KEY, ""), region) for id, raw in found if id]

    async def remove(self, region: str, installation: str, name: str) -> None:
        """Remove an image of ours with its snapshots, or one of those; nobody else's."""
        if name.startswith("snap-"):
            if name in {each.name for each in await self.all(region, installation)}:
                await self._delete(region, name)
            return
        for raw in await self._images(region, installation):
            if raw.get("ImageId") == name:
                with suppress(InstanceNotFound):
                    await self._without(region, "DeregisterImage", ImageId=name)
                for snapshot in _snapshots(raw):
                    await self._delete(region, snapshot)

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _images(self, region: str, installation: str) -> list[Answer]:
        filters = _ours(installation)
        return await self._clients.pages(region, "DescribeImages", "Images", Owners=["self"], Filters=filters)

    async def _named(self, region: str, name: str) -> str | None:
        filters = [{"Name": "name", "Values": [name]}]
        found = await self._clients.pages(region, "DescribeImages", "Images", Owners=["self"], Filters=filters)
        return next((str(raw.get("ImageId")) for raw in found if str(raw.get("State")) not in _FAILED), None)

    async def _begin(self, region: str, owner: Owner, machine: str, title: tuple[str, str]) -> str:
        name, key = title
        tags = marks.tags(marks.own(owner.installation, owner.cluster_id), {"Name": name, _KEY: key})
        try:
            made = await self._clients.ec2(
                region,
                "CreateImage",
                InstanceId=machine,
                Name=name,
                TagSpecifications=marks.on(["image", "snapshot"], tags),
            )
        except ProviderFailure as error:
            # Asked again after an answer that was lost: EC2 knows the name, and may not list the image yet.
            if code_behind(error) != "InvalidAMIName.Duplicate":
                raise
            return await self._listed(region, name)
        return str(made.get("ImageId", ""))

    async def _listed(self, region: str, name: str) -> str:
        until = self._clients.clock.now() + _HELD_S
        for pause in delays(0.5, ceiling=5.0):
            if (found := await self._named(region, name)) is not None:
                return found
            if self._clients.clock.now() > until:
                raise ProviderDown(f"{region} has an image {name} and does not list it")
            await self._clients.clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def _ready(self, region: str, image: str) -> str:
        until = self._clients.clock.now() + _READY_S
        for pause in delays(1.0, ceiling=15.0):
            try:
                found = (await self._clients.ec2(region, "DescribeImages", ImageIds=[image])).get("Images") or ()
            except ProviderFailure as error:
                if code_behind(error) not in _GONE:
                    raise
                found = ()  # made a moment ago, and not known everywhere yet
            state = str(found[0].get("State", "")) if found else "pending"
            if state == "available":
                return image
            if state not in ("pending", "transient") or self._clients.clock.now() > until:
                raise ProviderDown(f"image {image} in {region} does not become available: it is {state}")
            await self._clients.clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def _delete(self, region: str, snapshot: str) -> None:
        """Delete a snapshot, which counts as used for a moment after its image is gone."""
        until = self._clients.clock.now() + _HELD_S
        for pause in delays(0.5, ceiling=8.0):
            try:
                return await self._without(region, "DeleteSnapshot", SnapshotId=snapshot)
            except ProviderFailure as error:
                if code_behind(error) != "InvalidSnapshot.InUse" or self._clients.clock.now() > until:
                    raise
            await self._clients.clock.sleep(pause)
        return None

    async def _without(self, region: str, operation: str, **named: str) -> None:
        """Remove what may be gone."""
        try:
            await self._clients.ec2(region, operation, **named)
        except ProviderFailure as error:
            if code_behind(error) not in _GONE:
                raise


def _ours(installation: str) -> list[dict[str, object]]:
    """Those alone that say what they are for: an image that somebody made of one of our machines is theirs."""
    return [*marks.of_cluster(installation, None), {"Name": "tag-key", "Values": [_KEY]}]


def _snapshots(raw: Answer) -> list[str]:
    told = [(each.get("Ebs") or {}).get("SnapshotId") for each in raw.get("BlockDeviceMappings") or ()]
    return [str(each) for each in told if each]
