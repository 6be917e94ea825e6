"""Calls about places with compute: access and accelerators."""

from dataclasses import replace

from sky.core.model.users import Caller
from sky.core.model.workspaces import DEFAULT, Workspace
from sky.core.policy.rights import LOCAL
from sky.core.ports import Access
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.infra import (
    AcceleratorOffer,
    AcceleratorsBody,
    AccessRecord,
    CheckBody,
    EnabledCloudsBody,
    accelerator_counts,
    accelerator_listings,
    accelerator_offers,
    access_record,
)

#: Why `local` is not there for those who are no admins.
_LOCAL_HINT = (
    "Jobs there run as the user of the server itself, who may do everything: it is for admins, unless the workspace "
    "says `local: {disabled: false}`."
)


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def space(caller: Caller, name: str | None) -> Workspace:
        if name is None:
            return api.may.infra(caller, await plane.workspaces.get(DEFAULT))
        return api.may.infra(caller, await api.may.workspace(caller, name, to_see=True))

    async def check(body: CheckBody, caller: Caller) -> dict[str, dict[str, AccessRecord]]:
        within = await space(caller, body.workspace)
        found = [_within(within, each) for each in await plane.check(body.infra_list)]
        return {within.name: {access.cloud: access_record(access) for access in found}}

    async def enabled(body: EnabledCloudsBody, caller: Caller) -> list[str]:
        within = await space(caller, body.workspace)
        return sorted(cloud for cloud in await plane.enabled() if not within.disabled(cloud))

    async def accelerators(body: AcceleratorsBody, _: Caller) -> dict[str, list[AcceleratorOffer]]:
        return accelerator_offers(await plane.offers(), body, accelerator_listings(plane.catalogs.current(), body))

    async def counts(body: AcceleratorsBody, _: Caller) -> dict[str, list[float]]:
        return accelerator_counts(await plane.offers(), body, accelerator_listings(plane.catalogs.current(), body))

    return [
        api.read("/check", CheckBody, dict[str, dict[str, AccessRecord]], "Which places can be used, and why", check),
        api.read("/enabled_clouds", EnabledCloudsBody, list[str], "Places that can be used", enabled),
        api.read(
            "/list_accelerators", AcceleratorsBody, dict[str, list[AcceleratorOffer]], "Accelerators", accelerators
        ),
        api.read("/list_accelerator_counts", AcceleratorsBody, dict[str, list[float]], "Counts on offer", counts),
    ]


def _within(workspace: Workspace, access: Access) -> Access:
    """What is said of a place, in a workspace that may not use it."""
    if not workspace.disabled(access.cloud):
        return access
    why = f"workspace '{workspace.name}' does not use {access.cloud}"
    hint = _LOCAL_HINT if access.cloud == LOCAL else ""
    return replace(access, enabled=False, capabilities=(), reason=why, hint=hint)
