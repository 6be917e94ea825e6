"""What the tests of all integrations share: a home of their own, an end when they are told to, a count of what is left.

Imported by each `conftest.py` before its orchestrator; found there by the `pythonpath` of the pytest configuration.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def end_when_told() -> None:
    """Ctrl-C and SIGTERM end a run of tests as an exception does: what it has started is ended too.

    A run that was put into the background ignores Ctrl-C, and every program that it starts would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def settle(prefix: str, *foreign: str, **settings: str) -> Path:
    """A fresh home, and an environment for it: without variables that begin with `foreign`, with these settings.

    Read by orchestrators and the SDK when they are first imported.
    """
    # Short, since sockets lie in it.
    home = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in [each for each in os.environ if each.startswith(("SKYPILOT_", "SKY_", "XDG_", *foreign))]:
        del os.environ[name]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # What is left in the folder for temporary files goes with the home: by programs, and by this process.
    tempfile.tempdir = str(home / "t")
    Path(tempfile.tempdir).mkdir()
    os.environ |= {"HOME": str(home), "TMPDIR": tempfile.tempdir, "PATH": path, "DO_NOT_TRACK": "1", **settings}
    return home


def until(what: Callable[[], T], seconds: float = 180.0, shown: Callable[[], object] | None = None) -> T:
    """What a question gives as soon as that is true; fails, with what is shown then, if it never is."""
    give_up = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > give_up:
            raise AssertionError(f"nothing came of it in {seconds:g} s; {shown() if shown else ''}")
        time.sleep(0.1)
    return found


def processes_of(mark: Path | str) -> dict[int, str]:
    """Processes other than this one whose environment or command has this in it: their commands by number."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if str(mark).encode() in command + (process / "environ").read_bytes():
                found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    found.pop(os.getpid(), None)
    # One that has ended, and whose parent has not looked, has no command any more.
    return {number: command for number, command in found.items() if command}


class House:
    """What tests look at: the clusters of this home's Sky server; and the programs that they start."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def clusters(self) -> list[str]:
        """Names of all clusters that there are, in whatever state; those of managed jobs, which are hidden, too."""
        import sky

        # A managed job is DONE when nothing is left of its machines.
        managed = [each for each in sky.get(sky.jobs.queue()) if each.schedule_state != "DONE"]
        hidden = [str(each.current_cluster_name or f"of job {each.job_id}") for each in managed]
        return [each.name for each in sky.get(sky.status(all_users=True))] + hidden

    def running(self, prefix: str) -> str | None:
        """The cluster of this prefix on which a job runs now."""
        import sky

        for each in sky.get(sky.status()):
            if each.name.startswith(prefix) and each.status.value == "UP":
                jobs = sky.get(sky.queue(each.name))
                if any(job.status.value == "RUNNING" for job in jobs):
                    return str(each.name)
        return None

    def program(self, *words: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """A program of this environment, in a process group of its own."""
        return subprocess.Popen(
            [str(each) for each in words],
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, program: subprocess.Popen[str], seconds: float = 120.0) -> str:
        """What the program has said, once it has ended."""
        try:
            return program.communicate(timeout=seconds)[0]
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.communicate()

    def close(self) -> list[str]:
        """End what is left, and the server. The names of clusters that there were still: none, if all went well."""
        import sky

        left = self.clusters()
        if left:
            # A test has failed, or the run was ended: nothing of it may go on after it.
            sky.get(sky.jobs.cancel(all=True))
            for each in sky.get(sky.status(all_users=True)):
                sky.get(sky.down(each.name))
            until(lambda: not self.clusters(), shown=self.clusters)
        sky.api_stop()
        return left


@contextlib.contextmanager
def kept(house: House) -> Iterator[House]:
    """The household for all tests of a run. At its end no cluster may be left, and no process."""
    try:
        yield house
    finally:
        left = house.close()
    assert not left, f"clusters that tests have left behind: {left}"
    until(lambda: not processes_of(house.home), 30, lambda: processes_of(house.home))
