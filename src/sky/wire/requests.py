"""Messages about requests and about the server itself. Used by the server's routes."""

from typing import Any

from sky.core.model.requests import Request
from sky.wire.clusters import user_hash
from sky.wire.codec import Body, Record, field, plain


class CancelRequestsBody(Body):
    """Arguments of `/api/cancel`; without ids, all of the user's unfinished requests."""

    request_ids: list[str] | None = None
    all_users: bool = False


class ShutdownBody(Body):
    """Arguments of `/api/shutdown`; with `if_idle` it is refused while a request is under way."""

    if_idle: bool = False


class Submitted(Record):
    """The answer to a call that changes the world: its request is on record."""

    request_id: str


class Outcome(Record):
    """How a request stands; `result` or `error` once `status` is terminal."""

    request_id: str
    name: str
    status: str
    result: Any = None
    error: dict[str, Any] | None = None
    status_msg: str | None = None
    cluster_name: str | None = None


class RequestPayload(Record):
    """A request on record. Times are seconds since the epoch."""

    request_id: str
    name: str
    status: str
    created_at: float
    user_id: str
    user_name: str
    cluster_name: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    status_msg: str | None = None
    return_value: Any = None
    error: dict[str, Any] | None = None
    entrypoint: str = ""
    request_body: dict[str, Any] = field(default_factory=dict)
    schedule_type: str = "long"
    pid: int | None = None


class APIHealthResponse(Record):
    """Whether the server is well, and which one it is."""

    status: str
    api_version: str
    version: str
    version_on_disk: str
    commit: str
    user: dict[str, str] | None
    basic_auth_enabled: bool = False
    service_account_token_enabled: bool = False
    ingress_basic_auth_enabled: bool = False
    external_proxy_auth_enabled: bool = False
    latest_version: str | None = None
    telemetry_enabled: bool = False
    restrict_config_to_admins: bool = True
    oidc_enabled: bool = False
    pid: int | None = None
    started_at: float | None = None
    notice: str = ""


class ErrorAnswer(Record):
    """Every answer that is not a success."""

    error: dict[str, Any]
    request_id: str | None = None


def outcome(request: Request) -> Outcome:
    """How a recorded request stands."""
    return Outcome(
        request_id=request.id,
        name=request.name,
        status=request.status.value,
        result=request.result,
        error=plain(request.error) if request.error else None,
        status_msg=request.status_msg,
        cluster_name=request.cluster_name,
    )


#: Arguments by which programs know a request again.
_TOLD = ("cluster_name", "name", "pool", "num_jobs", "down", "dryrun")


def request_payload(request: Request) -> RequestPayload:
    """A recorded request as it is told. Of its arguments only names and switches, for the others may hold secrets."""
    command = request.body.get("command")
    return RequestPayload(
        request_id=request.id,
        name=request.name,
        status=request.status.value,
        created_at=request.created_at,
        user_id=user_hash(request.user),
        user_name=request.user,
        cluster_name=request.cluster_name,
        started_at=request.started_at,
        finished_at=request.finished_at,
        status_msg=request.status_msg,
        return_value=request.result,
        error=plain(request.error) if request.error else None,
        entrypoint=command if isinstance(command, str) else "",
        request_body={key: request.body[key] for key in _TOLD if request.body.get(key) is not None},
    )
