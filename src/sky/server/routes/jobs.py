"""Calls about jobs on a cluster: list, cancel, read logs."""

from collections.abc import AsyncIterator

from sky.core.errors import ClientError, JobExitCode
from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Route, Stream
from sky.wire.codec import decode
from sky.wire.jobs import (
    CancelBody,
    ClusterJobRecord,
    DownloadLogsBody,
    Frame,
    JobStatusBody,
    LogsBody,
    QueueBody,
    frame,
    job_record,
    line,
)
from sky.wire.openapi import Operation
from sky.wire.protocol import MEDIA_FRAMES

#: Bytes of log in one line of a stream.
PIECE = 64 * 1024


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    plane = api.plane

    async def queue(body: QueueBody, caller: Caller) -> list[ClusterJobRecord]:
        await api.may.to_see(caller, body.cluster_name)
        jobs = await plane.jobs(body.cluster_name, skip_finished=body.skip_finished, job_ids=None)
        now = plane.clock.now()
        return [job_record(job, now) for job in jobs if body.all_users or job.user == caller.user]

    async def job_status(body: JobStatusBody, caller: Caller) -> dict[str, str | None]:
        await api.may.to_see(caller, body.cluster_name)
        if body.job_ids is None:
            jobs = await plane.jobs(body.cluster_name, skip_finished=False, job_ids=None)
            numbered = [job for job in jobs if job.job_id is not None]
            newest = max(numbered, key=lambda job: job.job_id or 0, default=None)
            return {str(newest.job_id): newest.status.value} if newest else {}
        jobs = await plane.jobs(body.cluster_name, skip_finished=False, job_ids=body.job_ids)
        found = {job.job_id: job.status.value for job in jobs}
        return {str(id): found.get(id) for id in body.job_ids}

    async def logs(call: Call) -> Stream:
        body = decode(LogsBody, await call.body())
        if body.which not in ("run", "setup", "node"):
            raise ClientError(f"which: {body.which[:40]!r} is none of run, setup, node")
        if body.tail < 0 or (body.offset or 0) < 0:
            raise ClientError("tail and offset are not negative.")
        await api.may.to_see(call.caller, body.cluster_name)
        return Stream(api.stream(_job_log(api, body)))

    async def logs_to_keep(body: DownloadLogsBody, caller: Caller) -> dict[str, list[str | None]]:
        await api.may.to_see(caller, body.cluster_name)
        ids = body.job_ids or None
        jobs = await plane.jobs(body.cluster_name, skip_finished=False, job_ids=ids)
        if ids is None:
            jobs = sorted(jobs, key=lambda job: job.job_id or 0)[-1:]
        return {str(job.job_id): [job.name, job.log_dir] for job in jobs if job.job_id is not None}

    return [
        api.mutation("/cancel", CancelBody, "Cancel jobs of a cluster"),
        api.read("/queue", QueueBody, list[ClusterJobRecord], "Jobs of a cluster", queue),
        api.read("/job_status", JobStatusBody, dict[str, str | None], "Statuses of jobs by id", job_status),
        api.read(
            "/download_logs",
            DownloadLogsBody,
            dict[str, list[str | None]],
            "Jobs whose logs can be fetched, by id: name and log directory on the cluster; /logs gives the content",
            logs_to_keep,
        ),
        api.plain(
            Operation(
                "POST",
                "/logs",
                "A job's log, line by line",
                body=LogsBody,
                answer=Frame,
                media=MEDIA_FRAMES,
                right=Right.READ,
            ),
            logs,
        ),
    ]


async def _job_log(api: Api, body: LogsBody) -> AsyncIterator[bytes]:
    job = await api.plane.job_outcome(body.cluster_name, body.job_id)
    if job is None or job.job_id is None:
        yield line(Frame(end="NOT_FOUND", code=int(JobExitCode.NOT_FOUND)))
        return
    yield line(Frame(job=job.job_id))
    pieces = api.plane.job_log(
        body.cluster_name,
        job.job_id,
        follow=body.follow,
        tail=body.tail,
        offset=body.offset,
        which=body.which,
        rank=body.rank,
    )
    async for piece in pieces:
        start = piece.next - len(piece.data)
        for at in range(0, len(piece.data), PIECE):
            part = piece.data[at : at + PIECE]
            yield frame(part, start + at + len(part))
        if piece.ended:
            break
    # By its id: the cluster may have been taken down while its log was followed.
    job = await api.plane.job(job.id)
    status = job.status.value if job else None
    yield line(Frame(end=status or "NOT_FOUND", code=int(JobExitCode.from_job_status(status))))
