"""Calls about pools: apply, tell, take down, follow."""

import fnmatch
from collections.abc import AsyncIterator

from sky.core.errors import ClientError, JobExitCode
from sky.core.model.pools import Pool
from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Route, Stream
from sky.server.routes.jobs import PIECE
from sky.wire.codec import decode
from sky.wire.jobs import Frame, frame, line
from sky.wire.openapi import Operation
from sky.wire.pools import PoolApplyBody, PoolDownBody, PoolLogsBody, PoolRecord, PoolStatusBody, pool_record
from sky.wire.protocol import MEDIA_FRAMES


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""

    async def status(body: PoolStatusBody, caller: Caller) -> list[PoolRecord]:
        shown = await api.may.pools(caller)
        if body.names:
            shown = [each for each in shown if any(fnmatch.fnmatchcase(each.name, name) for name in body.names)]
        return [await _told(api, each) for each in shown]

    async def logs(call: Call) -> Stream:
        body = decode(PoolLogsBody, await call.body())
        return Stream(api.stream(_log(api, body, await api.may.pool(call.caller, body.pool_name))))

    return [
        api.mutation("/jobs/pool_apply", PoolApplyBody, "Make a pool of workers, or give one another version"),
        api.mutation("/jobs/pool_down", PoolDownBody, "Take pools and their workers down"),
        api.read("/jobs/pool_status", PoolStatusBody, list[PoolRecord], "Pools and their workers", status),
        api.plain(
            Operation(
                "POST",
                "/jobs/pool_logs",
                "What was decided about a pool, or how a worker was set up",
                body=PoolLogsBody,
                answer=Frame,
                media=MEDIA_FRAMES,
                right=Right.READ,
            ),
            logs,
        ),
    ]


async def _told(api: Api, pool: Pool) -> PoolRecord:
    standing = await api.plane.pools.standing(pool)
    return pool_record(pool, standing, await api.plane.pools.users(standing))


async def _log(api: Api, body: PoolLogsBody, pool: Pool) -> AsyncIterator[bytes]:
    if body.target.lower() == "controller":
        pieces = api.plane.pools.story(pool, follow=body.follow, tail=body.tail, offset=body.offset or 0)
    else:
        worker = next((each for each in pool.workers if each.number == body.worker_id), None)
        if worker is None:
            raise ClientError(f"Pool '{pool.name}' has no worker {body.worker_id}; `sky jobs pool status` shows them.")
        pieces = api.plane.pools.log(pool, worker, follow=body.follow, tail=body.tail, offset=body.offset)
    async for piece in pieces:
        for cut in range(0, len(piece.data), PIECE):
            part = piece.data[cut : cut + PIECE]
            yield frame(part, piece.next - len(piece.data) + cut + len(part))
    yield line(Frame(end="DONE", code=int(JobExitCode.SUCCEEDED)))
