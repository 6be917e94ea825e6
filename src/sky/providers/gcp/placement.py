"""Where machines lie: compact groups, and reservations that are paid for already. `gang` asks before it makes any."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sky.core.errors import InstanceNotFound, RequestInvalid
from sky.providers.gcp.access import Account
from sky.providers.gcp.config import GcpConfig
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.rest import Json, Rest
from sky.providers.gcp.shapes import Shape

_NONE: Json = {"consumeReservationType": "NO_RESERVATION"}
_BY_NAME = "compute.googleapis.com/reservation-name"


def policy(account: Account, mark: str, region: str) -> str:
    """The path of the policy that keeps a cluster's machines close to each other."""
    return f"projects/{account.project}/regions/{region}/resourcePolicies/{mark}"


async def compact(rest: Rest, account: Account, mark: str, region: str, about: str) -> None:
    """Make that policy; `about` is its description."""
    with suppress(AlreadyThere):
        body = {"name": mark, "description": about, "groupPlacementPolicy": {"collocation": "COLLOCATED"}}
        await rest.done(account, f"regions/{region}/resourcePolicies", body)


async def spread_out(rest: Rest, account: Account, mark: str, regions: Sequence[str]) -> None:
    """Remove the policy of a cluster from these regions."""
    for region in regions:
        await rest.removed(account, f"regions/{region}/resourcePolicies/{mark}")


async def affinities(
    rest: Rest, account: Account, config: GcpConfig, made: Shape, zone: str, ranks: Sequence[int]
) -> Mapping[int, Json]:
    """Which reservation each node takes from: named ones as far as they reach, then any that fits if so configured."""
    if made.spot:
        return {rank: _NONE for rank in ranks}
    left = list(ranks)
    chosen: dict[int, Json] = {}
    for named in config.reservations:
        free = await _free(rest, account, named, zone, made)
        for rank in left[:free]:
            chosen[rank] = {
                "consumeReservationType": "SPECIFIC_RESERVATION",
                "key": _BY_NAME,
                "values": [named.removeprefix("/")],
            }
        left = left[free:]
    if config.prefer_reservations or not config.reservations:
        return chosen
    # Those that no named one has room for are paid for; another reservation is somebody else's.
    return chosen | {rank: _NONE for rank in left}


async def _free(rest: Rest, account: Account, named: str, zone: str, made: Shape) -> int:
    """Machines of this type that a reservation still has in a zone; 0 where it is not."""
    parts = named.strip("/").split("/")
    project = parts[1] if parts[0] == "projects" and len(parts) == 4 else account.project
    if len(parts) not in (1, 4):
        raise RequestInvalid(
            f"reservation {named[:120]!r} is not understood; allowed: NAME or projects/PROJECT/reservations/NAME",
            scope="account",
        )
    found: Mapping[str, Any] = {}
    with suppress(InstanceNotFound):
        found = await rest.get(account, f"/projects/{project}/zones/{zone}/reservations/{parts[-1]}")
    block = found.get("specificReservation") or {}
    kind = str((block.get("instanceProperties") or {}).get("machineType", "")).rpartition("/")[2]
    if found.get("status", "READY") != "READY" or kind not in ("", made.machine_type):
        return 0
    try:
        return max(0, int(block.get("count", 0)) - int(block.get("inUseCount", 0)))
    except (TypeError, ValueError):
        return 0
