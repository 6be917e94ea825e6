"""Where machines stand in the network: the VPC and its subnets by zone, and the security group of each cluster.

Of the user's network nothing is changed. A cluster has a group of its own, which goes with it; where the user named
one, that is used as it is, and a group of ours beside it holds the ports of tasks.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sky.core.errors import ProviderDown, ProviderFailure, RequestInvalid
from sky.kit.backoff import delays
from sky.kit.together import unbroken
from sky.providers.aws import marks
from sky.providers.aws.clients import Answer, Clients
from sky.providers.aws.config import AwsConfig
from sky.providers.aws.errors import code_behind

T = TypeVar("T")

#: Not there yet although it was made, or held although what held it is gone: EC2 tells one of its parts before another.
_NOT_YET = ("InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound", "InvalidGroupId.NotFound")
_HELD = ("DependencyViolation", "InvalidGroup.InUse", "InvalidPlacementGroup.InUse")
_GONE = (*_NOT_YET, "InvalidPlacementGroup.Unknown")
_SETTLES_S, _HELD_S = 30.0, 120.0
_ANYONE: Mapping[str, object] = {"IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}


@dataclass(frozen=True, slots=True)
class Subnet:
    """One zone's subnet."""

    id: str
    zone: str
    zone_id: str
    vpc: str
    public: bool
    free: int


@dataclass(frozen=True, slots=True)
class Owner:
    """For whom a group is: `installation` and `cluster_id` mark it, `labels` are further tags."""

    installation: str
    cluster_id: str
    cluster_name: str
    labels: Mapping[str, str]

    @property
    def group(self) -> str:
        """The name of the cluster's own groups."""
        return f"sky-{self.installation}-{self.cluster_id}"


class Network:
    """See the module."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        #: Groups that were made for clusters, by region and cluster: a list that lags behind does not have them yet.
        self._made: dict[tuple[str, str], set[str]] = {}

    async def subnets(self, region: str, zone: str | None, config: AwsConfig, nodes: int) -> Sequence[Subnet]:
        """One subnet for each zone that has one (or for this zone alone), by zone. Raises RequestInvalid if none."""
        for vpc in await self._vpcs(region, config):
            found = await self._of_vpc(region, vpc, config)
            chosen: dict[str, Subnet] = {}
            for subnet in found:
                if zone in (None, subnet.zone, subnet.zone_id):
                    best = chosen.get(subnet.zone)
                    chosen[subnet.zone] = max(best or subnet, subnet, key=lambda one: _fit(one, config, nodes))
            if chosen:
                return [chosen[name] for name in sorted(chosen)]
        names = f" named {', '.join(config.subnet_names)}" if config.subnet_names else ""
        raise RequestInvalid(
            f"the network has no subnet{names} in {zone or region}; see aws.vpc_name and aws.subnet_names of the "
            "configuration",
            scope="zone" if zone else "region",
        )

    async def groups(
        self, region: str, vpc: str, owner: Owner, config: AwsConfig, ports: Sequence[str]
    ) -> Sequence[str]:
        """Ids of the groups of a cluster's machines, made where they are missing."""
        named = config.security_group(owner.cluster_name)
        if named is None:
            return [
                await self._ours(
                    region, vpc, owner, [_port(each) for each in dict.fromkeys(("22", *ports))], members=True
                )
            ]
        found = await self._find(region, vpc, named)
        if found is None:
            shared = {marks.INSTALLATION: owner.installation}
            found = await self._make(region, vpc, named, marks.tags(owner.labels, shared))
            await self._allow(region, found, [_port("22")], members=True)
        if not ports:
            return [found]
        return [
            found,
            await self._ours(region, vpc, owner, [_port(each) for each in dict.fromkeys(ports)], members=False),
        ]

    async def open_ports(self, region: str, vpc: str, owner: Owner, ports: Sequence[str]) -> str:
        """Let the ports in by the cluster's own group; its id."""
        return await self._ours(region, vpc, owner, [_port(each) for each in dict.fromkeys(ports)], members=False)

    async def remove(self, region: str, owner: Owner) -> None:
        """Remove what was made for a cluster alone, as soon as its machines let go of it."""
        filters = marks.of_cluster(owner.installation, owner.cluster_id)
        groups = await self._clients.pages(region, "DescribeSecurityGroups", "SecurityGroups", Filters=filters)
        made = self._made.get((region, owner.cluster_id), set())
        close = owner.group in made or any(marks.GROUPED in marks.read(group.get("Tags")) for group in groups)
        if close:
            await self._delete(region, "DeletePlacementGroup", GroupName=owner.group)
        for group in sorted({str(group.get("GroupId", "")) for group in groups} | made - {owner.group}):
            await self._delete(region, "DeleteSecurityGroup", GroupId=group)
        self._made.pop((region, owner.cluster_id), None)

    async def placement_group(self, region: str, groups: Sequence[str], owner: Owner) -> str:
        """A group of machines that stand close together; its name. The mark comes first, so that it is never lost."""
        mark = [{"Key": marks.GROUPED, "Value": "yes"}]
        await self._settled(lambda: self._clients.ec2(region, "CreateTags", Resources=[groups[-1]], Tags=mark))
        tags = marks.tags(owner.labels, marks.own(owner.installation, owner.cluster_id))
        self._note(region, owner, owner.group)
        try:
            await unbroken(
                self._clients.ec2(
                    region,
                    "CreatePlacementGroup",
                    GroupName=owner.group,
                    Strategy="cluster",
                    TagSpecifications=marks.on(["placement-group"], tags),
                )
            )
        except ProviderFailure as error:
            if code_behind(error) != "InvalidPlacementGroup.Duplicate":
                raise
        return owner.group

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _vpcs(self, region: str, config: AwsConfig) -> Sequence[str]:
        """Networks by the order of preference."""
        wanted = config.vpc_names
        filters = [{"Name": "tag:Name", "Values": list(wanted)}] if wanted else _only("is-default", "true")
        found = await self._clients.pages(region, "DescribeVpcs", "Vpcs", Filters=filters)
        if wanted:
            found.sort(key=lambda raw: wanted.index(marks.read(raw.get("Tags")).get("Name", wanted[-1])))
        if found:
            return [str(raw.get("VpcId", "")) for raw in found]
        if wanted:
            raise RequestInvalid(
                f"{region} has no VPC named {', '.join(wanted)} (the Name tag counts); see aws.vpc_name of the "
                "configuration",
                scope="region",
            )
        raise RequestInvalid(
            f"{region} has no default VPC; make one with `aws ec2 create-default-vpc --region {region}`, or name one "
            "with aws.vpc_name in the configuration",
            scope="region",
        )

    async def _of_vpc(self, region: str, vpc: str, config: AwsConfig) -> Sequence[Subnet]:
        filters = _only("vpc-id", vpc)
        if config.subnet_names:
            filters.append({"Name": "tag:Name", "Values": list(config.subnet_names)})
        found = await self._clients.pages(region, "DescribeSubnets", "Subnets", Filters=filters)
        return [
            Subnet(
                str(raw.get("SubnetId", "")),
                str(raw.get("AvailabilityZone", "")),
                str(raw.get("AvailabilityZoneId", "")),
                vpc,
                raw.get("MapPublicIpOnLaunch") is True,
                int(raw.get("AvailableIpAddressCount") or 0),
            )
            for raw in found
            if raw.get("State", "available") == "available"
        ]

    async def _ours(self, region: str, vpc: str, owner: Owner, rules: list[dict[str, object]], *, members: bool) -> str:
        found = await self._find(region, vpc, owner.group)
        if found is not None:
            await self._allow_each(region, found, rules, members=members)
            return found
        made = await unbroken(self._make_ours(region, vpc, owner))
        await self._allow(region, made, rules, members=members)
        return made

    async def _make_ours(self, region: str, vpc: str, owner: Owner) -> str:
        """The group, noted in any case: a call that is under way makes it although its caller has gone away."""
        tags = marks.tags(owner.labels, {"Name": owner.group}, marks.own(owner.installation, owner.cluster_id))
        made = await self._make(region, vpc, owner.group, tags)
        self._note(region, owner, made)
        return made

    def _note(self, region: str, owner: Owner, name: str) -> None:
        self._made.setdefault((region, owner.cluster_id), set()).add(name)

    async def _find(self, region: str, vpc: str, name: str) -> str | None:
        filters = [*_only("group-name", name), *_only("vpc-id", vpc)]
        found = await self._clients.pages(region, "DescribeSecurityGroups", "SecurityGroups", Filters=filters)
        return next((str(raw.get("GroupId")) for raw in found), None)

    async def _make(self, region: str, vpc: str, name: str, tags: marks.Tags) -> str:
        try:
            made = await self._clients.ec2(
                region,
                "CreateSecurityGroup",
                GroupName=name,
                Description="machines of a sky cluster",
                VpcId=vpc,
                TagSpecifications=marks.on(["security-group"], tags),
            )
        except ProviderFailure as error:
            found = await self._find(region, vpc, name) if code_behind(error) == "InvalidGroup.Duplicate" else None
            if found is None:
                raise
            return found
        return str(made.get("GroupId", ""))

    async def _allow(self, region: str, group: str, rules: list[dict[str, object]], *, members: bool) -> None:
        """Let in what the rules say; among the members everything, out as well, which EFA wants to be said."""
        inside = [_among(group)] if members else []
        allowed: list[tuple[str, list[dict[str, object]]]] = [("Ingress", [*rules, *inside]), ("Egress", inside)]
        for way, permissions in allowed:
            if permissions:
                try:
                    await self._authorize(region, way, group, permissions)
                except ProviderFailure as error:
                    # Of several rules that one call brings, one that is there already keeps the others out.
                    if code_behind(error) != "InvalidPermission.Duplicate":
                        raise
                    for each in permissions if len(permissions) > 1 else ():
                        await self._allow_one(region, way, group, each)

    async def _allow_each(self, region: str, group: str, rules: list[dict[str, object]], *, members: bool) -> None:
        for each in [*rules, *([_among(group)] if members else [])]:
            await self._allow_one(region, "Ingress", group, each)
        if members:
            await self._allow_one(region, "Egress", group, _among(group))

    async def _allow_one(self, region: str, way: str, group: str, rule: dict[str, object]) -> None:
        try:
            await self._authorize(region, way, group, [rule])
        except ProviderFailure as error:
            if code_behind(error) != "InvalidPermission.Duplicate":
                raise

    async def _authorize(self, region: str, way: str, group: str, permissions: list[dict[str, object]]) -> Answer:
        operation = f"AuthorizeSecurityGroup{way}"
        return await self._settled(
            lambda: self._clients.ec2(region, operation, GroupId=group, IpPermissions=permissions)
        )

    async def _settled(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while what was just made is not known everywhere."""
        until = self._clients.clock.now() + _SETTLES_S
        for pause in delays(0.3, ceiling=4.0):
            try:
                return await ask()
            except ProviderFailure as error:
                if code_behind(error) not in _NOT_YET or self._clients.clock.now() > until:
                    raise
            await self._clients.clock.sleep(pause)
        raise AssertionError("delays do not end")

    async def _delete(self, region: str, operation: str, **named: str) -> None:
        """Delete what may be gone already, and may still be held by machines that are ending."""
        until = self._clients.clock.now() + _HELD_S
        for pause in delays(0.5, ceiling=8.0):
            try:
                await self._clients.ec2(region, operation, **named)
                return
            except ProviderFailure as error:
                code = code_behind(error)
                if code in _GONE:
                    return
                if code not in _HELD:
                    raise
                if self._clients.clock.now() > until:
                    raise ProviderDown(
                        f"{', '.join(named.values())} in {region} is still in use {_HELD_S:.0f} s after its machines "
                        "ended; take it off whatever else uses it"
                    ) from error
            await self._clients.clock.sleep(pause)


async def attach(clients: Clients, region: str, machines: Collection[Answer], group: str) -> None:
    """Put machines into one more group, with every interface that they have."""
    for card in [card for raw in machines for card in raw.get("NetworkInterfaces") or ()]:
        held = [str(each.get("GroupId")) for each in card.get("Groups") or ()]
        if group not in held:
            id = str(card.get("NetworkInterfaceId"))
            await clients.ec2(region, "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=id, Groups=[*held, group])


def _fit(subnet: Subnet, config: AwsConfig, nodes: int) -> tuple[bool, bool, int]:
    """Room for all first, then of the wanted kind, then the roomier."""
    return subnet.free >= nodes, subnet.public is not config.private, subnet.free


def _only(name: str, value: str) -> list[dict[str, object]]:
    return [{"Name": name, "Values": [value]}]


def _port(text: str) -> dict[str, object]:
    low, _, high = text.partition("-")
    return {"IpProtocol": "tcp", "FromPort": int(low), "ToPort": int(high or low), **_ANYONE}


def _among(group: str) -> dict[str, object]:
    return {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
