"""A request: something a client asked for that changes the world. A row, so that it outlives client and server."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sky.core.model.statuses import RequestStatus


@dataclass(frozen=True, slots=True)
class Request:
    """A request as recorded; `body` is JSON, `result` is JSON, `error` is what `core.errors.to_wire` made.

    `workspace` is where its cluster is or is to be, `reach` whose clusters it may touch (`core.policy.rights.Reach`).
    Requests that were recorded before there were users are the owner's. `trace` is the span that asked for it.
    """

    id: str
    name: str
    user: str
    status: RequestStatus
    version: int
    created_at: float
    body: Mapping[str, object] = field(default_factory=dict)
    cluster_name: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: object = None
    error: Mapping[str, object] | None = None
    status_msg: str | None = None
    attempts: int = 0
    cancel_asked: bool = False
    workspace: str = "default"
    reach: str = "all"
    trace: str = ""
