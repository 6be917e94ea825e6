"""Calls about places with compute: access, accelerators, plans."""

from collections.abc import Mapping

from sky.core.model.tasks import TaskSpec
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.infra import (
    AcceleratorOffer,
    AcceleratorsBody,
    AccessRecord,
    CheckBody,
    DagBody,
    EnabledCloudsBody,
    PlanRecord,
    accelerator_offers,
    access_record,
    plan_record,
)

DEFAULT_WORKSPACE = "default"


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def check(body: CheckBody) -> dict[str, dict[str, AccessRecord]]:
        found = await plane.check(body.infra_list)
        return {body.workspace or DEFAULT_WORKSPACE: {access.cloud: access_record(access) for access in found}}

    async def enabled(body: EnabledCloudsBody) -> list[str]:
        return [access.cloud for access in await plane.check(None) if access.enabled]

    async def accelerators(body: AcceleratorsBody) -> dict[str, list[AcceleratorOffer]]:
        return accelerator_offers(await plane.offers(), body)

    async def counts(body: AcceleratorsBody) -> dict[str, list[float]]:
        found = accelerator_offers(await plane.offers(), body)
        return {name: sorted({row.accelerator_count for row in rows}) for name, rows in found.items()}

    async def optimize(body: DagBody) -> list[PlanRecord]:
        return [plan_record(_name(task), await plane.plan(task)) for task in body.tasks]

    async def validate(body: DagBody) -> None:
        for task in body.tasks:
            TaskSpec.from_config(task)

    return [
        api.read("/check", CheckBody, dict[str, dict[str, AccessRecord]], "Which places can be used, and why", check),
        api.read("/enabled_clouds", EnabledCloudsBody, list[str], "Places that can be used", enabled),
        api.read(
            "/list_accelerators", AcceleratorsBody, dict[str, list[AcceleratorOffer]], "Accelerators", accelerators
        ),
        api.read("/list_accelerator_counts", AcceleratorsBody, dict[str, list[float]], "Counts on offer", counts),
        api.read("/optimize", DagBody, list[PlanRecord], "Where tasks would run, and what was left out", optimize),
        api.read("/validate", DagBody, None, "Check tasks without running them", validate),
    ]


def _name(task: Mapping[str, object]) -> str | None:
    name = task.get("name")
    return name if isinstance(name, str) else None
