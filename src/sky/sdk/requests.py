"""Requests: wait for one, follow its talk, list, cancel. Reached as `sky.get`, `sky.stream_and_get` …"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

from sky.core.errors import RequestCancelled, from_wire, not_supported
from sky.kit.ids import request_id
from sky.sdk import ssh_seen
from sky.sdk.http1 import Response, query
from sky.sdk.ids import Answer, RequestId
from sky.sdk.records import ClusterHandle, RequestPayload, StatusResponse, convert, request_payload
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import call, stream
from sky.wire.protocol import HEADER_REQUEST_ID, is_request_id

T = TypeVar("T")

#: Seconds for which the server is asked to hold one wait; the loop goes on until the request is over.
HOLD_S = 45.0

OVER = ("SUCCEEDED", "FAILED", "CANCELLED")


def read(name: str, body: object) -> RequestId[Any]:
    """Carry out a call that only reads: the id comes back together with the outcome."""
    told = call("POST", f"/{name}", body).json()
    return RequestId(told["request_id"], name, Answer(told.get("result"), told.get("error")))


def submit(name: str, body: object, id: str | None = None) -> RequestId[Any]:
    """Put a change on record. Its id is made here or by the caller, so that sending it twice is the same as once.

    Raises ValueError for an id of another form, RequestAlreadyExistsError for one that stands for something else.
    """
    if id is not None and not is_request_id(id):
        raise ValueError(f"Not a request id: {id!r}. It has 8 to 128 letters, digits and hyphens.")
    id = id or request_id()
    try:
        return RequestId(call("POST", f"/{name}", body, headers={HEADER_REQUEST_ID: id}).json()["request_id"], name)
    except KeyboardInterrupt as interrupt:
        # Nobody but us knows the id of what may be on record by now.
        interrupt.add_note(f"If it reached the server, it goes on. Follow: sky api logs {id}")
        interrupt.add_note(f"{' ' * 39}Cancel: sky api cancel {id}")
        raise


@overload
def get(request_id: RequestId[T]) -> T: ...
@overload
def get(request_id: str) -> Any: ...
def get(request_id: str) -> Any:
    """Wait for a request (an id, or a prefix that only one has) and return its value.

    Raises what the request failed with, as the same class; RequestCancelled; ValueError for an unknown id.
    """
    answer = request_id.answer if isinstance(request_id, RequestId) else None
    if answer is not None:
        if answer.error is not None:
            raise from_wire(answer.error)
        return convert(request_id.name, answer.result)  # type: ignore[attr-defined]
    while True:
        told = call("GET", "/api/get" + query([("request_id", str(request_id)), ("timeout", HOLD_S)])).json()
        if told["status"] in OVER:
            return value_of(told)


def value_of(told: dict[str, Any]) -> Any:
    """The value of a request that is over, or its error raised."""
    if told["status"] == "CANCELLED":
        raise RequestCancelled(f"Request {told['request_id']} ({told['name']}) was cancelled.")
    if told["status"] == "FAILED":
        raise from_wire(told["error"])
    name, result = told["name"], told["result"]
    if name in ("launch", "exec", "start"):
        handle = handle_of(_name_in(result) or (told.get("cluster_name") if name == "start" else None))
        if handle is not None and name != "exec":
            _ways(name, handle.cluster_name, handle.cloud)
        return handle if name == "start" else (result.get("job_id") if isinstance(result, dict) else None, handle)
    if name in ("stop", "down"):
        _ways(name, told.get("cluster_name"))
    return convert(name, result)


def _ways(name: str, cluster: str | None, cloud: str | None = None) -> None:
    """Have people's ways to the nodes follow what became of the cluster."""
    ssh_seen.changed(name, cluster, cloud, lambda: get(read("nodes", {})))


def _name_in(result: object) -> str | None:
    return result.get("cluster_name") if isinstance(result, dict) else None


def handle_of(cluster_name: str | None) -> ClusterHandle | None:
    """Where a cluster is; None if it is gone (a dry run, a cluster that ended already)."""
    if not cluster_name:
        return None
    found: list[StatusResponse] = get(read("status", {"cluster_names": [cluster_name], "summary": True}))
    return found[0].handle if found else None


def follow(request_id: str, *, tail: int | None = None, following: bool = True, path: str = "/api/stream") -> Followed:
    """The talk of a request as it comes."""

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        pairs = [("request_id", request_id or None), ("offset", offset), ("tail", tail), ("follow", following)]
        return stream("GET", path + query(pairs))

    return Followed(open_at)


@overload
def stream_and_get(request_id: RequestId[T], *, output_stream: Writer | None = None) -> T: ...
@overload
def stream_and_get(
    request_id: str | None = None,
    log_path: str | None = None,
    tail: int | None = None,
    follow: bool = True,
    output_stream: Writer | None = None,
    relay_rich_status: bool = False,
) -> Any: ...
def stream_and_get(
    request_id: str | None = None,
    log_path: str | None = None,
    tail: int | None = None,
    follow: bool = True,
    output_stream: Writer | None = None,
    relay_rich_status: bool = False,
) -> Any:
    """Relay a request's talk (of the newest request, without an id) to `output_stream`, then do as `get`.

    Without `follow`, relays what was said so far and returns None if the request is not over.
    """
    if log_path is not None:
        raise not_supported("Streaming a server-side log by its path")
    if request_id is None:
        newest = api_status(all_status=True, limit=1)
        if not newest:
            raise ValueError("No request is on record.")
        request_id = newest[0].request_id
    assert request_id is not None
    followed = stream_response(request_id, output_stream, tail=tail, follow_on=follow)
    return get(request_id) if follow or followed in OVER else None


def stream_response(
    request_id: str, output_stream: Writer | None = None, *, tail: int | None = None, follow_on: bool = True
) -> str | None:
    """Relay a request's talk to `output_stream`; returns its status at the end."""
    if isinstance(request_id, RequestId) and request_id.answer is not None:
        return "SUCCEEDED"
    followed = follow(str(request_id), tail=tail, following=follow_on)
    followed.copy_to(output_stream)
    return followed.status


def talk_of(request_id: str) -> Iterator[str]:
    """The talk of a request, piece by piece, until it is over."""
    return iter(follow(request_id))


def api_status(
    request_ids: Sequence[str] | str | None = None,
    all_status: bool = False,
    limit: int | None = None,
    fields: Sequence[str] | None = None,
    cluster_name: str | None = None,
) -> list[RequestPayload]:
    """Requests on record, newest first: those of `request_ids` (prefixes), else the open ones, else all."""
    ids = [request_ids] if isinstance(request_ids, str) else list(request_ids or ())
    pairs: list[tuple[str, object]] = [("request_ids", id) for id in ids]
    pairs += [("all", all_status), ("limit", limit), ("cluster_name", cluster_name)]
    found = [request_payload(told) for told in call("GET", "/api/status" + query(pairs)).json()]
    if fields is None:
        return found
    return [RequestPayload({name: record.get(name) for name in fields}) for record in found]


def api_cancel(
    request_ids: Sequence[str] | str | None = None, all_users: bool = False, silent: bool = False
) -> RequestId[list[str]]:
    """Cancel requests (None: all open ones of this user); the value is the ids of those that were still open."""
    ids = [request_ids] if isinstance(request_ids, str) else request_ids
    body = {"request_ids": None if ids is None else [str(id) for id in ids], "all_users": all_users}
    cancelled = call("POST", "/api/cancel", body).json()
    return RequestId(cancelled[0] if cancelled else "api_cancel", "api_cancel", Answer(cancelled))
