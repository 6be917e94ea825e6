"""The server of the reference implementation for as long as something is measured with it.

Not a benchmark of its own: `benchmarks/plans.py` times `sky launch --dryrun` with it. It runs on loopback, on a free
port, under the home folder that `reference_world.py` wrote, in a session of its own that is ended as a whole.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import reference_world

#: What its log says once it has looked for clouds, found none that it may use, and forgotten all others.
CHECKED = "Request skypilot-server-on-boot-check finished"
#: Seconds until then, at most.
PATIENCE = 120.0


@contextmanager
def running(python: str, home: Path) -> Iterator[dict[str, str]]:
    """The environment in which its `sky` finds the server, with every cloud of the world enabled."""
    port, metrics = _free_ports(2)
    env = {**reference_world.environment(home), "SKYPILOT_API_SERVER_LOCAL_PORT": str(port)}
    if shutil.which("rsync") is None:
        # It wants to know that there is one before it plans, and then has no use for it in a dry run.
        (home / "bin").mkdir()
        (home / "bin" / "rsync").symlink_to(shutil.which("true") or "/bin/true")
        env["PATH"] = f"{home / 'bin'}{os.pathsep}{env['PATH']}"
    words = [python, "-u", "-m", "sky.server.server", "--host=127.0.0.1", f"--port={port}", f"--metrics-port={metrics}"]
    log = home / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            env={**env, "IS_SKYPILOT_SERVER": "true"},
        )  # fmt: skip
    try:
        _wait_until_checked(server, log)
        subprocess.run(reference_world.command(python, "enable", "1"), env=env, check=True, stdout=subprocess.DEVNULL)
        yield env
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_checked(server: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while CHECKED not in (told := log.read_text(errors="replace")):
        if server.poll() is not None or time.monotonic() > ends:
            raise SystemExit(f"The reference's server did not come up: {told[-3000:]}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found
