"""What all routes share: the control plane, the kept reads, the uploads, and how the two kinds of call are answered.

A *read* is carried out at once and answered with its result; a *mutation* is put on record and answered with its
request's id. Built by `server.app`, used by `server.routes`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sky.core.errors import ServerTemporarilyUnavailableError, to_wire
from sky.core.model.requests import Request
from sky.kit.ids import request_id as new_request_id
from sky.server.asgi import Call, Handler, Reply, Route
from sky.server.blobs import BlobStore
from sky.server.failures import Draining, told
from sky.server.metrics import Metrics
from sky.server.plane import ControlPlane
from sky.server.reads import Read, Reads
from sky.server.settings import Settings
from sky.wire.codec import Body, decode, encode, plain
from sky.wire.jobs import AGAIN, HEARTBEAT, Frame, line
from sky.wire.openapi import Operation
from sky.wire.protocol import HEADER_REQUEST_ID, HEARTBEAT_S
from sky.wire.requests import ReadAnswer, Submitted

B = TypeVar("B", bound=Body)
#: Work of a read that is given back as JSON already.
Encoded = Callable[[B], Awaitable[bytes]]

#: What those hear who still wait when the owner stops the server.
STOPPED = "The API server was stopped (`sky api stop`). What it was asked for goes on when it is started again."

#: Seconds that the end of the process waits for calls under way.
DRAIN_S = 5.0

_ID_HEADER = HEADER_REQUEST_ID.lower().encode()
_LONGEST_ID = 128


class Api:
    """The server's side of every call."""

    def __init__(self, plane: ControlPlane, settings: Settings, *, token_on: bool, started_at: float, pid: int) -> None:
        self.plane = plane
        self.settings = settings
        self.token_on = token_on
        self.started_at = started_at
        self.pid = pid
        self.reads = Reads()
        self.blobs = BlobStore(settings.files / "blobs")
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
        self, path: str, kind: type[B], answer: Any, summary: str, work: Callable[[B], Awaitable[object]]
    ) -> Route:
        """A route for a read whose work gives something that can be encoded."""

        async def encoded(body: B) -> bytes:
            return encode(await work(body))

        return self.read_encoded(path, kind, answer, summary, encoded)

    def read_encoded(self, path: str, kind: type[B], answer: Any, summary: str, work: Encoded[B]) -> Route:
        """A route for a read whose work gives JSON."""
        name = path.strip("/")

        async def handle(call: Call) -> Reply:
            body = decode(kind, await call.body())
            id = self._request_id(call) or new_request_id()
            now = self.plane.clock.now()
            headers = [(_ID_HEADER, id.encode())]
            try:
                with self.at_work():
                    result = await work(body)
            except Exception as failed:  # noqa: BLE001 - it becomes the answer, and is kept for a late `get`
                status, wire = told(failed)
                error = encode(wire)
                self.reads.keep(Read(id, name, now, error=error))
                return Reply(b'{"request_id":"%s","error":%s}' % (id.encode(), error), status, headers)
            self.reads.keep(Read(id, name, now, result=result))
            return Reply(b'{"request_id":"%s","result":%s}' % (id.encode(), result), 200, headers)

        return Route(Operation("POST", path, summary, body=kind, answer=answer or ReadAnswer), handle)

    def mutation(self, path: str, kind: type[B], summary: str, extra: Mapping[str, object] | None = None) -> Route:
        """A route that puts a request on record; `extra` is added to what the plane is given."""
        name = path.strip("/")

        async def handle(call: Call) -> Reply:
            body = {**plain(decode(kind, await call.body())), **(extra or {})}
            if self.draining:
                raise Draining("The API server is about to end; ask again in a moment.")
            with self.at_work():
                request = await self.plane.submit(name, body, user=call.user, request_id=self._request_id(call))
            return self.submitted(request)

        return Route(Operation("POST", path, summary, body=kind, answer=Submitted), handle)

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

    def plain(self, operation: Operation, handler: Handler, *, owner_only: bool = False) -> Route:
        """Any other route."""
        return Route(operation, handler, owner_only)

    def _request_id(self, call: Call) -> str | None:
        id = call.header(HEADER_REQUEST_ID)
        if id is None:
            return None
        if not 8 <= len(id) <= _LONGEST_ID or not id.replace("-", "").isalnum() or not id.isascii():
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
