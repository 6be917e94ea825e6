"""`python -m sky.server`: one server in its own process. Started by the client on first use, or by an administrator."""

import gc

if __name__ == "__main__":
    # Half of a start is imports, and a tenth of those is the collector looking at what stays for good; see `main`.
    gc.disable()

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sky.core.errors import SkyError
from sky.kit.clock import SystemClock
from sky.kit.paths import private_dir, state_dir
from sky.server.configuration import ConfigFile
from sky.server.lock import AlreadyRunning, InstanceLock
from sky.server.logs import set_up_logs
from sky.server.plane import ControlPlane
from sky.server.process import serve
from sky.server.settings import Role, Settings, database_of
from sky.wire.protocol import DEFAULT_PORT

Build = Callable[[Settings], ControlPlane]


def parse(arguments: Sequence[str]) -> tuple[Settings, argparse.Namespace]:
    """Settings from the command line; `server.configuration` reads the user's file whenever it is needed."""
    parser = argparse.ArgumentParser(prog="python -m sky.server", description="The control plane as a process.")
    parser.add_argument("--state", type=Path, help="directory of all state (default: SKY_STATE_DIR or XDG)")
    parser.add_argument("--host", help="also listen on TCP, guarded by a bearer token")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--token-file", type=Path, help="file with the bearer token (default: <state>/token)")
    parser.add_argument("--role", choices=[each.value for each in Role], default=Role.ALL.value, help="what it does")
    parser.add_argument("--shared", help="directory of files that all servers on one database share")
    parser.add_argument("--share-port", action="store_true", help="let other servers of this machine have the port too")
    parser.add_argument("--foreground", action="store_true", help="log to the terminal")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plane", default="sky.server.assembly:build", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    state = given.state.expanduser().absolute() if given.state else state_dir()
    shared, objects = _shared(given.shared, os.environ.get("SKY_SHARED"))
    settings = Settings(
        state,
        given.host,
        given.port,
        given.token_file,
        role=Role(given.role),
        shared_dir=shared,
        database=database_of(os.environ, ConfigFile({}).text("db")),
        share_port=given.share_port,
        objects=objects,
    )
    if settings.role is not Role.ALL and settings.database is None:
        raise ValueError(
            f"--role {given.role} is for several servers on one database: name it by SKYPILOT_DB_CONNECTION_URI, "
            "or by `db` in the configuration."
        )
    return settings, given


def _shared(given: str | None, named: str | None) -> tuple[Path | None, str | None]:
    """The directory and the object store that servers share; each may be named by either."""
    said = [each for each in (given, named) if each]
    folders = [Path(each).expanduser().absolute() for each in said if "://" not in each]
    stores = [each for each in said if "://" in each]
    return next(iter(folders), None), next(iter(stores), None)


def builder(where: str) -> Build:
    """The function that builds the control plane, by `module:name`; late, so that tests can bring another."""
    module, _, name = where.partition(":")
    build: Build = getattr(importlib.import_module(module), name)
    return build


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped; 0 on an orderly end, 1 if it cannot start, 3 if another server is running."""
    os.umask(0o077)
    started_at = SystemClock().now()
    try:
        settings, given = parse(sys.argv[1:] if arguments is None else arguments)
        private_dir(settings.state_dir)
        private_dir(settings.files)
        form = ConfigFile({}).section("api_server").get("log_format")
        with InstanceLock(settings.lock_file, started_at=started_at, socket=settings.socket):
            set_up_logs(settings, foreground=given.foreground, form=None if form is None else str(form))
            plane = builder(given.plane)(settings)
            # What was imported stays for good; the collector need not look at it again and again.
            gc.freeze()
            # A look at all that a thousand launches hold takes a tenth of a second, and nobody is answered meanwhile.
            gc.set_threshold(10_000, 20, 50)
            gc.enable()
            asyncio.run(serve(plane, settings, on_ready=lambda: _tell_ready(given.ready_fd)))
    except AlreadyRunning as running:
        print(running, file=sys.stderr)
        return 3
    except (ValueError, OSError, RuntimeError, SkyError) as refused:
        logging.getLogger(__name__).debug("the server could not start", exc_info=True)
        print(f"The API server cannot start: {refused}", file=sys.stderr)
        return 1
    return 0


def _tell_ready(handle: int | None) -> None:
    if handle is None:
        return
    # The client that started us may be gone; that is no reason not to serve.
    with contextlib.suppress(OSError):
        os.write(handle, b"ready\n")
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
