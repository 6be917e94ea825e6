"""Calls about plans: where tasks would run, and why not elsewhere."""

from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.engine.plans import Answer, Questions, Said
from sky.server.api import Api
from sky.server.asgi import Route
from sky.wire.plans import CandidateType, DagBody, PlanRecord, candidate_type, plan_record


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    planner = api.plane.planner

    async def optimize(body: DagBody) -> list[PlanRecord]:
        return [_told(each) for each in await planner.optimize(body.dag(), _questions(body))]

    async def types(body: DagBody) -> list[list[CandidateType]]:
        found = await planner.types(body.dag(), all_infra=body.all_infra, said=_said(body))
        return [[candidate_type(each) for each in one] for one in found]

    async def validate(body: DagBody) -> None:
        for task in body.tasks:
            TaskSpec.from_config(task)

    return [
        api.read("/optimize", DagBody, list[PlanRecord], "Where tasks would run, and what was left out", optimize),
        api.read("/optimize_types", DagBody, list[list[CandidateType]], "Instance types that tasks could take", types),
        api.read("/validate", DagBody, None, "Check tasks without running them", validate),
    ]


def _questions(body: DagBody) -> Questions:
    return Questions(
        goal=Goal(body.minimize.lower()),
        explain=body.explain,
        why_not=tuple(body.why_not or ()),
        what_if=tuple(body.what_if or ()),
        when=body.when,
        all_infra=body.all_infra,
        estimates=tuple(body.estimates or ()),
        said=_said(body),
    )


def _said(body: DagBody) -> Said:
    return Said.of(body.config, body.blocked_resources)


def _told(answer: Answer) -> PlanRecord:
    return plan_record(
        answer.task,
        answer.plan,
        answer.enabled,
        answer.places,
        answers=answer.answers,
        comparisons=answer.comparisons,
        chances=answer.chances,
        note=answer.note,
    )
