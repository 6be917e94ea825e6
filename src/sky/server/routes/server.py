"""Calls about the server itself: is it well, what does it say about itself, stop it."""

from collections.abc import AsyncIterator, Callable

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route, Stream
from sky.server.routes.requests import LOOK_S, last_lines, number, read_from, switch
from sky.version import API_VERSION, __version__
from sky.wire.clusters import user_hash
from sky.wire.codec import decode, encode
from sky.wire.jobs import Frame, frame, line
from sky.wire.openapi import Operation, document
from sky.wire.protocol import MEDIA_FRAMES
from sky.wire.requests import APIHealthResponse, ShutdownBody


def routes(api: Api, stop: Callable[[], None]) -> list[Route]:
    """The routes of this noun; `stop` begins the end of the process."""

    async def health(call: Call) -> Reply:
        # Who does not say who they are learns no more than that somebody is there.
        user = {"id": user_hash(call.user), "name": call.user, "role": call.caller.role.value} if call.user else None
        told = APIHealthResponse(
            status="healthy",
            api_version=str(API_VERSION),
            version=__version__,
            version_on_disk=__version__,
            commit="",
            user=user,
            service_account_token_enabled=api.token_on,
            external_proxy_auth_enabled=api.ways.proxy is not None,
            oidc_enabled=api.ways.oidc is not None,
            pid=api.pid if call.local else None,
            started_at=api.started_at if call.local else None,
            # Something that somebody has to look at; strangers are not told, and cost no look.
            notice=await api.plane.upkeep.notice() if call.user else "",
        )
        return Reply(encode(told))

    async def shutdown(call: Call) -> Reply:
        body = decode(ShutdownBody, await call.body())
        if body.if_idle:
            open_requests = await api.plane.requests(finished=False, cluster_name=None, limit=1)
            if open_requests or api.open_streams:
                raise ServerTemporarilyUnavailableError("The API server is busy and was not stopped.")
        else:
            api.stopped_on_command = True
        stop()
        return Reply()

    async def logs(call: Call) -> Stream:
        query = call.query()
        path = api.settings.log_file
        tail, follow = number(query, "tail", 0), switch(query, "follow", True)
        start = number(query, "offset", 0) or (last_lines(path, tail) if tail else 0)

        async def pieces() -> AsyncIterator[bytes]:
            offset = start
            while True:
                while said := read_from(path, offset):
                    offset += len(said)
                    yield frame(said, offset)
                if not follow:
                    break
                await api.plane.clock.sleep(LOOK_S)
            yield line(Frame(end="SUCCEEDED"))

        return Stream(api.stream(pieces()))

    following = (("offset", "integer"), ("tail", "integer"), ("follow", "boolean"))
    return [
        api.plain(Operation("GET", "/health", "Is it well", answer=APIHealthResponse, right=Right.PUBLIC), health),
        api.plain(Operation("GET", "/api/health", "Is it well", answer=APIHealthResponse, right=Right.PUBLIC), health),
        api.plain(
            Operation("POST", "/api/shutdown", "Stop the server", body=ShutdownBody, right=Right.OWNER), shutdown
        ),
        api.plain(
            Operation(
                "GET",
                "/api/server_logs",
                "What the server says",
                answer=Frame,
                query=following,
                media=MEDIA_FRAMES,
                right=Right.ADMIN,
                audited=False,
            ),
            logs,
        ),
    ]


def openapi(api: Api, others: list[Route]) -> Route:
    """The route that describes all routes, itself included."""
    me = Operation("GET", "/openapi.json", "This document", right=Right.PUBLIC)
    kept: list[bytes] = []

    async def handle(call: Call) -> Reply:
        if not kept:
            kept.append(encode(document([*(route.operation for route in others), me])))
        return Reply(kept[0])

    return api.plain(me, handle)
