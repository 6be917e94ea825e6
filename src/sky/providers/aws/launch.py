"""The request by which machines are made: `RunInstances`, written from what was asked and what was found for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sky.core.errors import RequestInvalid
from sky.core.model.machines import MachineSpec
from sky.core.ports import CreateAsk
from sky.providers.aws import marks
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import AwsConfig
from sky.providers.aws.images import Image
from sky.providers.aws.network import Subnet

#: Disks by the interface's tiers: kind, operations a second, MB a second; None is what a disk of the kind comes with.
_DISKS: Mapping[str, tuple[str, int | None, int | None]] = {
    "low": ("gp3", None, None),
    "medium": ("gp3", 3500, 250),
    "high": ("gp3", 8000, 500),
    "ultra": ("io2", 20000, None),
}
_BEST = "high"
#: Operations a second that a GB of each kind may have at most.
_PER_GB = {"gp3": 500, "io2": 1000}
_LEAST_GB = 8


@dataclass(frozen=True, slots=True)
class Fabric:
    """How machines of a gang are wired: EFA devices of each (0 for none), by the network card that each sits on."""

    efa: int = 0
    cards: int = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is the same for every zone and every part of a gang."""

    ask: CreateAsk
    config: AwsConfig
    installation: str
    image: Image
    user_data: str
    key_pair: str | None = None
    groups: Sequence[str] = ()
    placement_group: str | None = None
    fabric: Fabric = field(default_factory=Fabric)

    @property
    def key(self) -> str:
        """The mark of what this ask makes."""
        return marks.digest(self.ask.key, self.ask.cluster_id)

    def request(
        self, subnet: Subnet, ranks: Sequence[int], token: str, reservation: str | None = None
    ) -> dict[str, object]:
        """For these ranks, all or none, in the subnet's zone. The same token again gives the same machines."""
        offer, config = self.ask.placement.offer, self.config
        role = config.role(self.ask.cluster_name)
        asked: dict[str, object] = {
            "ImageId": self.image.id,
            "InstanceType": offer.instance_type,
            "MinCount": len(ranks),
            "MaxCount": len(ranks),
            "ClientToken": token,
            "UserData": self.user_data,  # the SDK puts it into base64
            "NetworkInterfaces": self._interfaces(subnet),
            "BlockDeviceMappings": [self._disk()],
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                # A container is one hop further off; only where there is a role, it is to reach it.
                "HttpPutResponseHopLimit": 2 if role else 1,
            },
            # The machine that ends itself when idle keeps its disk; a spot machine cannot.
            "InstanceInitiatedShutdownBehavior": "terminate" if offer.use_spot else "stop",
            "TagSpecifications": self._tags(ranks),
        }
        if self.key_pair:
            asked["KeyName"] = self.key_pair
        if role:
            asked["IamInstanceProfile"] = {"Arn": role} if role.startswith("arn:") else {"Name": role}
        if self.placement_group:
            asked["Placement"] = {"GroupName": self.placement_group}
        if offer.use_spot:
            asked["InstanceMarketOptions"] = {
                "MarketType": "spot",
                "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
            }
        elif reservation:
            target = {"CapacityReservationTarget": {"CapacityReservationId": reservation}}
            asked["CapacityReservationSpecification"] = target
        return asked

    def _interfaces(self, subnet: Subnet) -> list[dict[str, object]]:
        first: dict[str, object] = {
            "DeviceIndex": 0,
            "SubnetId": subnet.id,
            "Groups": list(self.groups),
            "DeleteOnTermination": True,
        }
        if self.fabric.efa:
            first["InterfaceType"] = "efa"
        # EC2 gives no public address to a machine with several interfaces.
        count = max(1, self.fabric.efa) if self.config.private else 1
        if count == 1:
            first["AssociatePublicIpAddress"] = not self.config.private
        more = [
            {
                "DeviceIndex": 1,
                "NetworkCardIndex": card,
                "InterfaceType": "efa",
                "SubnetId": subnet.id,
                "Groups": list(self.groups),
                "DeleteOnTermination": True,
            }
            for card in range(1, min(count, self.fabric.cards))
        ]
        return [first, *more]

    def _disk(self) -> dict[str, object]:
        least, _, _ = disk_of(self.ask.machine)
        size = max(least, self.image.size_gb)
        kind, operations, megabytes = _tier(self.ask.machine)
        disk: dict[str, object] = {"VolumeSize": size, "VolumeType": kind, "DeleteOnTermination": True}
        if operations is not None:
            disk["Iops"] = min(operations, max(3000 if kind == "gp3" else 100, _PER_GB[kind] * size))
        if megabytes is not None:
            disk["Throughput"] = megabytes
        if self.config.disk_encrypted:
            disk["Encrypted"] = True
        return {"DeviceName": self.image.root, "Ebs": disk}

    def _tags(self, ranks: Sequence[int]) -> list[dict[str, object]]:
        ask = self.ask
        own = marks.own(self.installation, ask.cluster_id)
        known = {marks.RANKS: marks.ranks_text(ranks), marks.KEY: self.key, marks.LOGIN: self.config.ssh_user}
        made = marks.tags(
            {"Name": ask.cluster_name}, ask.labels, self.config.labels, ask.machine.labels, {**own, **known}
        )
        kinds = ["instance", "volume", "network-interface"]
        return marks.on([*kinds, "spot-instances-request"] if ask.placement.offer.use_spot else kinds, made)


class Fabrics:
    """Knows which types have EFA; asked once for each type, since a type does not change."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[str, Fabric] = {}

    async def wanted(self, ask: CreateAsk) -> Fabric | None:
        """The wiring for an ask; None where plain network does. Raises RequestInvalid for a type that is none."""
        offer = ask.placement.offer
        if ask.machine.network_tier != "best" or ask.placement.num_nodes < 2:
            return None
        if offer.instance_type not in self._known:
            answer = await self._clients.ec2(offer.region, "DescribeInstanceTypes", InstanceTypes=[offer.instance_type])
            told = next(iter(answer.get("InstanceTypes") or ()), None)
            if told is None:
                raise RequestInvalid(f"{offer.region} knows no {offer.instance_type}", scope="instance_type")
            self._known[offer.instance_type] = _fabric(told.get("NetworkInfo") or {})
        known = self._known[offer.instance_type]
        if not known.efa:
            ask.say(f"{offer.instance_type} has no Elastic Fabric Adapter; its nodes talk over plain network")
            return None
        return known


def _fabric(told: Answer) -> Fabric:
    if told.get("EfaSupported") is not True:
        return Fabric()
    most = (told.get("EfaInfo") or {}).get("MaximumEfaInterfaces")
    return Fabric(int(most or 1), int(told.get("MaximumNetworkCards") or 1))


def disk_of(machine: MachineSpec) -> tuple[int, str, bool]:
    """Size in GB that is asked for (an image may want more), kind, and whether speed is bought on top."""
    kind, operations, megabytes = _tier(machine)
    return max(machine.disk_size_gb, _LEAST_GB), kind, operations is not None or megabytes is not None


def _tier(machine: MachineSpec) -> tuple[str, int | None, int | None]:
    tier = machine.disk_tier or "low"
    return _DISKS[_BEST if tier == "best" else tier]
