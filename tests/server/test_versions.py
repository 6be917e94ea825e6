"""Both sides say which interface they speak in every exchange; sides that are too far apart say so, and what to do."""

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving import Served

import sky
from sky.core.errors import ApiServerConnectionError, APIVersionMismatchError
from sky.sdk import transport
from sky.sdk.asynchronous import get
from sky.sdk.transport import using_endpoint
from sky.version import API_VERSION, __version__
from sky.wire import protocol


@contextmanager
def claims(*headers: str) -> Iterator[str]:
    """The address of something that answers every call with these headers."""
    head = "".join(f"{each}\r\n" for each in headers)

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_every_answer_names_both_versions(served: Served) -> None:
    for method, path in (("GET", "/health"), ("POST", "/status"), ("POST", "/no-such-call"), ("PUT", "/launch")):
        headers = served.call(method, path, {})[2]
        assert headers["x-skypilot-api-version"] == str(API_VERSION)
        assert headers["x-skypilot-version"] == __version__


@pytest.mark.parametrize("said", ["0", "-1", "1.5", "new", "", "٣٤"])
def test_a_client_that_is_too_old_is_told_to_upgrade(served: Served, said: str) -> None:
    head = "POST /status HTTP/1.1\r\nhost: sky\r\nconnection: close\r\ncontent-length: 2\r\n"
    told = served.raw(f"{head}X-SkyPilot-API-Version: {said}".encode() + b"\r\nX-SkyPilot-Version: 0.0.1\r\n\r\n{}")
    assert b" 400 " in told.split(b"\r\n")[0]
    assert b"APIVersionMismatchError" in told
    assert b"0.0.1" in told
    assert b"pip install -U altostratus" in told


def test_a_client_of_a_later_version_is_let_in(served: Served) -> None:
    assert served.call("POST", "/status", {}, X_SkyPilot_API_Version=str(API_VERSION + 5))[0] == 200


def test_a_client_that_says_nothing_is_let_in(served: Served) -> None:
    assert served.call("POST", "/status", {})[0] == 200


def test_a_server_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MIN_API_VERSION", 7)
    with claims("X-SkyPilot-API-Version: 6", "X-SkyPilot-Version: 0.3.1") as address, using_endpoint(address):
        with pytest.raises(APIVersionMismatchError, match=r"0\.3\.1, interface 6\) is too old.*Upgrade it"):
            sky.get(sky.status())
        with pytest.raises(APIVersionMismatchError, match="too old"):
            asyncio.run(get("some-request"))


def test_a_server_of_a_later_version_is_talked_to() -> None:
    later = (f"X-SkyPilot-API-Version: {protocol.MIN_API_VERSION + 50}", "X-SkyPilot-Version: 9.0.0")
    with claims(*later) as address, using_endpoint(address):
        assert transport.call("GET", "/health").json() == {}


def test_something_else_that_answers_is_no_server() -> None:
    with claims("Server: another") as address, using_endpoint(address):
        with pytest.raises(ApiServerConnectionError, match="not an API server"):
            transport.call("GET", "/health")
        with pytest.raises(ApiServerConnectionError, match="not an API server"):
            asyncio.run(get("some-request"))
