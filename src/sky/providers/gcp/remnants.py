"""Disks and addresses of clusters that are not gone with their machines. `compute` asks here.

Firewall rules carry no labels: they go with the cluster, by their names, and are not listed here.
"""

from collections.abc import Collection, Mapping, Sequence

from sky.core.ports import Remnant
from sky.providers.gcp import names
from sky.providers.gcp.access import Account
from sky.providers.gcp.instances import seconds
from sky.providers.gcp.rest import Rest

#: Of each kind: the name of its list, and whether it is kept by zone (else by region).
_KINDS = {"disk": ("disks", "zones"), "address": ("addresses", "regions")}


async def found(rest: Rest, account: Account, installation: str, regions: Collection[str] | None) -> Sequence[Remnant]:
    """All with the labels of this installation and of a cluster."""
    ours = names.label_value(installation)
    left: list[Remnant] = []
    for kind, (listed, _) in _KINDS.items():
        wanted = f'labels.{names.INSTALLATION}="{ours}"'
        async for page in rest.pages(account, f"aggregated/{listed}", filter=wanted):
            items = page.get("items")
            for where, part in items.items() if isinstance(items, Mapping) else ():
                place = str(where).rpartition("/")[2]
                region = place if kind == "address" else place.rpartition("-")[0]
                for raw in (part.get(listed) or ()) if isinstance(part, Mapping) else ():
                    labels = raw.get("labels") or {}
                    mark, name = str(labels.get(names.CLUSTER) or ""), str(raw.get("name") or "")
                    here = regions is None or region in regions
                    if here and mark and name and labels.get(names.INSTALLATION) == ours:
                        since = seconds(raw.get("creationTimestamp"))
                        left.append(Remnant(kind, name, mark, place, since, bool(raw.get("users"))))
    return left


async def remove(rest: Rest, account: Account, installation: str, remnant: Remnant) -> None:
    """Delete one that is still ours."""
    there = await found(rest, account, installation, None)
    if any((each.kind, each.name, each.region) == (remnant.kind, remnant.name, remnant.region) for each in there):
        listed, places = _KINDS[remnant.kind]
        await rest.removed(account, f"{places}/{remnant.region}/{listed}/{remnant.name}")
