"""Fixtures of a real server on real sockets, for the tests of `server` and `sdk`; loaded by both conftests."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from small_plane import SmallPlane

from sky.sdk import starting
from sky.sdk.http1 import Address, Connection
from sky.sdk.transport import Endpoint, using_endpoint
from sky.server.process import serve
from sky.server.settings import Settings


class Served:
    """A server in a thread, its plane, and ways to talk to it."""

    def __init__(self, settings: Settings, plane: SmallPlane | None = None) -> None:
        self.settings = settings
        self.plane = plane or SmallPlane(settings)
        self._up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        stop = asyncio.Event()
        where = (asyncio.get_running_loop(), stop)
        try:
            await serve(
                self.plane, self.settings, on_ready=lambda: self._up.set_result(where), stop=stop, signals=False
            )
        except BaseException as failed:
            if self._up.done():
                raise
            self._up.set_exception(failed)

    def start(self) -> "Served":
        self._thread.start()
        self._up.result(60)
        return self

    def stop(self) -> None:
        loop, stop = self._up.result(0)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def do(self, work: Callable[[], Any]) -> Any:
        """Run something on the server's loop, where the plane lives."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._up.result(0)[0]).result(60)

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None, **headers: str) -> Any:
        """(status, decoded answer, headers) of one exchange over the Unix socket."""
        connection = Connection(Address("unix", path=str(self.settings.socket)), 20)
        try:
            data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
            response = connection.exchange(method, path, {k.replace("_", "-"): v for k, v in headers.items()}, data)
            return response.status, json.loads(response.read()), response.headers
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What the server says to bytes sent as they are, until it hangs up."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.settings.socket))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(data)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def eventually(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first truthy answer of `check`, asked again and again; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)
    return answer


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of its own, also for what this process starts; a server left on it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="sky-t-"))
    path = folder / "state"
    path.mkdir(mode=0o700)
    (folder / "home").mkdir()
    monkeypatch.setenv("SKY_STATE_DIR", str(path))
    monkeypatch.setenv("HOME", str(folder / "home"))
    for name in ("SKYPILOT_API_SERVER_ENDPOINT", "SKYPILOT_SERVICE_ACCOUNT_TOKEN", "SKYPILOT_GLOBAL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")]))
    yield path
    pid = starting.note(path).get("pid")
    if pid is not None and pid != os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        starting.wait_until_gone(path, 10)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(state: Path) -> Iterator[Served]:
    """A server with a small plane; SDK calls of the test go to it."""
    server = Served(Settings(state)).start()
    try:
        with using_endpoint(Endpoint(Address("unix", path=str(server.settings.socket)))):
            yield server
    finally:
        server.stop()
