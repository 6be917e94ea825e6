"""Works on requests: one coroutine each, found again after a crash, called off when asked.

Run by `work.Driver` under `plane`; what a request does is its handler in `launch` or `operations`.
"""

import asyncio
import logging
from collections.abc import Mapping

from sky.core.errors import NotSupportedError, SkyError, to_wire
from sky.core.lifecycle import requests as life
from sky.core.lifecycle.machine import Table
from sky.core.model.audit import AuditLine
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus
from sky.engine.desk import Desk, Handler
from sky.engine.turns import Limits, Turns

log = logging.getLogger(__name__)


class RequestWork:
    """The noun `request` for the engine's loop."""

    name = "request"
    table: Table[Request] = life.TABLE

    def __init__(self, desk: Desk, handlers: Mapping[str, Handler], turns: Turns | None = None) -> None:
        self._turns = turns or Turns(Limits)
        self.rows = desk.store.requests
        self._desk = desk
        self._handlers = handlers
        #: Lines of the audit log that are being written.
        self._noting: set[asyncio.Future[None]] = set()

    def id_of(self, entity: Request) -> str:
        return entity.id

    def due_at(self, entity: Request, now: float) -> None:
        return None

    def due_event(self) -> None:
        return None

    def before_order(self, entity: Request, order: object) -> object:
        return life.Begun()

    def put_down(self, entity: Request) -> object | None:
        return life.PutDown() if entity.status is RequestStatus.RUNNING else None

    def committed(self, before: Request, after: Request) -> None:
        """Wake who waits for the request."""
        self._desk.signals.notify(f"request:{after.id}")
        if after.status is RequestStatus.FAILED and before.status is not RequestStatus.FAILED:
            log.info("request %s (%s) failed: %s", after.id, after.name, (after.error or {}).get("message"))
        if after.status.is_terminal() and not before.status.is_terminal():
            noting = asyncio.ensure_future(self._desk.store.audit.add(_end_of(after, self._desk.clock.now())))
            self._noting.add(noting)
            noting.add_done_callback(self._noted)

    def _noted(self, noting: "asyncio.Future[None]") -> None:
        self._noting.discard(noting)
        if not noting.cancelled() and (error := noting.exception()) is not None:
            log.error("the end of a request is not in the audit log: %s", error)

    def _tell_waiting(self, request: Request) -> None:
        self._desk.talk.say(request.id, f"waiting for its turn; {self._turns.waiting} wait at this server")

    def crashed(self, order: object, error: Exception) -> object:
        return life.Failed(to_wire(SkyError(f"internal error, see the server's log: {type(error).__name__}: {error}")))

    async def glance(self, entity: Request, order: object) -> None:
        return None

    async def act(self, entity: Request, key: str, order: object) -> object:
        """Carry the request out; an error that users can be told about is an outcome, not an accident."""
        handler = self._handlers.get(entity.name)
        try:
            if handler is None:
                raise NotSupportedError(f"this server does not know requests named {entity.name!r}")
            async with self._turns.turn(entity.name, entity.user, lambda: self._tell_waiting(entity)):
                return life.Finished(await handler(self._desk, entity))
        except (SkyError, ValueError, PermissionError, FileNotFoundError) as error:
            return life.Failed(to_wire(error))
        finally:
            # Whoever sees that it has ended has all that was said before.
            await self._desk.talk.written()


def _end_of(request: Request, now: float) -> AuditLine:
    """The line of the audit log that says how a request ended; the calls that opened it are there already."""
    error = (request.error or {}).get("type")
    return AuditLine(
        at=now,
        # Its own call, so that it stands beside the one that opened it.
        call=f"{request.id[:36]}-end",
        user=request.user,
        via="request",
        address="",
        operation=f"end of {request.name}"[:128],
        target=f"cluster {request.cluster_name}"[:512] if request.cluster_name else "",
        workspace=request.workspace,
        request_id=request.id,
        outcome=f"{request.status.value}: {error}"[:128] if error else request.status.value,
    )
