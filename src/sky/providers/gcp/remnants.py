"""What was made for clusters beside their machines, and is not gone: disks, addresses, rules, policies.

Disks and addresses are known by their labels. Firewall rules and placement policies take none: they tell in their
description whose they are. `compute` asks here.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from sky.core.errors import CredentialsRejected
from sky.core.ports import Remnant
from sky.providers.gcp import names
from sky.providers.gcp.access import Account
from sky.providers.gcp.instances import seconds
from sky.providers.gcp.rest import Json, Rest

#: Of each kind: the name of its list, and whether it is kept by zone (else by region).
_LABELLED = {"disk": ("disks", "zones"), "address": ("addresses", "regions")}
_POLICY, _POLICIES, _RULE = "placement-policy", "resourcePolicies", "firewall-rule"


class Remaining:
    """What there is of one installation. `network_project` is where its firewall rules are."""

    def __init__(self, rest: Rest, account: Account, installation: str, network_project: str) -> None:
        self._rest = rest
        self._account = account
        self._installation = installation
        self._network_project = network_project

    async def found(self, regions: Collection[str] | None) -> Sequence[Remnant]:
        """All with the mark of this installation and of a cluster. Rules are of no region."""
        left: list[Remnant] = []
        for kind in _LABELLED:
            left += [each async for each in self._labelled(kind, regions)]
        left += [each async for each in self._policies(regions)]
        return [*left, *[each async for each in self._rules()]]

    async def remove(self, remnant: Remnant) -> None:
        """Delete one that is still ours."""
        there = await self.found(None)
        if any((each.kind, each.name, each.region) == (remnant.kind, remnant.name, remnant.region) for each in there):
            await self._rest.removed(self._account, self._path(remnant))

    def _path(self, remnant: Remnant) -> str:
        if remnant.kind == _RULE:
            return f"/projects/{self._network_project}/global/firewalls/{remnant.name}"
        listed, places = _LABELLED.get(remnant.kind, (_POLICIES, "regions"))
        return f"{places}/{remnant.region}/{listed}/{remnant.name}"

    async def _labelled(self, kind: str, regions: Collection[str] | None) -> AsyncIterator[Remnant]:
        listed, places = _LABELLED[kind]
        ours = names.label_value(self._installation)
        async for place, raw in self._everywhere(listed, f'labels.{names.INSTALLATION}="{ours}"'):
            labels = raw.get("labels") or {}
            mark, name = str(labels.get(names.CLUSTER) or ""), str(raw.get("name") or "")
            region = place if places == "regions" else place.rpartition("-")[0]
            if mark and name and labels.get(names.INSTALLATION) == ours and _has(regions, region):
                since = seconds(raw.get("creationTimestamp"))
                yield Remnant(kind, name, mark, place, since, bool(raw.get("users")))

    async def _policies(self, regions: Collection[str] | None) -> AsyncIterator[Remnant]:
        async for place, raw in self._everywhere(_POLICIES, ""):
            if _has(regions, place) and (told := self._told(_POLICY, raw, place)) is not None:
                yield told

    async def _rules(self) -> AsyncIterator[Remnant]:
        where = f"/projects/{self._network_project}/global/firewalls"
        try:
            async for page in self._rest.pages(self._account, where):
                for raw in page.get("items") or ():
                    if isinstance(raw, Mapping) and (told := self._told(_RULE, raw, "")) is not None:
                        yield told
        except CredentialsRejected:
            # A shared network belongs to others, who may show its rules to nobody.
            if self._network_project == self._account.project:
                raise

    def _told(self, kind: str, raw: Json, place: str) -> Remnant | None:
        mark, name = names.cluster_of(self._installation, raw.get("description")), str(raw.get("name") or "")
        # Both have to agree: a description can be copied to what is somebody else's.
        if not mark or not name.startswith(names.mark(self._installation, mark)):
            return None
        return Remnant(kind, name, mark, place, seconds(raw.get("creationTimestamp")))

    async def _everywhere(self, listed: str, wanted: str) -> AsyncIterator[tuple[str, Json]]:
        """Zone or region and record of everything of a kind."""
        query = {"filter": wanted} if wanted else {}
        async for page in self._rest.pages(self._account, f"aggregated/{listed}", **query):
            items = page.get("items")
            for where, part in items.items() if isinstance(items, Mapping) else ():
                for raw in (part.get(listed) or ()) if isinstance(part, Mapping) else ():
                    if isinstance(raw, Mapping):
                        yield str(where).rpartition("/")[2], raw


def _has(regions: Collection[str] | None, region: str) -> bool:
    """Whether a region is one of those that are looked into (None: all)."""
    return regions is None or region in regions
