"""Networks of their own for the GPUs of a machine (`gcp.enable_gpu_direct`): one card for every one or two GPUs.

They are the project's, made at first use and kept: a network cannot be made for each cluster, a project has few. Only
types whose cards are ordinary ones are known here; the newest have others, in networks that their owner prepares.
"""

import asyncio
import ipaddress
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sky.core.errors import InstanceNotFound, QuotaReached
from sky.providers.gcp import names
from sky.providers.gcp.access import Account
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.rest import Json, Rest
from sky.providers.gcp.shapes import Shape

#: Cards for GPUs beside the one for everything else.
CARDS: Mapping[str, int] = {"a3-edgegpu-8g": 4, "a3-highgpu-8g": 4, "a3-megagpu-8g": 8}
#: Bytes of a packet that GPUs send to each other at their fastest.
_PACKET = 8244
_RANGES = list(ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=20))


async def cards(rest: Rest, account: Account, made: Shape, region: str, tag: str) -> Sequence[Json]:
    """The further cards of a machine; none for types without. `tag` is that of the installation's machines."""
    count = CARDS.get(made.machine_type, 0)
    return await asyncio.gather(*(_card(rest, account, f"sky-gpu-{number}", region, tag) for number in range(count)))


async def _card(rest: Rest, account: Account, name: str, region: str, tag: str) -> Json:
    path = f"projects/{account.project}/global/networks/{name}"
    network = {"name": name, "autoCreateSubnetworks": False, "mtu": _PACKET}
    await _there(rest, account, "global/networks", network)
    where, subnet = f"regions/{region}/subnetworks", f"{name}-{region}"
    try:
        await rest.get(account, f"{where}/{subnet}")
    except InstanceNotFound:
        chosen = await _free(rest, account, name, region)
        await _there(rest, account, where, {"name": subnet, "network": path, "ipCidrRange": chosen})
    rule = {
        "name": names.shared_rule(tag, path, "gpus"),
        "network": path,
        "direction": "INGRESS",
        "targetTags": [tag],
        "sourceTags": [tag],
        "allowed": [{"IPProtocol": "all"}],
    }
    await _there(rest, account, "global/firewalls", rule)
    return {"network": path, "subnetwork": f"projects/{account.project}/{where}/{subnet}", "nicType": "GVNIC"}


async def _there(rest: Rest, account: Account, where: str, body: Mapping[str, Any]) -> None:
    """Make something that stays, unless it is there."""
    try:
        await rest.get(account, f"{where}/{body['name']}")
    except InstanceNotFound:
        with suppress(AlreadyThere):
            await rest.done(account, where, body)


async def _free(rest: Rest, account: Account, network: str, region: str) -> str:
    """Addresses that no subnet of a network has; each region begins to look elsewhere."""
    taken: list[ipaddress.IPv4Network] = []
    async for page in rest.pages(account, "aggregated/subnetworks"):
        for part in (page.get("items") or {}).values():
            for each in part.get("subnetworks") or () if isinstance(part, Mapping) else ():
                if str(each.get("network", "")).rpartition("/")[2] == network:
                    with suppress(ValueError):
                        taken.append(ipaddress.IPv4Network(str(each.get("ipCidrRange"))))
    start = zlib.crc32(region.encode()) % len(_RANGES)
    for chosen in _RANGES[start:] + _RANGES[:start]:
        if not any(chosen.overlaps(each) for each in taken):
            return str(chosen)
    raise QuotaReached(f"network {network} has no addresses left", scope="account")
