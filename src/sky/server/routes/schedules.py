"""Calls about schedules of managed jobs: add, list, remove, pause."""

from dataclasses import replace

from sky.core.errors import PermissionDeniedError
from sky.core.model.dags import DagSpec
from sky.core.model.schedules import Missed, Overlap, Schedule
from sky.core.model.users import Caller
from sky.core.model.workspaces import Workspace
from sky.core.policy import rights
from sky.core.policy.rights import Right
from sky.engine.managed_requests import check
from sky.kit.cron import Cron
from sky.kit.ids import new_id
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route
from sky.wire.codec import decode, encode, plain
from sky.wire.managed_jobs import JobsLaunchBody
from sky.wire.openapi import Operation
from sky.wire.schedules import ScheduleBody, ScheduleNameBody, ScheduleRecord, SchedulesBody, schedule_record

#: Of all together.
_MOST = 10_000


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Schedules(api)
    return [
        api.read("/jobs/schedule/list", SchedulesBody, list[ScheduleRecord], "Schedules", calls.listing),
        api.plain(
            Operation(
                "POST", "/jobs/schedule/add", "Launch a managed job at the times of a schedule", body=ScheduleBody,
                answer=ScheduleRecord, right=Right.USE,
            ),
            calls.add,
        ),
        api.plain(
            Operation(
                "POST", "/jobs/schedule/remove", "Forget a schedule", body=ScheduleNameBody, right=Right.USE
            ),
            calls.remove,
        ),
        api.plain(
            Operation(
                "POST", "/jobs/schedule/pause", "Launch nothing more for a schedule, or go on", body=ScheduleNameBody,
                answer=ScheduleRecord, right=Right.USE,
            ),
            calls.pause,
        ),
    ]  # fmt: skip


class _Schedules:
    def __init__(self, api: Api) -> None:
        self._api = api

    @property
    def _now(self) -> float:
        return self._api.plane.clock.now()

    async def listing(self, body: SchedulesBody, caller: Caller) -> list[ScheduleRecord]:
        shown = [each for each in await self._seen(caller) if body.all_users or each.user == caller.user]
        return [schedule_record(each) for each in shown]

    async def _seen(self, caller: Caller) -> list[Schedule]:
        spaces, may = await self._api.may.workspaces(), self._api.may
        return [
            each
            for each in await self._api.plane.money.schedule_rows.all()
            if may.all_seeing(caller)
            or rights.looks(caller, each.user, spaces.get(each.workspace) or Workspace(each.workspace, private=True))
        ]

    async def add(self, call: Call) -> Reply:
        body = decode(ScheduleBody, await call.body())
        cron = Cron(body.cron, body.zone)
        launch = plain(decode(JobsLaunchBody, encode(body.launch)))
        # The administrator's policy sees what will be launched once, now: at its times nobody is there to be told.
        launch = await self._api.tasks_allowed(call, "jobs/launch", JobsLaunchBody, launch)
        check(DagSpec.from_config(launch["dag"]))
        scope = await self._api.may.for_request(call.caller, "jobs/launch", launch)
        call.workspace = scope.workspace
        rows, now = self._api.plane.money.schedule_rows, self._now
        if len(await rows.all()) >= _MOST:
            raise ValueError(f"There are {_MOST} schedules, which is the limit.")
        first = cron.following(now)
        drawn = Schedule(
            id=new_id(now),
            name=body.name,
            user=call.user,
            workspace=scope.workspace,
            cron=cron.expression,
            zone=body.zone,
            body=launch,
            reach=str(scope.reach),
            missed=Missed(body.missed),
            overlap=Overlap(body.overlap),
            created_at=now,
            tick_at=first,
            next_at=first,
        )
        if not await rows.add(drawn):
            raise ValueError(
                f"You have a schedule {body.name!r} in the workspace {scope.workspace} already; take another name, or "
                f"remove it first: sky jobs schedule rm {body.name}"
            )
        self._api.plane.signals.notify("schedules")
        return Reply(encode(schedule_record(drawn)))

    async def remove(self, call: Call) -> Reply:
        found = await self._own(call, decode(ScheduleNameBody, await call.body()))
        await self._api.plane.money.schedule_rows.remove(found.id)
        return Reply()

    async def pause(self, call: Call) -> Reply:
        body = decode(ScheduleNameBody, await call.body())
        rows = self._api.plane.money.schedule_rows
        while True:
            found = await self._own(call, body)
            # Times that passed while it was paused are not missed: nobody wanted them.
            ahead = None if body.paused else Cron(found.cron, found.zone).following(self._now)
            wanted = replace(found, paused=body.paused, tick_at=ahead, next_at=ahead, waiting=(), said="")
            if (written := await rows.change(found, wanted)) is not None:
                break
        self._api.plane.signals.notify("schedules")
        return Reply(encode(schedule_record(written)))

    async def _own(self, call: Call, body: ScheduleNameBody) -> Schedule:
        named = [each for each in await self._seen(call.caller) if body.name in (each.name, each.id)]
        found = [each for each in named if each.user == call.user] or named
        if not found:
            raise ValueError(f"There is no schedule {body.name[:80]!r}. `sky jobs schedule list` shows yours.")
        if len(found) > 1:
            raise ValueError(f"Several schedules are called {body.name[:80]!r}: {', '.join(each.id for each in found)}")
        space = (await self._api.may.workspaces()).get(found[0].workspace)
        mine = found[0].user == call.user or self._api.may.all_seeing(call.caller)
        if not mine and (space is None or not rights.acts(call.caller, found[0].user, space)):
            raise PermissionDeniedError(f"The schedule {found[0].name!r} is {found[0].user}'s.")
        return found[0]
