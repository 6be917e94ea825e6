"""Calls about managed jobs: launch, list, cancel, follow, tell the story of."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from sky.core.errors import ClientError, JobExitCode
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.statuses import ManagedJobStatus
from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.core.ports import JobQuery
from sky.server.api import Api
from sky.server.asgi import Call, Route, Stream
from sky.server.permissions import no_managed_job
from sky.server.routes.jobs import PIECE
from sky.wire.clusters import event_record
from sky.wire.codec import decode, plain
from sky.wire.jobs import Frame, frame, line
from sky.wire.managed_jobs import (
    EventRecord,
    JobsCancelBody,
    JobsEventsBody,
    JobsLaunchBody,
    JobsLogsBody,
    JobsQueueAnswer,
    JobsQueueBody,
    JobsWaitBody,
    JobsWaited,
    ManagedJobRecord,
    managed_job_records,
)
from sky.wire.openapi import Operation
from sky.wire.protocol import LONGEST_WAIT_S, MEDIA_FRAMES

#: Seconds for a parent to end after its members have.
_FOLLOWED_S = 30.0


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def queue(body: JobsQueueBody, caller: Caller) -> JobsQueueAnswer:
        return await _queue(api, body, caller)

    async def wait(body: JobsWaitBody, caller: Caller) -> JobsWaited:
        return await _wait(api, body, caller)

    async def events(body: JobsEventsBody, caller: Caller) -> list[EventRecord]:
        job = await api.may.managed_job(caller, body.job_id)
        if job is None:
            raise no_managed_job(body.job_id)
        return [event_record(entry) for entry in await plane.managed.story(job)]

    async def logs(call: Call) -> Stream:
        body = decode(JobsLogsBody, await call.body())
        if body.tail < 0 or (body.offset or 0) < 0:
            raise ClientError("tail and offset are not negative.")
        return Stream(api.stream(_log(api, body, await _meant(api, body, call.caller))))

    return [
        api.mutation("/jobs/launch", JobsLaunchBody, "Run tasks as a managed job, on clusters of its own"),
        api.mutation("/jobs/cancel", JobsCancelBody, "End managed jobs and their clusters"),
        api.read("/jobs/queue", JobsQueueBody, JobsQueueAnswer, "Managed jobs and how they are", queue),
        api.read("/jobs/wait", JobsWaitBody, JobsWaited, "Wait until a managed job has ended", wait),
        api.read("/jobs/events", JobsEventsBody, list[EventRecord], "The story of a managed job", events),
        api.plain(
            Operation(
                "POST",
                "/jobs/logs",
                "A managed job's log, over all of its recoveries",
                body=JobsLogsBody,
                answer=Frame,
                media=MEDIA_FRAMES,
                right=Right.READ,
            ),
            logs,
        ),
    ]


async def _queue(api: Api, body: JobsQueueBody, caller: Caller) -> JobsQueueAnswer:
    now = api.plane.clock.now()
    query = await api.may.to_list(
        caller,
        JobQuery(
            numbers=body.job_ids,
            users=None if body.all_users or body.job_ids is not None else [caller.user],
            statuses=body.statuses,
            unfinished=body.skip_finished,
            after=body.submitted_after,
            before=body.submitted_before,
            limit=None if body.infra_match or body.name_match else body.limit,
        ),
    )
    listed = await api.plane.managed.listed(query)
    jobs = [job for job in listed.jobs if _matches(job, body)]
    counts = listed.counts
    if len(jobs) != len(listed.jobs):
        counts = {}
        for job in jobs:
            counts[job.status.value] = counts.get(job.status.value, 0) + 1
    shown = jobs if body.limit is None else jobs[: body.limit]
    told: list[ManagedJobRecord] = []
    for job in shown:
        told += managed_job_records(job, now, await api.plane.managed.why_tasks(job) if body.why else None)
    whole = replace(JobQuery(), users=query.users, workspaces=query.workspaces, limit=0)
    everything = await api.plane.managed.listed(whole)
    return JobsQueueAnswer(
        jobs=[_only(plain(each), body.fields) for each in told],
        total=sum(counts.values()),
        status_counts=dict(counts),
        total_no_filter=sum(everything.counts.values()),
    )


def _only(record: dict[str, object], fields: Iterable[str] | None) -> dict[str, object]:
    if fields is None:
        return record
    return {name: record[name] for name in fields if name in record}


def _matches(job: ManagedJob, body: JobsQueueBody) -> bool:
    if body.name_match is not None and body.name_match not in job.name:
        return False
    places = [task.where.infra for task in job.tasks if task.where is not None]
    return body.infra_match is None or any(body.infra_match in each for each in places)


async def _meant(api: Api, body: JobsLogsBody | JobsWaitBody, caller: Caller) -> ManagedJob | None:
    """The job whose log is asked for: by its number, or the newest that has the name, or the newest."""
    if body.job_id is not None:
        return await api.may.managed_job(caller, body.job_id)
    query = await api.may.to_list(caller, JobQuery(users=[caller.user], name=body.name, limit=1))
    listed = await api.plane.managed.listed(query)
    return listed.jobs[0] if listed.jobs else None


def _tasks(job: ManagedJob, asked: str | int | None) -> list[int] | None:
    """Positions of the tasks that are meant; None if there is no such task."""
    if asked is None:
        # Those that decide the end first: the others may go on until then.
        last = [at for at in range(len(job.tasks)) if job.group is not None and not job.group.is_primary(at)]
        return [at for at in range(len(job.tasks)) if at not in last] + last
    if isinstance(asked, int) or asked.isdecimal():
        at = int(asked)
        return [at] if 0 <= at < len(job.tasks) else None
    found = [at for at, task in enumerate(job.tasks) if task.name == asked]
    return found[:1] or None


async def _wait(api: Api, body: JobsWaitBody, caller: Caller) -> JobsWaited:
    job = await _meant(api, body, caller)
    tasks = None if job is None else _tasks(job, body.task)
    if job is None or tasks is None:
        return JobsWaited(job_id=None, status=None, code=int(JobExitCode.NOT_FOUND))
    at = None if body.task is None else tasks[0]
    job = await api.plane.managed.wait(job, at, min(max(body.timeout, 0.0), LONGEST_WAIT_S))
    status = job.status if at is None else job.tasks[at].status
    return JobsWaited(job_id=job.number, status=status.value, code=int(JobExitCode.from_job_status(status)))


async def _log(api: Api, body: JobsLogsBody, job: ManagedJob | None) -> AsyncIterator[bytes]:
    tasks = None if job is None else _tasks(job, body.task)
    if job is None or tasks is None:
        yield line(Frame(end="NOT_FOUND", code=int(JobExitCode.NOT_FOUND)))
        return
    yield line(Frame(job=job.number))
    begin, offset, tail = 0, body.offset, body.tail
    for at in tasks:
        # Offsets count over the logs of all tasks that were asked for, one after another.
        start = None if offset is None else max(0, offset - begin)
        end = begin
        first = tail if at == tasks[-1] or len(tasks) == 1 or not job.tasks[at].status.is_terminal() else 0
        async for piece in api.plane.managed.log(job, at, follow=body.follow, tail=first, offset=start):
            for cut in range(0, len(piece.data), PIECE):
                part = piece.data[cut : cut + PIECE]
                yield frame(part, begin + piece.next - len(piece.data) + cut + len(part))
            end = begin + piece.next
        begin = end
        job = await api.plane.managed.get(job.id) or job
        if job.group is None and job.tasks[at].status is not ManagedJobStatus.SUCCEEDED:
            break
    if body.follow and job.group is not None:
        # What has become of the members is seen by the one that leads them a moment later.
        job = await api.plane.managed.wait(job, None if body.task is None else tasks[0], _FOLLOWED_S)
    status = job.status if body.task is None else job.tasks[tasks[0]].status
    yield line(Frame(end=status.value, code=int(JobExitCode.from_job_status(status))))
