"""Calls about places with compute: access and accelerators."""

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

DEFAULT_WORKSPACE = "default"


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def check(body: CheckBody) -> dict[str, dict[str, AccessRecord]]:
        found = await plane.check(body.infra_list)
        return {body.workspace or DEFAULT_WORKSPACE: {access.cloud: access_record(access) for access in found}}

    async def enabled(body: EnabledCloudsBody) -> list[str]:
        return sorted(await plane.access.enabled())

    async def accelerators(body: AcceleratorsBody) -> dict[str, list[AcceleratorOffer]]:
        return accelerator_offers(await plane.offers(), body, accelerator_listings(plane.catalogs.current(), body))

    async def counts(body: AcceleratorsBody) -> dict[str, list[float]]:
        return accelerator_counts(await plane.offers(), body, accelerator_listings(plane.catalogs.current(), body))

    return [
        api.read("/check", CheckBody, dict[str, dict[str, AccessRecord]], "Which places can be used, and why", check),
        api.read("/enabled_clouds", EnabledCloudsBody, list[str], "Places that can be used", enabled),
        api.read(
            "/list_accelerators", AcceleratorsBody, dict[str, list[AcceleratorOffer]], "Accelerators", accelerators
        ),
        api.read("/list_accelerator_counts", AcceleratorsBody, dict[str, list[float]], "Counts on offer", counts),
    ]
