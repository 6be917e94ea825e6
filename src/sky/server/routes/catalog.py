"""Calls about the catalog: what it holds, and a newer one."""

from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.catalog import CatalogRecord, CatalogRefreshBody, CatalogStatusBody, QuarantinedRecord, cloud_records


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def status(body: CatalogStatusBody, _: Caller) -> CatalogRecord:
        catalogs = plane.catalogs
        now = catalogs.current()
        return CatalogRecord(
            generation=now.generation,
            clouds=cloud_records(now.summary(), catalogs.refreshable()),
            quarantined=[QuarantinedRecord(**each._asdict()) for each in now.quarantined()] if body.quarantined else [],
        )

    return [
        api.read(
            "/catalog_status", CatalogStatusBody, CatalogRecord, "What the catalog holds, and how old it is", status
        ),
        api.mutation(
            "/catalog_refresh",
            CatalogRefreshBody,
            "Ask places for their prices and swap in what is sound",
            right=Right.ADMIN,
        ),
    ]
