"""Networks: which one a machine is in, what it may be reached on, and the rules that say so.

Rules select machines by network tag. One rule per installation and network lets SSH in and stays; those of one
cluster (its nodes among themselves, its ports) are called by the cluster's mark and go with it. `compute` asks here.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sky.core.errors import CredentialsRejected, InstanceNotFound, RequestInvalid
from sky.core.model.machines import MachineSpec
from sky.providers.gcp import names
from sky.providers.gcp.access import Account
from sky.providers.gcp.config import GcpConfig
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.rest import Json, Rest
from sky.providers.gcp.shapes import Shape

_ANYWHERE = ("0.0.0.0/0",)
#: From where SSH comes to machines without an address of their own: private networks, and Google's proxy of identities.
_INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "35.235.240.0/20")
_PORTS = "ports"
_INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Network:
    """A network with the subnet to use in one region; no subnet where Google chooses it."""

    project: str
    name: str
    subnet: str = ""

    @property
    def path(self) -> str:
        return f"projects/{self.project}/global/networks/{self.name}"


async def network(rest: Rest, account: Account, config: GcpConfig, region: str) -> Network:
    """The network that the configuration asks for. Raises RequestInvalid where there is none."""
    project = config.vpc_project or account.project
    try:
        found = await rest.get(account, f"/projects/{project}/global/networks/{config.network}")
    except InstanceNotFound:
        raise RequestInvalid(
            f"there is no network {config.network!r} in project {project}; set gcp.vpc_name in the configuration to "
            f"one that exists, or make it: gcloud compute networks create {config.network} --project {project}",
            scope="account",
        ) from None
    subnet = await _subnet(rest, account, config, Network(project, config.network), region, found)
    return Network(project, config.network, subnet)


async def _subnet(rest: Rest, account: Account, config: GcpConfig, made: Network, region: str, found: Json) -> str:
    where = f"/projects/{made.project}/regions/{region}/subnetworks"
    for name in config.subnets:
        with suppress(InstanceNotFound):
            listed = await rest.get(account, f"{where}/{name}")
            if _last(listed.get("network")) in ("", made.name):
                return f"{where[1:]}/{name}"
    if config.subnets:
        wanted = ", ".join(config.subnets)
        raise RequestInvalid(
            f"network {made.name} has no subnet {wanted} in {region} (gcp.subnet_names)", scope="region"
        )
    if found.get("autoCreateSubnetworks") or "autoCreateSubnetworks" not in found:
        return ""
    async for page in rest.pages(account, where):
        for item in page.get("items") or ():
            if _last(item.get("network")) == made.name and item.get("purpose", "PRIVATE") == "PRIVATE":
                return f"{where[1:]}/{item['name']}"
    raise RequestInvalid(
        f"network {made.name} has no subnet in {region}; make one, or use another region", scope="region"
    )


def interface(made: Network, config: GcpConfig, spec: MachineSpec, shape: Shape) -> dict[str, Any]:
    """A machine's way into the network, as `networkInterfaces` takes it."""
    card: dict[str, Any] = {"network": made.path}
    if made.subnet:
        card["subnetwork"] = made.subnet
    if config.gvnic or config.gpu_direct or spec.network_tier == "best":
        card["nicType"] = "GVNIC"
    if not config.internal_ips or config.external_too:
        outside = {"name": "External NAT", "type": "ONE_TO_ONE_NAT"}
        tier = {"best": "PREMIUM", "standard": "STANDARD"}.get(spec.network_tier or "")
        card["accessConfigs"] = [outside | ({"networkTier": tier} if tier else {})]
    return card


class Firewall:
    """The rules of one network."""

    def __init__(
        self, rest: Rest, account: Account, made: Network, about: str, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`about` is the description of rules that are one cluster's alone."""
        self._about = about
        self._rest = rest
        self._account = account
        self._network = made
        self._say = say

    async def open_ssh(self, tag: str, *, inside: bool) -> None:
        """The rule that lets SSH in to all machines of this installation; it stays."""
        name = names.shared_rule(tag, self._network.path, "inside" if inside else "ssh")
        allowed = [{"IPProtocol": "tcp", "ports": ["22"]}]
        await self._make(name, tag, allowed, sourceRanges=list(_INSIDE if inside else _ANYWHERE))

    async def open_inside(self, mark: str) -> None:
        """The nodes of a cluster reach each other on everything."""
        await self._make_own(f"{mark}-{_INTERNAL}", mark, [{"IPProtocol": "all"}], sourceTags=[mark])

    async def open_ports(self, mark: str, ports: Sequence[str]) -> None:
        """Ports of a cluster for everybody; those that were open before stay."""
        path = self._path(f"{mark}-{_PORTS}")
        try:
            there = await self._rest.get(self._account, path)
        except InstanceNotFound:
            with suppress(AlreadyThere):
                return await self._make_own(f"{mark}-{_PORTS}", mark, _tcp(ports), sourceRanges=list(_ANYWHERE))
            there = await self._rest.get(self._account, path)
        before = [port for rule in there.get("allowed") or () for port in rule.get("ports") or ()]
        if set(ports) <= set(before):
            return None
        change = await self._rest.patch(self._account, path, {"allowed": _tcp([*before, *ports])})
        return await self._rest.wait(self._account, change)

    async def remove(self, mark: str) -> None:
        """All rules of a cluster."""
        rules = [f"{mark}-{each}" for each in (_INTERNAL, _PORTS)]
        await asyncio.gather(*(self._rest.removed(self._account, self._path(name)) for name in rules))

    def _path(self, name: str) -> str:
        return f"/projects/{self._network.project}/global/firewalls/{name}"

    async def _make_own(self, name: str, mark: str, allowed: Sequence[Json], **source: list[str]) -> None:
        await self._make(name, mark, allowed, description=self._about, **source)

    async def _make(self, name: str, tag: str, allowed: Sequence[Json], **more: list[str] | str) -> None:
        body = {
            "name": name,
            "network": self._network.path,
            "direction": "INGRESS",
            "targetTags": [tag],
            "allowed": list(allowed),
            **more,
        }
        where = f"/projects/{self._network.project}/global/firewalls"
        try:
            # Asked before it is made: the rule of an installation is nearly always there.
            await self._rest.get(self._account, f"{where}/{name}")
        except InstanceNotFound:
            try:
                await self._rest.done(self._account, where, body)
            except AlreadyThere:
                return
            except CredentialsRejected as refused:
                if self._network.project == self._account.project:
                    raise
                # A shared network belongs to others, who may have opened it already and let nobody else do it.
                self._say(f"rule {name} of network {self._network.path} could not be made: {refused.reason}")


def network_of(machine: Json, account: Account) -> Network | None:
    """The network that a machine is in."""
    cards = machine.get("networkInterfaces")
    link = str(cards[0].get("network", "")) if isinstance(cards, list) and cards else ""
    if "/global/networks/" not in link:
        return None
    project = link.partition("projects/")[2].partition("/")[0]
    return Network(project or account.project, _last(link))


def _tcp(ports: Sequence[str]) -> list[dict[str, Any]]:
    return [{"IPProtocol": "tcp", "ports": sorted(set(ports))}]


def _last(link: object) -> str:
    return str(link or "").rpartition("/")[2]
