"""The SDK as coroutines, with the names of the SDK: each awaits its result. Needs the extra `async` (httpx).

Calls are made on a thread, for they are short; what waits (`get`, streams) holds no thread and can be cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sky.core.errors import ApiServerConnectionError, JobExitCode, RequestCancelled, not_supported
from sky.sdk import clusters, infra, login, plans, requests, server, starting
from sky.sdk import workspaces as spaces
from sky.sdk.http1 import query
from sky.sdk.ids import RequestId
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import (
    CALL_S,
    PAUSES,
    STREAM_S,
    Answer,
    Endpoint,
    check_version,
    current_endpoint,
    headers_for,
    raise_error,
)

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


@dataclass(frozen=True)
class StreamConfig:
    """How a call's talk is relayed while its result is awaited; `output_stream` is standard output by default."""

    log_path: str | None = None
    tail: int | None = None
    follow: bool = True
    output_stream: Writer | None = None


def _httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - an extra, and 80 ms
    except ImportError:
        raise ImportError("The asynchronous SDK needs httpx: pip install 'altostratus[async]'") from None
    return httpx


@asynccontextmanager
async def _client(endpoint: Endpoint, timeout: float) -> AsyncIterator[httpx.AsyncClient]:
    httpx = _httpx()
    address = endpoint.address
    # One connection per exchange: thousands may wait at a time, and none outlives its event loop.
    secure = address.kind == "https"
    path = address.path if address.kind == "unix" else None
    transport = httpx.AsyncHTTPTransport(uds=path, verify=secure)
    base = "http://sky" if address.kind == "unix" else str(address)
    async with httpx.AsyncClient(transport=transport, base_url=base, timeout=timeout, trust_env=False) as client:
        yield client


async def _repeat(endpoint: Endpoint, attempt: Callable[[], Awaitable[T]]) -> T:
    httpx = _httpx()
    last: Exception | None = None
    for pause in PAUSES:
        await asyncio.sleep(pause)
        try:
            return await attempt()
        except httpx.ConnectError as refused:
            last = refused
            if endpoint.state is not None:
                await asyncio.to_thread(starting.ensure, endpoint.state)
        except httpx.TransportError as lost:
            last = lost
    raise ApiServerConnectionError(f"The API server at {endpoint} does not answer: {last!r}") from last


async def _ask(target: str) -> Any:
    endpoint = current_endpoint()

    async def attempt() -> Answer:
        async with _client(endpoint, CALL_S) as client:
            response = await client.get(target, headers=headers_for(endpoint))
            check_version(endpoint, response.headers)
            return Answer(response.status_code, response.headers, response.content)

    answer = await _repeat(endpoint, attempt)
    if answer.status >= 400:
        raise_error(answer)
    return answer.json()


async def get(request_id: str) -> Any:
    """Wait for a request and return its value; see `sky.get`."""
    if isinstance(request_id, RequestId) and request_id.answer is not None:
        return requests.get(request_id)
    while True:
        told = await _ask("/api/get" + query([("request_id", str(request_id)), ("timeout", requests.HOLD_S)]))
        if told["status"] in requests.OVER:
            # A handle may have to be asked for, which is one more short call.
            return await asyncio.to_thread(requests.value_of, told)


async def _pieces(followed: Followed, method: str, target: Callable[[], tuple[str, object]]) -> AsyncIterator[str]:
    httpx = _httpx()
    endpoint = current_endpoint()
    failures = 0
    while followed.status is None:
        path, body = target()
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with (
                _client(endpoint, STREAM_S) as client,
                client.stream(method, path, content=data, headers=headers_for(endpoint)) as response,
            ):
                check_version(endpoint, response.headers)
                if response.status_code >= 400:
                    raise_error(Answer(response.status_code, response.headers, await response.aread()))
                async for line in response.aiter_lines():
                    failures = 0
                    frame = json.loads(line)
                    if frame.get("again"):
                        break
                    for text in followed.take(frame):
                        yield text
                    if followed.status is not None:
                        return
        except httpx.TransportError as lost:
            failures += 1
            if failures >= len(PAUSES):
                raise ApiServerConnectionError(f"The API server at {endpoint} does not answer: {lost!r}") from lost
            if endpoint.state is not None and isinstance(lost, httpx.ConnectError):
                await asyncio.to_thread(starting.ensure, endpoint.state)
        await asyncio.sleep(PAUSES[min(failures + 1, len(PAUSES) - 1)])


async def stream_response_async(request_id: str, config: StreamConfig | None = None) -> str | None:
    """Relay a request's talk; returns its status at the end."""
    if isinstance(request_id, RequestId) and request_id.answer is not None:
        return "SUCCEEDED"
    config = config or StreamConfig()
    if config.log_path is not None:
        raise not_supported("Streaming a server-side log by its path")
    followed = Followed(_never)

    def target() -> tuple[str, object]:
        pairs = [("request_id", str(request_id)), ("offset", followed.offset), ("tail", config.tail)]
        return "/api/stream" + query([*pairs, ("follow", config.follow)]), None

    async for text in _pieces(followed, "GET", target):
        followed.write(text, config.output_stream)
    return followed.status


async def stream_and_get(
    request_id: str | None = None,
    log_path: str | None = None,
    tail: int | None = None,
    follow: bool = True,
    output_stream: Writer | None = None,
) -> Any:
    """Relay a request's talk (of the newest request, without an id), then return its value."""
    if request_id is None:
        newest = await api_status(all_status=True, limit=1)
        if not newest:
            raise ValueError("No request is on record.")
        request_id = newest[0].request_id
    assert request_id is not None
    status_at_end = await stream_response_async(request_id, StreamConfig(log_path, tail, follow, output_stream))
    return await get(request_id) if follow or status_at_end in requests.OVER else None


async def tail_logs(
    cluster_name: str,
    job_id: int | None = None,
    follow: bool = True,
    tail: int = 0,
    output_stream: Writer | None = None,
) -> int:
    """Write a job's log to `output_stream`; returns the exit code as `sky.tail_logs` does."""
    followed, body = clusters.job_stream(cluster_name, job_id, follow, tail)

    def target() -> tuple[str, object]:
        return "/logs", {**body, "offset": followed.offset}

    async for text in _pieces(followed, "POST", target):
        followed.write(text, output_stream)
    return int(JobExitCode.NOT_FOUND if followed.code is None else followed.code)


def _never(offset: int | None) -> Any:
    raise AssertionError("read with `_pieces`")


def _awaited(function: Callable[..., RequestId[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The coroutine function of a call: makes it, and awaits its value, relaying its talk if `stream_logs` is given."""

    @functools.wraps(function)
    async def run(*args: Any, stream_logs: StreamConfig | None = None, **kwargs: Any) -> T:
        request_id = await asyncio.to_thread(function, *args, **kwargs)
        if stream_logs is not None:
            await stream_response_async(request_id, stream_logs)
        value: T = await get(request_id)
        return value

    plain = inspect.signature(function)
    option = inspect.Parameter("stream_logs", inspect.Parameter.KEYWORD_ONLY, default=None)
    told = [each for each in plain.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    run.__signature__ = plain.replace(parameters=[*told, option])  # type: ignore[attr-defined]
    return run


def _threaded(function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """The coroutine function of a call that is short or blocks by nature."""

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> T:
        return await asyncio.to_thread(function, *args, **kwargs)

    return run


launch = _awaited(clusters.launch)
exec = _awaited(clusters.exec)
status = _awaited(clusters.status)
start = _awaited(clusters.start)
stop = _awaited(clusters.stop)
down = _awaited(clusters.down)
autostop = _awaited(clusters.autostop)
queue = _awaited(clusters.queue)
job_status = _awaited(clusters.job_status)
cancel = _awaited(clusters.cancel)
cost_report = _awaited(clusters.cost_report)
ledger = _awaited(clusters.ledger)
endpoints = _awaited(clusters.endpoints)
optimize = _awaited(plans.optimize)
cluster_events = _awaited(clusters.cluster_events)
check = _awaited(infra.check)
enabled_clouds = _awaited(infra.enabled_clouds)
list_accelerators = _awaited(infra.list_accelerators)
list_accelerator_counts = _awaited(infra.list_accelerator_counts)
api_cancel = _awaited(requests.api_cancel)
workspaces = _awaited(spaces.workspaces)
set_preferred_workspace = _awaited(spaces.set_preferred_workspace)

validate = _threaded(plans.validate)
download_logs = _threaded(clusters.download_logs)
api_status = _threaded(requests.api_status)
api_info = _threaded(server.api_info)
api_start = _threaded(server.api_start)
api_stop = _threaded(server.api_stop)
api_server_logs = _threaded(server.api_server_logs)
api_login = _threaded(login.api_login)
api_logout = _threaded(login.api_logout)
get_user_workspace = _threaded(spaces.get_user_workspace)

__all__ = [
    "RequestCancelled",
    "StreamConfig",
    "api_cancel",
    "api_info",
    "api_login",
    "api_logout",
    "api_server_logs",
    "api_start",
    "api_status",
    "api_stop",
    "autostop",
    "cancel",
    "check",
    "cluster_events",
    "cost_report",
    "down",
    "download_logs",
    "enabled_clouds",
    "endpoints",
    "exec",
    "get",
    "get_user_workspace",
    "job_status",
    "launch",
    "ledger",
    "list_accelerator_counts",
    "list_accelerators",
    "optimize",
    "queue",
    "set_preferred_workspace",
    "start",
    "status",
    "stop",
    "stream_and_get",
    "stream_response_async",
    "tail_logs",
    "validate",
    "workspaces",
]
