"""Embedded mode: the same server on a private Unix socket, in a thread of this process. For libraries and notebooks.

`with sky.local.embedded(folder) as endpoint:` sends the calls made inside the block to it. What runs on the nodes of
`infra: local` goes on when the block ends, and is found again by the next server of that folder.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from sky.kit.clock import SystemClock
from sky.kit.paths import private_dir
from sky.sdk.http1 import Address
from sky.sdk.transport import Endpoint, using_endpoint
from sky.server.assembly import build as build_all
from sky.server.lock import InstanceLock
from sky.server.plane import ControlPlane
from sky.server.process import serve
from sky.server.settings import Settings

#: Seconds for the server to come up, and to end.
_START_S = 30.0
_END_S = 10.0


class _Server:
    """A server in a thread of its own."""

    def __init__(self, settings: Settings, build: Callable[[Settings], ControlPlane]) -> None:
        self._settings = settings
        self._build = build
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="sky-server", daemon=True)

    def start(self) -> None:
        """Return once it listens. Raises what kept it from starting."""
        self._thread.start()
        self._ready.result(_START_S)

    def stop(self) -> None:
        """End it in good order."""
        loop, stop = self._ready.result(0)
        loop.call_soon_threadsafe(stop.set)
        self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failed:  # noqa: BLE001 - handed to whoever waits in `start`
            if not self._ready.done():
                self._ready.set_exception(failed)

    async def _serve(self) -> None:
        stop = asyncio.Event()
        ready = (asyncio.get_running_loop(), stop)
        settings = self._settings
        with InstanceLock(settings.lock_file, started_at=SystemClock().now(), socket=settings.socket):
            plane = self._build(settings)
            await serve(plane, settings, on_ready=lambda: self._ready.set_result(ready), stop=stop, signals=False)


@contextmanager
def embedded(state_dir: str | Path, *, build: Callable[[Settings], ControlPlane] | None = None) -> Iterator[str]:
    """Run a server on `state_dir` while the block lasts, and send this thread's calls to it; gives its endpoint.

    Other threads join with `sky.sdk.transport.using_endpoint(endpoint)`. Raises AlreadyRunning if a server holds the
    folder.
    """
    settings = Settings(private_dir(Path(state_dir).expanduser().absolute()))
    server = _Server(settings, build or build_all)
    server.start()
    try:
        with using_endpoint(Endpoint(Address("unix", path=str(settings.socket)))) as endpoint:
            yield str(endpoint)
    finally:
        server.stop()
