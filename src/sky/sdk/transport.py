"""From a call to an answer: which server, over which connection, tried again when that is harmless.

All functions of the SDK go through `call` and `stream`. Reads can be repeated; changes carry a request id made here, so
that repeating one gives the same request. Safe to use from many threads: connections belong to one thread each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from sky.core.errors import ApiServerConnectionError, APIVersionMismatchError, SkyError, from_wire
from sky.kit.paths import private_dir, socket_path, state_dir
from sky.sdk import settings, traces
from sky.sdk.http1 import Address, CannotConnect, Connection, ConnectionLost, NotHttp, Response
from sky.version import API_VERSION, __version__
from sky.wire.protocol import (
    DEFAULT_PORT,
    ENV_ENDPOINT,
    ENV_TOKEN,
    HEADER_API_VERSION,
    HEADER_VERSION,
    HEARTBEAT_S,
    LONGEST_WAIT_S,
    MIN_API_VERSION,
)

#: Seconds to wait for a byte: of a plain call, of a stream (three signs of life).
CALL_S = LONGEST_WAIT_S + 30.0
STREAM_S = 3 * HEARTBEAT_S
#: Pauses in seconds between tries of a call whose connection failed; a server that restarts is back by then.
PAUSES = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)
#: Seconds for which a call is made again that a server which is about to end refuses.
DRAIN_S = 60.0


class Endpoint:
    """A server to talk to. `state` is set for a local one, which is started when it is not there.

    With `basic`, the token is a user's name and password with a colon between them.
    """

    __slots__ = ("address", "basic", "key", "state", "token")

    def __init__(
        self, address: Address, token: str | None = None, state: Path | None = None, *, basic: bool = False
    ) -> None:
        self.address = address
        self.token = token
        self.basic = basic
        self.state = state
        self.key = (str(address), token)

    def __str__(self) -> str:
        return str(self.address)


def local_endpoint(state: Path | None = None) -> Endpoint:
    """The server of a state directory (default: this user's) on this machine. Raises PermissionError."""
    state = state or state_dir()
    path = socket_path(state)
    if path.parent != state:
        # A short directory under /tmp may have been made by somebody else, who would then hear everything.
        private_dir(path.parent)
    return Endpoint(Address("unix", path=str(path)), state=state)


def parse_endpoint(url: str, token: str | None = None) -> Endpoint:
    """An endpoint from `http://host:port`, `https://host` or `unix:///path/to/socket`. Raises ValueError.

    `https://user:password@host` names who comes by a password, `https://:token@host` a token.
    """
    parts = urlsplit(url.strip())
    if parts.scheme == "unix" and parts.path:
        return Endpoint(Address("unix", path=parts.path), token)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = re.sub(r"//[^/]*@", "//…@", url)
        raise ValueError(
            f"Not an API server endpoint: {shown!r}. Write http://HOST:PORT, https://HOST or unix:///PATH."
        )
    default = 443 if parts.scheme == "https" else DEFAULT_PORT
    address = Address(parts.scheme, host=parts.hostname, port=parts.port or default, prefix=parts.path.rstrip("/"))
    if parts.username and parts.password and not token:
        return Endpoint(address, f"{unquote(parts.username)}:{unquote(parts.password)}", basic=True)
    return Endpoint(address, token or parts.password)


T = TypeVar("T")

_chosen: ContextVar[Endpoint | None] = ContextVar("sky_endpoint", default=None)


@contextlib.contextmanager
def using_endpoint(endpoint: str | Endpoint, token: str | None = None) -> Iterator[Endpoint]:
    """Send the calls made inside this block (in this thread or task) to another server.

    Without a token, one that the address holds or that `sky api login` keeps for that server is sent.
    """
    chosen = parse_endpoint(endpoint, token) if isinstance(endpoint, str) else endpoint
    if isinstance(endpoint, str) and chosen.token is None:
        known = settings.stored_login()
        if known is not None and str(chosen.address) == known["endpoint"]:
            chosen = parse_endpoint(endpoint, _alive(known))
    mark = _chosen.set(chosen)
    try:
        yield chosen
    finally:
        _chosen.reset(mark)


def current_endpoint() -> Endpoint:
    """Where a call made now would go.

    The first of: `using_endpoint`, the environment, the login of `sky api login`, the configuration, the local server.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    token = os.environ.get(ENV_TOKEN)
    named = os.environ.get(ENV_ENDPOINT)
    known = settings.stored_login()
    if known is not None:
        if not named:
            return parse_endpoint(known["endpoint"], token or _alive(known))
        if not token and str(parse_endpoint(named).address) == known["endpoint"]:
            token = _alive(known)
    if not named:
        named, written = settings.endpoint()
        token = token or written
    return parse_endpoint(named, token) if named else local_endpoint()


def _alive(known: dict[str, Any]) -> str:
    """The token of the stored login, given a new life first if half of the old one is over."""
    renew_at = known.get("renew_at")
    if isinstance(renew_at, int | float) and settings.now() > renew_at:
        try:
            with using_endpoint(known["endpoint"], known["token"]):
                told = call("POST", "/users/tokens/renew").json()
            settings.keep_login({**known, **settings.life_of(told)})
        except (SkyError, OSError):
            # What cannot be renewed now is used as it is: the call itself will say what is wrong with it.
            pass
    return str(known["token"])


class Answer:
    """A complete answer; `headers` have lower-case names."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as plain values."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise ApiServerConnectionError(f"The answer is not JSON: {self.body[:200]!r}") from None


class _Idle(threading.local):
    """This thread's open connections by endpoint; those of a parent process are not ours."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.by_key: dict[tuple[str, str | None], Connection] = {}

    def take(self, key: tuple[str, str | None]) -> Connection | None:
        """An open connection, or None; after a fork, the parent's are let go."""
        if self.pid != os.getpid():
            self.pid = os.getpid()
            while self.by_key:
                self.by_key.popitem()[1].close()
        return self.by_key.pop(key, None)


_idle = _Idle()


def call(
    method: str,
    target: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    raw: bytes | Path | None = None,
) -> Answer:
    """Make a call that may be repeated, and return its answer.

    `body` is sent as JSON, `raw` as it is. Raises the server's error as its own class, ApiServerConnectionError.
    """
    with traces.call_span(method, target):
        return _call(method, target, body, headers, raw)


def _call(
    method: str, target: str, body: object, headers: Mapping[str, str] | None, raw: bytes | Path | None
) -> Answer:
    endpoint = current_endpoint()
    data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
    sent = headers_for(endpoint, headers)
    give_up = time.monotonic() + DRAIN_S
    while True:
        answer = _repeat(endpoint, lambda: _exchange(endpoint, method, target, sent, data))
        again = answer.headers.get("retry-after", "") if answer.status == 503 else ""
        if not again.isdecimal() or time.monotonic() > give_up:
            break
        # The server is about to end and has put nothing on record; the next one, or another, takes it.
        time.sleep(min(float(again), 5.0))
    if answer.status >= 400:
        raise_error(answer)
    return answer


@contextlib.contextmanager
def stream(method: str, target: str, body: object = None) -> Iterator[Response]:
    """Open a stream on a connection of its own; the caller reads its lines. Raises as `call` does."""
    endpoint = current_endpoint()
    data = b"" if body is None else json.dumps(body).encode()

    def begin() -> Response:
        connection = Connection(endpoint.address, STREAM_S)
        try:
            return connection.exchange(method, target, headers_for(endpoint), data)
        except OSError:
            connection.close()
            raise

    response = _repeat(endpoint, begin)
    try:
        _check_peer(endpoint, response.headers)
        if response.status >= 400:
            raise_error(Answer(response.status, response.headers, response.read()))
        yield response
    finally:
        response.close()


def raise_error(answer: Answer) -> None:
    """Raise what the server says went wrong; nothing if the failure belongs to a request that has an id."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = None
    if not isinstance(told, dict) or "error" not in told:
        text = answer.body[:200].decode(errors="replace")
        raise ApiServerConnectionError(f"The API server answered with HTTP status {answer.status}: {text}")
    if "request_id" not in told:
        raise from_wire(told["error"])


def headers_for(endpoint: Endpoint, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers of every call to an endpoint, and more."""
    made = {HEADER_API_VERSION: str(API_VERSION), HEADER_VERSION: __version__, "Content-Type": "application/json"}
    if endpoint.token:
        made["Authorization"] = _basic(endpoint.token) if endpoint.basic else f"Bearer {endpoint.token}"
    return {**made, **traces.headers(), **(more or {})}


def _basic(named: str) -> str:
    from base64 import b64encode  # noqa: PLC0415 - few come by a password

    return f"Basic {b64encode(named.encode()).decode()}"


def _exchange(endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str], body: bytes | Path) -> Answer:
    connection = _idle.take(endpoint.key)
    if connection is not None:
        try:
            return _over(connection, endpoint, method, target, headers, body)
        except ConnectionLost:
            # It may have been closed while it was idle: no sign of trouble.
            pass
    return _over(Connection(endpoint.address, CALL_S), endpoint, method, target, headers, body)


def _over(
    connection: Connection,
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Path,
) -> Answer:
    try:
        response = connection.exchange(method, target, headers, body)
        data = response.read()
    except BaseException:
        connection.close()
        raise
    if response.reusable:
        _idle.by_key[endpoint.key] = connection
    else:
        connection.close()
    if _check_peer(endpoint, response.headers):
        connection.close()
        _idle.by_key.pop(endpoint.key, None)
        raise ConnectionLost("the old server was stopped")
    return Answer(response.status, response.headers, data)


def _repeat(endpoint: Endpoint, attempt: Callable[[], T]) -> T:
    last: OSError | None = None
    for pause in PAUSES:
        time.sleep(pause)
        try:
            return attempt()
        except CannotConnect as refused:
            last = refused
            if endpoint.state is not None:
                from sky.sdk import starting  # noqa: PLC0415 - 15 ms for `subprocess`, needed only now

                starting.ensure(endpoint.state)
        except ConnectionLost as lost:
            last = lost
        except NotHttp as other:
            raise ApiServerConnectionError(f"{other}. Is {endpoint} the address of an API server?") from other
    raise ApiServerConnectionError(
        f"The API server at {endpoint} does not answer: {last}. Check {ENV_ENDPOINT} and that the server runs."
    ) from last


#: Old servers that were asked to stop already, so that a busy one is asked once.
_asked: set[tuple[str, str | None]] = set()


def _check_peer(endpoint: Endpoint, headers: Mapping[str, str]) -> bool:
    """Whether an idle local server of another version was stopped, so that the call is made again.

    Raises APIVersionMismatchError if the two sides are too far apart.
    """
    version = headers.get(HEADER_VERSION.lower())
    if version not in (None, __version__) and endpoint.state is not None and endpoint.key not in _asked:
        _asked.add(endpoint.key)
        if _stop_idle(endpoint, endpoint.state):
            return True
    check_version(endpoint, headers)
    return False


def check_version(endpoint: Endpoint, headers: Mapping[str, str]) -> None:
    """Make sure that an answer is of a server that this client can talk to; `headers` have lower-case names.

    Raises APIVersionMismatchError if the two sides are too far apart, ApiServerConnectionError if it is none of ours.
    """
    theirs = headers.get(HEADER_API_VERSION.lower())
    version = headers.get(HEADER_VERSION.lower())
    if theirs is None or version is None:
        raise ApiServerConnectionError(f"What answers at {endpoint} is not an API server of this product.")
    if not theirs.isdecimal() or int(theirs) < MIN_API_VERSION:
        raise APIVersionMismatchError(
            f"The API server ({version[:40]}, interface {theirs[:10]}) is too old for this client ({__version__}, "
            f"interface {API_VERSION}). Upgrade it; a local one restarts with `sky api stop` and the next command."
        )


def _stop_idle(endpoint: Endpoint, state: Path) -> bool:
    from sky.sdk import starting  # noqa: PLC0415 - 15 ms for `subprocess`, needed only now

    headers = headers_for(endpoint)
    del headers[HEADER_API_VERSION]
    connection = Connection(endpoint.address, CALL_S)
    try:
        response = connection.exchange("POST", "/api/shutdown", headers, b'{"if_idle":true}')
        response.read()
        return response.status < 400 and starting.wait_until_gone(state, starting.LET_GO_S)
    finally:
        connection.close()
