"""A thin ASGI layer of our own: routes by method and path, bounded bodies, JSON answers, streams.

A framework is not used on purpose: the core install must stay small (uvicorn and msgspec are all that HTTP costs), and
what is needed of one fits here. `server.app` builds an `App` from the routes; uvicorn calls it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from sky.core.errors import ApiServerAuthenticationError, ClientError
from sky.core.model.audit import AuditLine
from sky.core.model.users import Caller, Role, Via
from sky.kit.current import CALL, REQUEST
from sky.kit.tracing import HEADER as TRACE_HEADER
from sky.kit.tracing import TRACING, span, traceparent_of
from sky.server.audit import Auditor, Made
from sky.server.failures import (
    AGAIN_S,
    Draining,
    HeadTooLarge,
    LengthRequired,
    NoSuchRoute,
    SlowBody,
    TooLarge,
    WrongMethod,
    told,
)
from sky.server.pieces import Pieces, pieces
from sky.version import API_VERSION, __version__
from sky.wire.codec import encode
from sky.wire.openapi import Operation
from sky.wire.protocol import (
    HEADER_API_VERSION,
    HEADER_REQUEST_ID,
    HEADER_VERSION,
    MAX_BODY,
    MEDIA_FRAMES,
    MEDIA_JSON,
)

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Bytes of a request's head. uvicorn bounds heads that come in pieces; one that comes in a single read is bounded here.
MAX_HEAD = 32 * 1024
#: Seconds that a client may pause while it sends a body.
BODY_PAUSE_S = 20.0
#: Characters of a request id that the log shows.
_LONGEST_SHOWN = 64

#: Who a call is made by before anybody has asked.
NOBODY = Caller("", Role.VIEWER, Via.NOBODY)

_OURS = [
    # No answer is to be taken for something else than it says it is, or shown inside of somebody else's page.
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (HEADER_API_VERSION.lower().encode(), str(API_VERSION).encode()),
    (HEADER_VERSION.lower().encode(), __version__.encode()),
]
_REQUEST_ID = HEADER_REQUEST_ID.lower().encode()
_JSON = [(b"content-type", MEDIA_JSON.encode()), *_OURS]
_FRAMES = [(b"content-type", MEDIA_FRAMES.encode()), (b"cache-control", b"no-store"), *_OURS]


@dataclass(slots=True)
class Call:
    """One HTTP request. `local` means that it came over the owner's Unix socket."""

    method: str
    path: str
    raw_query: bytes
    raw_headers: Iterable[tuple[bytes, bytes]]
    receive: Receive
    local: bool
    params: Mapping[str, str] = field(default_factory=dict)
    #: The path of the route that answers, as the server names it.
    route: str = "none"
    caller: Caller = NOBODY
    address: str = ""
    #: The workspace that the call turned out to be about, for the audit log.
    workspace: str = ""
    #: A body that was read already.
    kept: bytes | None = None

    @property
    def user(self) -> str:
        """The name of whoever calls."""
        return self.caller.user

    def header(self, name: str) -> str | None:
        """A header's value by its name in any case; the last one if it was sent several times."""
        wanted = name.lower().encode()
        found = None
        for key, value in self.raw_headers:
            if key == wanted:
                found = value
        return None if found is None else found.decode("latin-1")

    def only(self, name: str) -> str | None:
        """A header that may be sent once only. Raises ClientError if it was sent several times."""
        wanted = name.lower().encode()
        found = [value for key, value in self.raw_headers if key == wanted]
        if len(found) > 1:
            raise ClientError(f"The header {name} was sent several times.")
        return found[0].decode("latin-1") if found else None

    def head_size(self) -> int:
        """Bytes of path, query and headers."""
        size = len(self.path) + len(self.raw_query)
        for key, value in self.raw_headers:
            size += len(key) + len(value)
        return size

    def query(self) -> dict[str, list[str]]:
        """Query parameters, each with all its values. Raises ClientError for NUL in one."""
        if b"%00" in self.raw_query or b"\0" in self.raw_query:
            raise ClientError("A parameter holds the character NUL, which nothing here may.")
        found: dict[str, list[str]] = {}
        for key, value in parse_qsl(self.raw_query.decode("latin-1"), keep_blank_values=True):
            found.setdefault(key, []).append(value)
        return found

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Raises TooLarge beyond `limit` bytes, SlowBody if it stops arriving."""
        if self.kept is not None:
            return self.kept
        first, more = await self._piece()
        if not more:
            if len(first) > limit:
                raise TooLarge(f"The request body has more than {limit} bytes.")
            return first
        parts, size = [first], len(first)
        while more:
            piece, more = await self._piece()
            size += len(piece)
            if size > limit:
                raise TooLarge(f"The request body has more than {limit} bytes.")
            parts.append(piece)
        return b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; the caller bounds it."""
        more = True
        while more:
            piece, more = await self._piece()
            if piece:
                yield piece

    async def _piece(self) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(BODY_PAUSE_S):
                message = await self.receive()
        except TimeoutError:
            raise SlowBody(f"No byte of the request body arrived for {BODY_PAUSE_S:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise Gone
        return message.get("body", b""), message.get("more_body", False)


class Gone(Exception):
    """The client hung up; there is nobody to answer."""


@dataclass(slots=True)
class Reply:
    """An answer that is ready. `body` is JSON unless `headers` say otherwise."""

    body: bytes | Pieces = b"{}"
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Stream:
    """An answer that goes on; each item is sent as it comes. Closed when the client hangs up."""

    frames: AsyncIterator[bytes]


#: Method, route, status and seconds of a call.
Seen = Callable[[str, str, int, float], None]
Handler = Callable[[Call], Awaitable[Reply | Stream]]
Gate = Callable[[Call, "Route"], Awaitable[Caller]]


@dataclass(frozen=True, slots=True)
class Route:
    """A call that the server answers."""

    operation: Operation
    handler: Handler


class App:
    """The ASGI application. `gate` says who is calling and that they may, or raises.

    `seen` hears how each call was answered.
    """

    def __init__(self, routes: Iterable[Route], gate: Gate, auditor: Auditor, seen: Seen) -> None:
        self._seen = seen
        self._fixed: dict[str, dict[str, Route]] = {}
        self._open: list[tuple[str, str, dict[str, Route]]] = []
        self._gate = gate
        self._auditor = auditor
        for route in routes:
            path = route.operation.path
            head, brace, rest = path.partition("{")
            if not brace:
                self._fixed.setdefault(path, {})[route.operation.method] = route
            else:
                self._open.append((head, rest.rstrip("}"), {route.operation.method: route}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        server, client = scope.get("server"), scope.get("client")
        call = Call(
            method=scope["method"],
            path=scope["path"],
            raw_query=scope["query_string"],
            raw_headers=scope["headers"],
            receive=receive,
            # uvicorn names a Unix socket by its path, without a port.
            local=server is not None and server[1] is None,
            address=str(client[0])[:64] if client else "",
        )
        begun = time.perf_counter()
        try:
            reply = await (self._traced(call) if TRACING.on else self._answer(call))
        except Gone:
            return
        except Exception as failed:  # noqa: BLE001 - every failure has to become an answer
            status, wire = told(failed)
            reply = Reply(encode({"error": wire}), status)
            if status in (401, 408, 411, 413, 431):
                # What is left of the request is not read, so the connection is of no further use.
                reply.headers.append((b"connection", b"close"))
            if isinstance(failed, Draining):
                reply.headers.append((b"retry-after", b"%d" % AGAIN_S))
        status = 200 if isinstance(reply, Stream) else reply.status
        self._seen(call.method, call.route, status, time.perf_counter() - begun)
        if isinstance(reply, Stream):
            await _stream(reply.frames, receive, send)
        else:
            await _send(reply, send)

    async def _traced(self, call: Call) -> Reply | Stream:
        """Answer within a span: one of the caller's trace, if they say which. Of a stream, until it begins."""
        parent = traceparent_of(call.header(TRACE_HEADER))
        with span(call.method[:20], parent=parent, kind="server", root=True) as made:
            try:
                return await self._answer(call)
            finally:
                if made is not None:
                    made.name(f"{call.method[:20]} {call.route}")
                    made.note(**{"http.route": call.route, "sky.user": call.user})

    async def _answer(self, call: Call) -> Reply | Stream:
        if call.head_size() > MAX_HEAD:
            raise HeadTooLarge(f"The head of the request has more than {MAX_HEAD} bytes.")
        _check_framing(call)
        route = self._find(call)
        call.route = route.operation.path
        REQUEST.set((call.header(HEADER_REQUEST_ID) or "")[:_LONGEST_SHOWN])
        CALL.set(True)
        if not route.operation.on_record:
            call.caller = await self._gate(call, route)
            return await route.handler(call)
        return await self._on_record(call, route)

    async def _on_record(self, call: Call, route: Route) -> Reply | Stream:
        """Carry out a call that changes something, between two lines of the audit log."""
        name = f"{route.operation.method} {route.operation.path}"
        try:
            call.caller = await self._gate(call, route)
        except Exception as failed:
            stranger = isinstance(failed, ApiServerAuthenticationError)
            await self._auditor.refused(_line(call, name), f"refused: {type(failed).__name__}", stranger=stranger)
            raise
        if not route.operation.raw_body:
            call.kept = await call.body()
        line = await self._auditor.begun(_line(call, name), call.kept or b"")
        try:
            reply = await route.handler(call)
        except Exception as failed:
            await self._auditor.ended(line, Made(f"failed: {type(failed).__name__}", workspace=call.workspace))
            raise
        # Of a login only its end knows whose it is.
        line = line._replace(user=call.user, via=call.caller.via.value)
        await self._auditor.ended(line, Made("done", _request_id_of(reply), call.workspace))
        return reply

    def _find(self, call: Call) -> Route:
        methods = self._fixed.get(call.path)
        if methods is None:
            for head, name, choices in self._open:
                tail = call.path[len(head) :]
                if call.path.startswith(head) and tail and "/" not in tail:
                    methods, call.params = choices, {name: tail}
                    break
            else:
                raise NoSuchRoute(f"There is no call {call.path[:200]!r}; /openapi.json lists all.")
        route = methods.get(call.method)
        if route is None:
            raise WrongMethod(f"{call.path[:200]} takes {' or '.join(sorted(methods))}, not {call.method[:20]}.")
        return route


def _line(call: Call, name: str) -> AuditLine:
    caller = call.caller
    return AuditLine(0.0, "", caller.user, caller.via.value, call.address, name, token=caller.token or "")


def _request_id_of(reply: Reply | Stream) -> str:
    if isinstance(reply, Stream):
        return ""
    return next((value.decode() for key, value in reply.headers if key == _REQUEST_ID), "")


def _check_framing(call: Call) -> None:
    """Refuse a body whose end two readers could see in two places: what is behind it could pass for another call."""
    names = [key for key, _ in call.raw_headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise LengthRequired("The request has both a Content-Length and a Transfer-Encoding.")
    if names.count(b"host") > 1 or names.count(b"content-length") > 1:
        raise LengthRequired("The request has the header Host or Content-Length more than once.")


async def _send(reply: Reply, send: Send) -> None:
    kind = _OURS if any(key == b"content-type" for key, _ in reply.headers) else _JSON
    length = (b"content-length", b"%d" % len(reply.body))
    await send(
        {"type": "http.response.start", "status": reply.status, "headers": [*kind, length, *reply.headers]},
    )
    chunks = pieces(reply.body).chunks()
    body = next(chunks)
    for chunk in chunks:
        # Not all at once: whoever reads slowly is waited for, instead of having it all lie here.
        await send({"type": "http.response.body", "body": body, "more_body": True})
        body = chunk
    await send({"type": "http.response.body", "body": body})


async def _stream(frames: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    async def pump() -> None:
        async for piece in frames:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    await send({"type": "http.response.start", "status": 200, "headers": _FRAMES})
    work, end = asyncio.ensure_future(pump()), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        end.cancel()
        await asyncio.gather(work, end, return_exceptions=True)
        close = getattr(frames, "aclose", None)
        if close is not None:
            await close()
