"""What all routes share: the control plane, the kept reads, the uploads, and how the two kinds of call are answered.

A *read* is carried out at once and answered with its result; a *mutation* is put on record and answered with its
request's id. Built by `server.app`, used by `server.routes`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sky.core.errors import RequestAlreadyExistsError, ServerTemporarilyUnavailableError, to_wire
from sky.core.model.requests import Request
from sky.core.model.users import Caller
from sky.core.policy.rights import Right
from sky.kit.ids import request_id as new_request_id
from sky.server.asgi import Call, Handler, Reply, Route
from sky.server.authentication import Authentication
from sky.server.blobs import BlobStore
from sky.server.failures import Draining, told
from sky.server.metrics import Metrics
from sky.server.objects import far_of
from sky.server.passwords import Passwords
from sky.server.people import People
from sky.server.permissions import Permissions
from sky.server.pieces import Pieces, pieces
from sky.server.plane import ControlPlane
from sky.server.policies import NAMES, Policies
from sky.server.quota import Quota
from sky.server.reads import Read, Reads
from sky.server.settings import Settings
from sky.wire.codec import Body, decode, encode, plain
from sky.wire.jobs import AGAIN, HEARTBEAT, Frame, line
from sky.wire.openapi import Operation
from sky.wire.protocol import HEADER_API_VERSION, HEADER_REQUEST_ID, HEADER_VERSION, HEARTBEAT_S, is_request_id
from sky.wire.requests import Submitted

B = TypeVar("B", bound=Body)
#: Work of a read that is given back as JSON already.
Encoded = Callable[[B, Caller], Awaitable[bytes | Pieces]]

#: What those hear who still wait when the owner stops the server.
STOPPED = "The API server was stopped (`sky api stop`). What it was asked for goes on when it is started again."

#: Seconds that the end of the process waits for calls under way.
DRAIN_S = 5.0

_ID_HEADER = HEADER_REQUEST_ID.lower().encode()


class Api:
    """The server's side of every call."""

    def __init__(
        self,
        plane: ControlPlane,
        settings: Settings,
        people: People,
        ways: Authentication,
        *,
        token_on: bool,
        started_at: float,
        pid: int,
    ) -> None:
        self.plane = plane
        self.people = people
        self.passwords = Passwords(people)
        self.ways = ways
        self.may = Permissions(plane)
        self.policies = Policies(plane.configuration)
        self.settings = settings
        self.token_on = token_on
        self.started_at = started_at
        self.pid = pid
        self.reads = Reads()
        self.blobs = BlobStore(settings.passing / "blobs", far=far_of(settings, plane.clock.now))
        self.quota = Quota(plane.clock, lambda: plane.section("api_server"))
        self.open_streams = 0
        self.metrics = Metrics()
        #: Set when the process is to end soon: nothing new is taken on, reads are still answered.
        self.draining = False
        self._at_work = 0
        self._idle = asyncio.Event()
        #: Set when the process is about to end; streams and long waits then let go.
        self.stopping = asyncio.Event()
        #: Whether the end is a command of the owner, so that clients should not bring the server back.
        self.stopped_on_command = False

    # --- the two kinds of call ---------------------------------------------------------------------------------------

    def read(
        self,
        path: str,
        kind: type[B],
        answer: Any,
        summary: str,
        work: Callable[[B, Caller], Awaitable[object]],
        right: Right = Right.READ,
        *,
        audited: bool | None = None,
    ) -> Route:
        """A route for a call that is carried out at once and gives something that can be encoded."""

        async def encoded(body: B, caller: Caller) -> bytes:
            return encode(await work(body, caller))

        return self.read_encoded(path, kind, answer, summary, encoded, right, audited=audited)

    def read_encoded(
        self,
        path: str,
        kind: type[B],
        answer: Any,
        summary: str,
        work: Encoded[B],
        right: Right = Right.READ,
        *,
        audited: bool | None = None,
    ) -> Route:
        """A route for a read whose work gives JSON."""
        name = path.strip("/")

        async def handle(call: Call) -> Reply:
            body = decode(kind, await call.body())
            id = self._request_id(call) or new_request_id()
            now = self.plane.clock.now()
            headers = [(_ID_HEADER, id.encode())]
            try:
                with self.at_work():
                    result = await work(body, call.caller)
            except Exception as failed:  # noqa: BLE001 - it becomes the answer, and is kept for a late `get`
                status, wire = told(failed)
                error = encode(wire)
                self.reads.keep(Read(id, name, now, error=error, user=call.user))
                return Reply(b'{"request_id":"%s","error":%s}' % (id.encode(), error), status, headers)
            self.reads.keep(Read(id, name, now, result=result, user=call.user))
            return Reply(pieces(result).within(b'{"request_id":"%s","result":' % id.encode(), b"}"), 200, headers)

        operation = Operation(
            "POST", path, summary, body=kind, answer=answer, right=right, audited=audited, enveloped=True
        )
        return Route(operation, handle)

    def mutation(
        self,
        path: str,
        kind: type[B],
        summary: str,
        extra: Mapping[str, object] | None = None,
        right: Right = Right.USE,
    ) -> Route:
        """A route that puts a request on record; `extra` is added to what the plane is given."""
        name = path.strip("/")

        async def handle(call: Call) -> Reply:
            body = {**plain(decode(kind, await call.body())), **(extra or {})}
            if self.draining:
                raise Draining("The API server is about to end; ask again in a moment.")
            id = self._request_id(call)
            if name in NAMES and (body.get("task") or body.get("dag")):
                allow = self.tasks_allowed if "dag" in body else self._allowed
                body = {**await allow(call, name, kind, body), **(extra or {})}
            scope = await self.may.for_request(call.caller, name, body)
            call.workspace = scope.workspace
            with self.at_work():
                request = await self.plane.submit(
                    name, body, user=call.user, request_id=id, workspace=scope.workspace, reach=scope.reach
                )
            if (request.user, request.name) != (call.user, name):
                raise RequestAlreadyExistsError(f"The request id {id} is taken; send another.")
            return self.submitted(request)

        return Route(Operation("POST", path, summary, body=kind, answer=Submitted, right=right), handle)

    async def _allowed(self, call: Call, name: str, kind: type[B], body: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the administrator's policy wants them."""
        options = {key: body.get(key) for key in ("cluster_name", "idle_minutes_to_autostop", "down", "dryrun")}
        allowed = await self.policies.judge(name, body["task"], body["config"], options, call.caller, client_of(call))
        if allowed.task is body["task"]:
            return body
        # What a policy makes of a request is held to the same rules as what users make.
        asked = {key: value for key, value in body.items() if key in kind.__struct_fields__}
        changed: dict[str, Any] = plain(decode(kind, encode({**asked, "task": allowed.task, "config": allowed.config})))
        return changed

    async def tasks_allowed(self, call: Call, name: str, kind: type[B], body: dict[str, Any]) -> dict[str, Any]:
        """The same of several tasks, each of which the policy sees by itself."""
        tasks = list(body["dag"]["tasks"])
        config = body["config"]
        for at, task in enumerate(tasks):
            allowed = await self.policies.judge(name, task, config, {}, call.caller, client_of(call))
            tasks[at], config = dict(allowed.task), dict(allowed.config)
        changed: dict[str, Any] = plain(
            decode(kind, encode({**body, "dag": {**body["dag"], "tasks": tasks}, "config": config}))
        )
        return changed

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Counts a call that ends by itself, and soon; the end of the process waits a little for these."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    async def drain(self, notice_s: float) -> None:
        """Take on nothing new. Returns after `notice_s`, once calls have been answered, but after `DRAIN_S` at most."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(notice_s + DRAIN_S):
                await asyncio.sleep(notice_s)
                while self._at_work:
                    self._idle.clear()
                    await self._idle.wait()

    async def metrics_text(self) -> str:
        """Everything that is counted, as Prometheus reads it."""
        vitals = await self.plane.upkeep.vitals()
        return self.metrics.text(vitals, streams=self.open_streams, draining=self.draining, started_at=self.started_at)

    def submitted(self, request: Request) -> Reply:
        """The answer that names a request on record."""
        return Reply(encode(Submitted(request_id=request.id)), 200, [(_ID_HEADER, request.id.encode())])

    def plain(self, operation: Operation, handler: Handler) -> Route:
        """Any other route; its operation says what right it needs."""
        return Route(operation, handler)

    def _request_id(self, call: Call) -> str | None:
        id = call.header(HEADER_REQUEST_ID)
        if id is None:
            return None
        if not is_request_id(id):
            raise ValueError(f"The header {HEADER_REQUEST_ID} is not a request id: {id[:80]!r}")
        return id

    # --- streams -----------------------------------------------------------------------------------------------------

    async def stream(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Lines of a stream with signs of life between them, ended in good order when the server stops.

        A failure becomes the last line. The reader of an interrupted stream comes back with its offset.
        """
        self.open_streams += 1
        halt = asyncio.ensure_future(self.stopping.wait())
        step: asyncio.Future[bytes] | None = None
        try:
            while True:
                step = step or asyncio.ensure_future(anext(pieces))
                both: set[asyncio.Future[Any]] = {step, halt}
                await asyncio.wait(both, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if step.done():
                    done, step = step, None
                    yield done.result()
                elif halt.done():
                    yield self._farewell()
                    return
                else:
                    yield HEARTBEAT
        except StopAsyncIteration:
            return
        except Exception as failed:  # noqa: BLE001 - the answer has begun, so the failure travels as its last line
            yield line(Frame(error=told(failed)[1]))
        finally:
            self.open_streams -= 1
            halt.cancel()
            if step is not None:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    def _farewell(self) -> bytes:
        if not self.stopped_on_command:
            return AGAIN
        return line(Frame(error=to_wire(ServerTemporarilyUnavailableError(STOPPED))))

    async def until_stopping(self, work: Awaitable[Request]) -> Request | None:
        """The outcome of a wait, or None if the server stops before. Raises if its owner stopped it."""
        task = asyncio.ensure_future(work)
        halt = asyncio.ensure_future(self.stopping.wait())
        try:
            both: set[asyncio.Future[Any]] = {task, halt}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self.stopped_on_command:
                raise ServerTemporarilyUnavailableError(STOPPED)
            return task.result() if task.done() else None
        finally:
            halt.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def client_of(call: Call) -> tuple[int | None, str | None]:
    """The interface and the version that the client says it has."""
    said, version = call.header(HEADER_API_VERSION), call.header(HEADER_VERSION)
    return (int(said) if said is not None and said.isdecimal() else None), version
