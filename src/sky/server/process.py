"""The life of a server: listen, answer, and end in good order. Called by `server.__main__` and by embedded mode."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from sky.kit.tracing import TRACING, Recorder
from sky.server.api import Api
from sky.server.app import build_app
from sky.server.authentication import Authentication, from_config, read_authentication
from sky.server.identity import owner, read_token
from sky.server.listening import BoundedProtocol, listen_tcp, listen_unix
from sky.server.people import People
from sky.server.plane import ControlPlane
from sky.server.routes.clusters import StatusBoard, start_watching
from sky.server.settings import Settings
from sky.version import __version__
from sky.wire import telemetry

log = logging.getLogger(__name__)

#: Seconds for connections, then for the engine, to finish once the end is asked for.
CONNECTIONS_S = 1
ENGINE_S = 1.5

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Access:
    """What guards the TCP side: the token, the names by which it may be addressed (None: any), and the logins."""

    token: str | None = None
    hosts: frozenset[str] | None = None
    ways: Authentication = field(default_factory=Authentication)


class _Server(uvicorn.Server):
    """uvicorn that tells when it listens and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again after its own shutdown, before the engine has stopped.
        yield


async def serve(
    plane: ControlPlane,
    settings: Settings,
    *,
    on_ready: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
    signals: bool = True,
) -> None:
    """Start the plane, answer until `stop` is set, SIGTERM arrives or the owner says so, then stop the plane.

    `signals` is off where the process is not ours (embedded mode). Raises ValueError if an address cannot be had.
    """
    stop = stop or asyncio.Event()
    raise_file_limit()
    recording = _record_traces(plane)
    access = _access(settings)
    sockets = _listen(settings)
    try:
        await plane.start()
        api = Api(
            plane,
            settings,
            People(plane.users, plane.clock, owner(), plane.section),
            access.ways,
            token_on=access.token is not None,
            started_at=plane.clock.now(),
            pid=os.getpid(),
        )
        board = StatusBoard(api)
        app = build_app(api, board, token=access.token, hosts=access.hosts, stop=stop.set)
        server = _Server(_config(app), on_ready)
        with _signals_set(stop) if signals else contextlib.nullcontext():
            watching = start_watching(board)
            ending = asyncio.ensure_future(_end(stop, api, server))
            lateness = asyncio.ensure_future(api.metrics.watch_loop())
            try:
                log.info("listening: version %s, pid %d", __version__, os.getpid())
                await server.serve(sockets=sockets)
            finally:
                for task in (watching, ending, lateness):
                    task.cancel()
                await asyncio.gather(watching, ending, lateness, return_exceptions=True)
                await api.policies.close()
    finally:
        for sock in sockets:
            sock.close()
        settings.socket.unlink(missing_ok=True)
        if settings.socket.parent != settings.state_dir:
            with contextlib.suppress(OSError):
                settings.socket.parent.rmdir()
        await _stop_plane(plane)
        if recording is not None:
            TRACING.recorder = None
            # What is left is delivered, or given up after some seconds.
            await asyncio.to_thread(recording.close)


def _record_traces(plane: ControlPlane) -> Recorder | None:
    """Begin to record traces, where the configuration or the environment names who takes them. Raises ValueError."""
    if TRACING.recorder is not None:
        # Embedded in a process that records already.
        return None
    TRACING.recorder = telemetry.recorder("sky-api-server", os.environ, plane.section("telemetry"))
    return TRACING.recorder


async def _end(stop: asyncio.Event, api: Api, server: uvicorn.Server) -> None:
    await stop.wait()
    log.info("stopping")
    await api.drain(_notice(api))
    api.stopping.set()
    server.should_exit = True


def _notice(api: Api) -> float:
    """Seconds for which others (a load balancer, say) are given notice. None where its owner stops it by command."""
    section = api.plane.configuration().get("api_server")
    said = section.get("drain_seconds") if isinstance(section, Mapping) and not api.stopped_on_command else None
    return float(said) if isinstance(said, int | float) else 0.0


async def _stop_plane(plane: ControlPlane) -> None:
    try:
        async with asyncio.timeout(ENGINE_S):
            await plane.stop()
    except TimeoutError:
        log.warning("the engine did not stop within %s s; its work is taken up by the next server", ENGINE_S)
    log.info("stopped")


def _access(settings: Settings) -> Access:
    if settings.host is None:
        return Access()
    token = read_token(settings.secret_file, make=settings.token_file is None)
    loopback = settings.host in _LOOPBACK or settings.host.startswith("127.")
    ways = from_config(settings.auth) if settings.auth is not None else read_authentication(Path.home())
    # A loopback port is reached by its user's browser, whatever page that shows: it goes by its own names only. So
    # does a server that was told its names.
    named = loopback or bool(ways.hosts)
    return Access(token, _LOOPBACK | {settings.host.lower()} | ways.hosts if named else None, ways)


def _listen(settings: Settings) -> list[socket.socket]:
    sockets = [listen_unix(settings.socket)]
    if settings.host is not None:
        try:
            sockets.append(listen_tcp(settings.host, settings.port, shared=settings.share_port))
        except ValueError:
            sockets[0].close()
            raise
    return sockets


def _config(app: Callable[..., object]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        loop="asyncio",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=CONNECTIONS_S,
        h11_max_incomplete_event_size=32 * 1024,
    )


@contextlib.contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: every waiting client and every node is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
