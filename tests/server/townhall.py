"""A server with people: over TCP, with users whose tokens the tests hold."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from serving import Served, read_all
from small_plane import cluster

from sky.core.model.users import Role, TokenKind, User
from sky.sdk.http1 import Address, Connection
from sky.sdk.transport import using_endpoint
from sky.server import tokens
from sky.server.settings import Settings


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Town:
    """The server, who is there, and how they call."""

    def __init__(
        self,
        state: Path,
        *,
        config: Mapping[str, object] | None = None,
        auth: Callable[[int], Mapping[str, object]] = lambda port: {},
    ) -> None:
        port = free_port()
        settings = Settings(state, host="127.0.0.1", port=port, config=config or {}, auth=auth(port))
        self.served = Served(settings).start()
        self.plane = self.served.plane
        self.url = f"http://127.0.0.1:{settings.port}"
        self.owner = settings.secret_file.read_text().strip()

    def move_in(self, name: str, role: str = "user", **facts: Any) -> str:
        """A user, and a token that stands for them."""
        text, token = tokens.mint(TokenKind.LOGIN, name, "test", self.plane.clock.now(), **facts)
        user = User(name, Role(role))
        assert asyncio.run(self.plane.users.add(user)) or asyncio.run(self.plane.users.change(user))
        assert asyncio.run(self.plane.users.add_token(token))
        return text

    def own(self, name: str, user: str, workspace: str = "default") -> None:
        """A cluster of somebody."""
        self.plane.known[name] = cluster(name, user=user, workspace=workspace)

    def call(
        self, token: str | None, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded answer of one exchange over TCP."""
        status, told, _ = self.exchange(token, method, path, body, headers)
        return status, told

    def exchange(
        self, token: str | None, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, decoded answer (or text) and headers."""
        connection = Connection(Address("http", host="127.0.0.1", port=self.served.settings.port), 20)
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        try:
            response = connection.exchange(method, path, sent, data)
            answer = response.read()
            is_json = response.headers.get("content-type", "").startswith("application/json")
            return response.status, json.loads(answer) if is_json else answer.decode(), response.headers
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What the server says over TCP to bytes sent as they are, until it hangs up."""
        with socket.socket() as sock:
            sock.settimeout(20)
            sock.connect(("127.0.0.1", self.served.settings.port))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
            return read_all(sock)

    @contextlib.contextmanager
    def as_(self, token: str) -> Iterator[None]:
        """SDK calls inside are made with this token."""
        with using_endpoint(self.url, token):
            yield

    def audit(self) -> list[dict[str, Any]]:
        """The audit log, newest first."""
        return list(self.call(self.owner, "GET", "/audit?limit=100")[1])


@pytest.fixture
def town(state: Path) -> Iterator[Town]:
    """A server with users and nothing special configured."""
    made = Town(state)
    yield made
    made.served.stop()
