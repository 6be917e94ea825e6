"""Calls about budgets: set, list, remove. Who is no admin has budgets of their own alone."""

from dataclasses import replace

from sky.core.errors import NotSupportedError, PermissionDeniedError
from sky.core.model.budgets import Budget, Scope, read_budget
from sky.core.model.users import Caller
from sky.core.policy import rights
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.server.permissions import no_managed_job
from sky.wire.budgets import BudgetBody, BudgetNameBody, BudgetRecord, BudgetsBody, budget_record
from sky.wire.codec import decode, encode
from sky.wire.openapi import Operation

#: Of all together; each is looked at again and again.
_MOST = 1000


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Budgets(api)
    return [
        api.read("/budgets", BudgetsBody, list[BudgetRecord], "Budgets and how they stand", calls.listing),
        api.plain(
            Operation(
                "POST", "/budgets/set", "Set a budget, or change one", body=BudgetBody, answer=BudgetRecord,
                right=Right.USE,
            ),
            calls.put,
        ),
        api.plain(
            Operation("POST", "/budgets/remove", "Forget a budget", body=BudgetNameBody, right=Right.USE), calls.remove
        ),
    ]  # fmt: skip


class _Budgets:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def listing(self, body: BudgetsBody, caller: Caller) -> list[BudgetRecord]:
        plane = self._api.plane
        told = await plane.money.budget_rows.standings(plane.clock.now())
        return [budget_record(one) for one in told if await self._shown(caller, one.budget)]

    async def put(self, call: Call) -> Reply:
        body, plane = decode(BudgetBody, await call.body()), self._api.plane
        rows, now = plane.money.budget_rows, plane.clock.now()
        budget = read_budget(
            body.name,
            body.scope,
            body.of,
            body.amount,
            period=body.period,
            actions=body.actions,
            made_by=call.user,
            now=now,
        )
        if budget.scope is Scope.JOB:
            job = await self._api.may.managed_job(call.caller, int(budget.of))
            if job is None:
                raise no_managed_job(int(budget.of))
            if job.group is not None:
                raise NotSupportedError(
                    f"Managed job {job.number} is {len(job.tasks)} jobs under one number: budgets of those are not "
                    "supported yet. Give its tasks a label and set a budget of that, or max_cost in each."
                )
            budget = replace(budget, origin=job.owner)
        await self._check(call.caller, budget)
        there = await rows.all()
        known = next((each for each in there if each.name == budget.name), None)
        if known is not None:
            await self._check(call.caller, known)
            if (known.scope, known.of, known.period) == (budget.scope, budget.of, budget.period):
                # Raising a total does not forget what was spent of it.
                budget = replace(budget, created_at=known.created_at)
        elif len(there) >= _MOST:
            raise ValueError(f"There are {_MOST} budgets, which is the limit; remove one first: sky budget rm NAME")
        await rows.put(budget)
        standing = next(one for one in await rows.standings(now) if one.budget.name == budget.name)
        return Reply(encode(budget_record(standing)))

    async def remove(self, call: Call) -> Reply:
        body, rows = decode(BudgetNameBody, await call.body()), self._api.plane.money.budget_rows
        known = next((each for each in await rows.all() if each.name == body.name), None)
        if known is None or not await self._shown(call.caller, known):
            raise ValueError(f"There is no budget {body.name[:80]!r}. `sky budget list` shows those there are.")
        await self._check(call.caller, known)
        await rows.remove(known.name)
        return Reply()

    async def _check(self, caller: Caller, budget: Budget) -> None:
        """Raise PermissionDeniedError unless the caller may set this budget, and change it if it is on record."""
        if self._api.may.all_seeing(caller):
            return
        own = budget.made_by == caller.user
        if own and budget.scope is Scope.USER and budget.of == caller.user:
            return
        if own and budget.scope is Scope.JOB and await self._theirs(caller, int(budget.of)):
            return
        if budget.scope is Scope.WORKSPACE:
            space = (await self._api.may.workspaces()).get(budget.of)
            if space is not None and rights.leads(caller, space):
                return
        raise PermissionDeniedError(
            f"The budget '{budget.name}' is about {budget.shown}"
            f"{'' if own else f' and was set by {budget.made_by}'}: {caller.user} may set budgets of their own, of "
            "their jobs, and of workspaces that they administer; an admin may set all."
        )

    async def _theirs(self, caller: Caller, number: int) -> bool:
        job = await self._api.may.managed_job(caller, number)
        return job is not None and job.user == caller.user

    async def _shown(self, caller: Caller, budget: Budget) -> bool:
        if self._api.may.all_seeing(caller):
            return True
        match budget.scope:
            case Scope.USER:
                return budget.of == caller.user
            case Scope.WORKSPACE:
                space = (await self._api.may.workspaces()).get(budget.of)
                return space is not None and rights.sees(caller, space)
            case Scope.JOB:
                return await self._theirs(caller, int(budget.of))
        return False
