"""The TCP side: a bearer token for everything but health, a checked Host, no owner's calls."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import Served

from sky.core.errors import ApiServerAuthenticationError
from sky.sdk import clusters, requests
from sky.sdk.http1 import Address, Connection
from sky.sdk.transport import using_endpoint
from sky.server.identity import read_token
from sky.server.listening import listen_tcp
from sky.server.settings import Settings


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def tcp(state: Path) -> Iterator[Served]:
    server = Served(Settings(state, host="127.0.0.1", port=free_port())).start()
    yield server
    server.stop()


@contextlib.contextmanager
def connection(served: Served) -> Iterator[Connection]:
    made = Connection(Address("http", host="127.0.0.1", port=served.settings.port), 20)
    try:
        yield made
    finally:
        made.close()


def ask(served: Served, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    with connection(served) as made:
        response = made.exchange(method, path, headers, b"{}" if method == "POST" else b"")
        return response.status, response.read()


def test_health_needs_no_token_and_tells_nobody_who_the_owner_is(tcp: Served) -> None:
    for path in ("/health", "/api/health"):
        status, told = ask(tcp, "GET", path)
        assert status == 200
        assert b'"user":null' in told
        assert b'"pid":null' in told


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"Authorization": "Bearer ü"}]
)
def test_everything_else_needs_the_token(tcp: Served, headers: dict[str, str]) -> None:
    status, told = ask(tcp, "POST", "/status", **headers)
    assert status == 401
    assert b"ApiServerAuthenticationError" in told


def test_token_opens_it_and_the_sdk_sends_it(tcp: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tcp.settings.secret_file.read_text().strip()
    assert tcp.settings.secret_file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", f"http://127.0.0.1:{tcp.settings.port}")
    monkeypatch.setenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN", token)
    assert [each.name for each in requests.get(clusters.status())] == ["one", "two"]
    monkeypatch.setenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN", token + "x")
    with pytest.raises(ApiServerAuthenticationError, match="refused the token"):
        clusters.status()
    with using_endpoint(f"http://127.0.0.1:{tcp.settings.port}", token):
        assert len(requests.get(clusters.status())) == 2


def test_foreign_host_name_is_refused(tcp: Served) -> None:
    token = tcp.settings.secret_file.read_text().strip()
    with connection(tcp) as made:
        made.address.host = "evil.example"
        response = made.exchange("POST", "/status", {"Authorization": f"Bearer {token}"}, b"{}")
        assert response.status == 400
        assert b"evil.example" in response.read()


def test_owners_calls_do_not_exist_here(tcp: Served) -> None:
    token = tcp.settings.secret_file.read_text().strip()
    assert ask(tcp, "POST", "/api/shutdown", Authorization=f"Bearer {token}")[0] == 404


def test_nobody_is_another_user_by_saying_so(tcp: Served) -> None:
    token = tcp.settings.secret_file.read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "X-Skypilot-User": "mallory"}
    with connection(tcp) as made:
        made.exchange("POST", "/launch", headers, b'{"task":{}}').read()
    assert [row.user for row in tcp.plane.rows.values()] != ["mallory"]
    assert len(tcp.plane.rows) == 1


def test_taken_port_is_said_in_words(tcp: Served, tmp_path: Path) -> None:
    other = tmp_path / "o"
    other.mkdir(mode=0o700)
    with pytest.raises(ValueError, match="it is in use"):
        Served(Settings(other, host="127.0.0.1", port=tcp.settings.port)).start()


def test_token_file_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(ValueError, match="does not exist"):
        read_token(path, make=False)
    path.write_text("a-token-that-is-long-enough\n")
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(path, make=False)
    path.chmod(0o600)
    assert read_token(path, make=False) == "a-token-that-is-long-enough"
    path.write_text("short")
    with pytest.raises(ValueError, match="shorter"):
        read_token(path, make=False)


def test_servers_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    for turn in range(20):
        path = tmp_path / f"token-{turn}"
        together = threading.Barrier(8)

        def one(path: Path = path, together: threading.Barrier = together) -> str:
            together.wait()
            return read_token(path, make=True)

        with ThreadPoolExecutor(8) as servers:
            taken = {each.result() for each in [servers.submit(one) for _ in range(8)]}
        assert taken == {path.read_text().strip()}
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 20


def test_an_answer_is_not_held_back(tcp: Served) -> None:
    """With Nagle's algorithm on, the body would wait for the acknowledgement of the head: 40 ms each."""
    with listen_tcp("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
    with connection(tcp) as made:
        # Half of them, and not in each round: the others may have met a busy machine.
        assert any(sorted(_lasts(made) for _ in range(50))[25] < 0.035 for _ in range(8))


def _lasts(made: Connection) -> float:
    begun = time.monotonic()
    made.exchange("GET", "/health", {}, b"").read()
    return time.monotonic() - begun
