"""Starts the local server on first use, and waits for it. Called by `sdk.transport` when nobody listens.

Kept apart because a command that finds its server running must not pay for `subprocess`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sky.core.errors import ApiServerConnectionError
from sky.kit.paths import private_dir, socket_path

#: What is run; tests add arguments of their own.
SERVER_ARGUMENTS: list[str] = ["-P", "-m", "sky.server"]

#: Seconds for a server to come up, and for an old one to let go.
START_S = 30.0
LET_GO_S = 15.0

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def ensure(state: Path, extra: tuple[str, ...] = ()) -> None:
    """Return once the server of a state directory listens, starting it if need be; two clients start one.

    Raises ApiServerConnectionError with the end of the server's log.
    """
    private_dir(state)
    with _locked(state / "start.lock"):
        if answers(state):
            return
        _wait_for_old(state)
        if answers(state):
            return
        ended = _spawn(state, extra)
        if ended is not None and ended < 0:
            # A signal from outside (of somebody who ends processes, of a kernel short of memory) says nothing about
            # the server; what keeps it from starting would do so again.
            ended = _spawn(state, extra)
        if ended is not None:
            raise ApiServerConnectionError(
                f"The API server could not be started: it {_how(ended)}. The end of its log ({state / 'server.log'}):\n"
                f"{log_tail(state / 'server.log')}"
            )


def answers(state: Path) -> bool:
    """Whether somebody accepts connections on the server's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5.0)
        try:
            sock.connect(str(socket_path(state)))
        except OSError:
            return False
    return True


def note(state: Path) -> dict[str, Any]:
    """What the running server wrote about itself (pid, version …); empty if none runs."""
    try:
        found = json.loads((state / "server.lock").read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_running(state: Path) -> bool:
    """Whether a server process holds the state directory, whether or not it answers."""
    try:
        handle = os.open(state / "server.lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def wait_until_gone(state: Path, seconds: float) -> bool:
    """Wait until no server holds the state directory; False if one still does after `seconds`."""
    end = time.monotonic() + seconds
    while is_running(state):
        if time.monotonic() > end:
            return False
        # The lock cannot be waited for with a bound; the server needs well under a second to let go.
        time.sleep(0.01)
    return True


def kill(state: Path) -> None:
    """End a server that does not stop when asked to."""
    pid = note(state).get("pid")
    if isinstance(pid, int) and is_running(state):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until_gone(state, LET_GO_S)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _wait_for_old(state: Path) -> None:
    end = time.monotonic() + LET_GO_S
    while is_running(state) and not answers(state):
        if time.monotonic() > end:
            raise ApiServerConnectionError(
                f"The API server (pid {note(state).get('pid', 'unknown')}) holds {state} but does not answer. "
                f"End that process, then try again. Its log is {state / 'server.log'}."
            )
        time.sleep(0.02)


#: Stands for the exit status of a server that was given up because it said nothing; no process ends so.
_SILENT = 1 << 16


def _spawn(state: Path, extra: tuple[str, ...]) -> int | None:
    """Start a server and wait until it listens: None, or else the status it ended with, negative for a signal."""
    reader, writer = os.pipe()
    arguments = [*SERVER_ARGUMENTS, "--state", str(state), "--ready-fd", str(writer), *extra]
    log = os.open(state / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            start_new_session=True,
            cwd="/",
            env=_environment(state),
        )
        os.close(writer)
        writer = -1
        said = os.read(reader, 16) if select.select([reader], [], [], START_S)[0] else None
    finally:
        for handle in (reader, log, writer):
            if handle >= 0:
                os.close(handle)
    if said:
        # It lives on without us; its end is not ours to wait for.
        process.returncode = 0
        return None
    if said is None:
        process.kill()
        process.wait()
        return _SILENT
    return process.wait()


def _how(ended: int) -> str:
    if ended == _SILENT:
        return f"did not answer within {START_S:g} s"
    return f"was ended by signal {-ended}" if ended < 0 else f"ended with status {ended}"


def _environment(state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SKYPILOT_API_SERVER_")}
    # The server runs in / with the same code as this client, however that was found.
    paths = [os.path.abspath(part) for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part]  # noqa: PTH100
    return {**kept, "PYTHONPATH": os.pathsep.join([*paths, str(_PACKAGE_ROOT)]), "SKY_STATE_DIR": str(state)}


def log_tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, indented for an error message."""
    try:
        text = path.read_bytes()[-16_384:].decode(errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (empty)"
