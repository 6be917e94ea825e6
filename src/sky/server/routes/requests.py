"""Calls about requests: wait for one, follow its talk, list, cancel."""

import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from sky.core.errors import ClientError
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus
from sky.core.policy.rights import Right
from sky.server.api import Api
from sky.server.asgi import Call, Reply, Route, Stream
from sky.server.pieces import pieces
from sky.wire.codec import decode, encode
from sky.wire.jobs import Frame, ProvisionLogsBody, frame, line
from sky.wire.openapi import Operation
from sky.wire.protocol import LONGEST_WAIT_S, MEDIA_FRAMES
from sky.wire.requests import CancelRequestsBody, Outcome, RequestPayload, outcome, request_payload

#: Bytes of talk in one line of a stream.
PIECE = 64 * 1024
#: Seconds between looks at a request's talk when no signal comes.
LOOK_S = 1.0


def one(query: dict[str, list[str]], name: str, default: str = "") -> str:
    """A query parameter's last value."""
    return query.get(name, [default])[-1]


def number(query: dict[str, list[str]], name: str, default: int) -> int:
    """A query parameter that is a whole number, not negative. Raises ClientError."""
    said = one(query, name, str(default))
    if not said.isdecimal() or len(said) > 18:
        raise ClientError(f"The parameter {name} is not a number that is zero or more: {said[:40]!r}")
    return int(said)


def switch(query: dict[str, list[str]], name: str, default: bool) -> bool:
    """A query parameter that is true or false. Raises ClientError."""
    said = one(query, name, str(default)).lower()
    if said not in ("true", "false", "1", "0"):
        raise ClientError(f"The parameter {name} is neither true nor false: {said[:40]!r}")
    return said in ("true", "1")


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""
    calls = _Requests(api)
    request_id, wait = ("request_id", "string"), ("timeout", "number")
    stream = (request_id, ("offset", "integer"), ("tail", "integer"), ("follow", "boolean"))
    listing = (("request_ids", "string"), ("all", "boolean"), ("limit", "integer"), ("cluster_name", "string"))
    return [
        api.plain(
            Operation(
                "GET",
                "/api/get",
                "Wait for a request's outcome",
                answer=Outcome,
                query=(request_id, wait),
                right=Right.READ,
            ),
            calls.get,
        ),
        api.plain(
            Operation(
                "GET",
                "/api/stream",
                "Follow a request's talk",
                answer=Frame,
                query=stream,
                media=MEDIA_FRAMES,
                right=Right.READ,
            ),
            calls.stream,
        ),
        api.plain(
            Operation(
                "GET",
                "/api/status",
                "Requests on record",
                answer=list[RequestPayload],
                query=listing,
                right=Right.READ,
            ),
            calls.listing,
        ),
        api.plain(
            Operation(
                "POST",
                "/api/cancel",
                "Cancel requests",
                body=CancelRequestsBody,
                answer=list[str],
                right=Right.USE,
            ),
            calls.cancel,
        ),
        api.plain(
            Operation(
                "POST",
                "/provision_logs",
                "Follow the talk of the request that brought a cluster up",
                body=ProvisionLogsBody,
                answer=Frame,
                media=MEDIA_FRAMES,
                right=Right.READ,
            ),
            calls.provision_logs,
        ),
    ]


class _Requests:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._plane = api.plane

    async def get(self, call: Call) -> Reply:
        query = call.query()
        id = self._named(query)
        read = self._api.reads.find(id, self._plane.clock.now(), call.user)
        if read is not None:
            status = b"SUCCEEDED" if read.error is None else b"FAILED"
            told = (read.id.encode(), encode(read.name), status)
            head = b'{"request_id":"%s","name":%s,"status":"%s","result":' % told
            return Reply(pieces(read.result or b"null").within(head, b',"error":%s}' % (read.error or b"null")))
        request = await self._api.may.request(call.caller, id)
        timeout = self._timeout(query)
        if not request.status.is_terminal() and timeout > 0:
            request = await self._api.until_stopping(self._plane.wait(request.id, timeout)) or request
        return Reply(encode(outcome(request)))

    async def stream(self, call: Call) -> Stream:
        query = call.query()
        id = self._named(query)
        if self._api.reads.find(id, self._plane.clock.now(), call.user) is not None:
            return Stream(self._api.stream(_nothing_said()))
        request = await self._api.may.request(call.caller, id)
        offset, tail = number(query, "offset", 0), number(query, "tail", 0)
        talk = self._talk(request, offset, tail, switch(query, "follow", True))
        return Stream(self._api.stream(talk))

    async def listing(self, call: Call) -> Reply:
        query = call.query()
        limit = number(query, "limit", 0) or None
        cluster = one(query, "cluster_name") or None
        ids = query.get("request_ids", [])
        if ids:
            found: Sequence[Request] = [await self._api.may.request(call.caller, id) for id in ids[:100]]
        else:
            everything, all_seeing = switch(query, "all", False), self._api.may.all_seeing(call.caller)
            known = await self._plane.requests(
                finished=everything, cluster_name=cluster, limit=limit if all_seeing else None
            )
            found = (await self._api.may.requests(call.caller, known))[:limit]
        return Reply(encode([request_payload(request) for request in found]))

    async def cancel(self, call: Call) -> Reply:
        body = decode(CancelRequestsBody, await call.body())
        ids = body.request_ids
        if ids is not None:
            ids = [(await self._api.may.request(call.caller, id, change=True)).id for id in ids]
        elif body.all_users:
            known = await self._plane.requests(finished=False, cluster_name=None, limit=None)
            ids = [each.id for each in await self._api.may.requests(call.caller, known, change=True)]
        return Reply(encode(await self._plane.cancel_requests(ids, user=call.user)))

    async def provision_logs(self, call: Call) -> Stream:
        body = decode(ProvisionLogsBody, await call.body())
        id = await self._plane.launched_by(body.cluster_name)
        if id is None:
            raise ValueError(f"No launch of a cluster {body.cluster_name!r} is on record.")
        request = await self._api.may.request(call.caller, id)
        return Stream(self._api.stream(self._talk(request, max(0, body.offset), max(0, body.tail), body.follow)))

    async def _talk(self, request: Request, offset: int, tail: int, follow: bool) -> AsyncIterator[bytes]:
        path = await self._plane.progress(request.id)
        if tail and not offset:
            offset = last_lines(path, tail)
        with self._plane.signals.watch(f"request:{request.id}") as watch:
            while True:
                # The status is read before the talk: what was said before the end is then never missed.
                request = await self._plane.find_request(request.id)
                path = await self._plane.progress(request.id)
                while said := read_from(path, offset):
                    offset += len(said)
                    yield frame(said, offset)
                if request.status.is_terminal() or not follow:
                    break
                await watch.changed(LOOK_S)
        yield line(Frame(end=request.status.value))

    def _named(self, query: dict[str, list[str]]) -> str:
        id = one(query, "request_id")
        if not id:
            raise ClientError("The parameter request_id is missing.")
        return id

    def _timeout(self, query: dict[str, list[str]]) -> float:
        said = one(query, "timeout", str(LONGEST_WAIT_S))
        try:
            timeout = float(said)
        except ValueError:
            timeout = math.nan
        if not 0 <= timeout < math.inf:
            raise ClientError(f"The parameter timeout is not a number of seconds: {said[:40]!r}")
        return min(timeout, LONGEST_WAIT_S)


async def _nothing_said() -> AsyncIterator[bytes]:
    yield line(Frame(end=RequestStatus.SUCCEEDED.value))


def read_from(path: Path, offset: int) -> bytes:
    """Up to one piece of a file from `offset` on; nothing where there is no file yet."""
    try:
        with path.open("rb") as file:
            if offset >= file.seek(0, 2):
                return b""  # file systems refuse places far beyond what files may have
            file.seek(offset)
            return file.read(PIECE)
    except FileNotFoundError:
        return b""


def last_lines(path: Path, count: int) -> int:
    """The offset at which the last `count` lines of a file begin; 0 where there is no file."""
    try:
        with path.open("rb") as file:
            at = end = file.seek(0, 2)
            found = 0
            while at > 0:
                start = max(0, at - PIECE)
                file.seek(start)
                block = file.read(at - start)
                # A line end at the very end closes the last line; it does not open another.
                stop = len(block) - 1 if at == end else len(block)
                while (stop := block.rfind(b"\n", 0, stop)) >= 0:
                    found += 1
                    if found == count:
                        return start + stop + 1
                at = start
    except FileNotFoundError:
        pass
    return 0
