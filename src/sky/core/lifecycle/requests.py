"""The life of a request: recorded, worked on (perhaps by several servers in turn), ended with a result or a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from sky.core.lifecycle.machine import Step, Table
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus
from sky.kit.frozen import replace

#: A request that made its server die this often is ended instead of tried again.
MOST_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker took it; after a crash, another one did."""


@dataclass(frozen=True, slots=True)
class PutDown:
    """Its worker stopped in good order; another one takes it up."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The work is done; `result` is JSON."""

    result: object = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended with an error, in the form that crosses the wire."""

    error: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants it called off."""


@dataclass(frozen=True, slots=True)
class Work:
    """Order: carry the request out."""


EVENTS: tuple[type, ...] = (Begun, PutDown, Finished, Failed, CancelAsked)
ORDERS: tuple[type, ...] = (Work,)

TABLE: Table[Request] = Table("request", RequestStatus, EVENTS, lambda request: request.status)
S = RequestStatus
_ENDED = (S.SUCCEEDED, S.FAILED, S.CANCELLED)
_OPEN = (S.PENDING, S.WAITING, S.RUNNING)


def opening(request: Request) -> Step[Request]:
    """The first step of a new record."""
    return Step(replace(request, status=S.PENDING), (Work(),), "asked")


@TABLE.on(_OPEN, Begun, to={S.RUNNING, S.FAILED})
def begun(request: Request, event: Begun, now: float) -> Step[Request]:
    """Work starts, or starts over after a crash: every handler can be repeated."""
    if request.attempts >= MOST_ATTEMPTS:
        error = {"type": "RequestInterruptedError", "message": f"its server died {request.attempts} times while on it"}
        return Step(replace(request, status=S.FAILED, error=error, finished_at=now), (), str(error["message"]))
    running = replace(request, status=S.RUNNING, attempts=request.attempts + 1, started_at=request.started_at or now)
    return Step(running, None, "begun" if request.started_at is None else "taken up again after an interruption")


@TABLE.on(S.RUNNING, PutDown, to={S.RUNNING})
def put_down(request: Request, event: PutDown, now: float) -> Step[Request]:
    """Nothing died: the attempt does not count."""
    return Step(replace(request, attempts=max(0, request.attempts - 1)))


@TABLE.on(S.RUNNING, Finished, to={S.SUCCEEDED})
def finished(request: Request, event: Finished, now: float) -> Step[Request]:
    """Its result is kept for whoever asks."""
    return Step(replace(request, status=S.SUCCEEDED, result=event.result, finished_at=now), (), "done")


@TABLE.on(S.RUNNING, Failed, to={S.FAILED})
def failed(request: Request, event: Failed, now: float) -> Step[Request]:
    """Its error is kept for whoever asks."""
    text = f"failed: {event.error.get('message', '')}"
    return Step(replace(request, status=S.FAILED, error=event.error, finished_at=now), (), text)


@TABLE.on(_OPEN, CancelAsked, to={S.CANCELLED})
def call_off(request: Request, event: CancelAsked, now: float) -> Step[Request]:
    """Its worker is interrupted; what it had begun goes on or is taken back, as that thing's own record says."""
    return Step(replace(request, status=S.CANCELLED, cancel_asked=True, finished_at=now), (), "cancelled")


TABLE.ignore((S.PENDING, S.WAITING), PutDown, "nobody works on it")
TABLE.ignore((S.PENDING, S.WAITING), Finished, "nobody works on it")
TABLE.ignore((S.PENDING, S.WAITING), Failed, "nobody works on it")
for _event in EVENTS:
    TABLE.ignore(_ENDED, _event, "over already")
