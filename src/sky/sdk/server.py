"""The API server itself: what it is, start it, stop it, read its log."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn

from sky.core.errors import ApiServerConnectionError, not_supported
from sky.core.model.statuses import ServerStatus
from sky.kit.paths import state_dir
from sky.sdk import starting
from sky.sdk.http1 import Response, query
from sky.sdk.records import APIHealthResponse, Record
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import call, current_endpoint, local_endpoint, stream, using_endpoint
from sky.wire.protocol import DEFAULT_PORT


def ensure_server() -> None:
    """Return once this user's local server listens; started if need be. Raises ApiServerConnectionError."""
    starting.ensure(state_dir())


def api_info() -> APIHealthResponse:
    """What the server says about itself; `endpoint` is where it was reached."""
    told = APIHealthResponse(call("GET", "/api/health").json())
    told["user"] = Record(told["user"]) if told["user"] else None
    told["status"] = ServerStatus(told["status"])
    told["endpoint"] = str(current_endpoint())
    return told


def api_start(
    *,
    deploy: bool = False,
    host: str | None = None,
    foreground: bool = False,
    metrics: bool = False,
    metrics_port: int | None = None,
    enable_basic_auth: bool = False,
    port: int | None = None,
    role: str | None = None,
    shared_dir: str | None = None,
    share_port: bool = False,
) -> None:
    """Start the local server if it does not run, with a TCP side guarded by a token if `host` or `port` is given.

    `role` (`all`, `api`, `worker`), `shared_dir` and `share_port` are for several servers on one database.

    Raises ApiServerConnectionError if it cannot start, or runs without the TCP side that is asked for.
    """
    if metrics or metrics_port is not None:
        raise not_supported("The server's metrics port")
    if enable_basic_auth:
        raise not_supported("Basic authentication", instead="TCP is guarded by a bearer token.")
    listen = "0.0.0.0" if deploy and host is None else host or ("127.0.0.1" if port is not None else None)  # noqa: S104
    extra = () if listen is None else ("--host", listen, "--port", str(DEFAULT_PORT if port is None else port))
    several: tuple[str, ...] = () if role is None else ("--role", role)
    several += () if shared_dir is None else ("--shared", shared_dir)
    several += ("--share-port",) if share_port else ()
    if foreground:
        _run_here(extra + several)
    if extra and starting.answers(state_dir()):
        with using_endpoint(local_endpoint()):
            on_tcp = api_info()["service_account_token_enabled"]
        if not on_tcp:
            raise ApiServerConnectionError("The API server runs without TCP; stop it first: sky api stop")
    starting.ensure(state_dir(), extra + several)


def _run_here(extra: tuple[str, ...]) -> NoReturn:
    import os  # noqa: PLC0415 - this process becomes the server
    import sys  # noqa: PLC0415

    arguments = [sys.executable, *starting.SERVER_ARGUMENTS, "--state", str(state_dir()), "--foreground", *extra]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter


def api_stop() -> None:
    """Stop the local server; what it was asked for goes on when it is started again.

    Raises ApiServerConnectionError if none runs.
    """
    state = state_dir()
    if not starting.is_running(state):
        raise ApiServerConnectionError("The local API server is not running.")
    if starting.answers(state):
        with using_endpoint(local_endpoint(state)):
            call("POST", "/api/shutdown", {})
    if not starting.wait_until_gone(state, 10.0):
        starting.kill(state)


def api_server_logs(follow: bool = True, tail: int | None = None, *, output_stream: Writer | None = None) -> None:
    """Write what the server logs to `output_stream`, by default standard output."""

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        return stream("GET", "/api/server_logs" + query([("offset", offset), ("tail", tail), ("follow", follow)]))

    Followed(open_at).copy_to(output_stream)


def dashboard(starting_page: str | None = None) -> None:
    """Open the dashboard: not yet."""
    raise not_supported("The dashboard")
