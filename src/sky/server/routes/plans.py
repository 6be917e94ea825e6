"""Calls about plans: where tasks would run, and why not elsewhere."""

from sky.core.model.tasks import TaskSpec
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.plans import CandidateType, DagBody, PlanRecord, candidate_types, plan_record


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    planner = api.plane.planner

    async def optimize(body: DagBody) -> list[PlanRecord]:
        found = await planner.optimize(body.dag(), body.questions())
        return [plan_record(each) for each in found]

    async def types(body: DagBody) -> list[list[CandidateType]]:
        return [candidate_types(each) for each in await planner.types(body.dag(), all_infra=body.all_infra)]

    async def validate(body: DagBody) -> None:
        for task in body.tasks:
            TaskSpec.from_config(task)

    return [
        api.read("/optimize", DagBody, list[PlanRecord], "Where tasks would run, and what was left out", optimize),
        api.read("/optimize_types", DagBody, list[list[CandidateType]], "Instance types that tasks could take", types),
        api.read("/validate", DagBody, None, "Check tasks without running them", validate),
    ]
