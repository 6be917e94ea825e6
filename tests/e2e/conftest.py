"""The product as a user has it: the installed command, a home and a state directory of its own, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# Modules that the tests of this folder share are found by their own names.
sys.path.insert(0, str(Path(__file__).parent))

from cloud_household import Clouds, move_in
from patience import until
from replica_household import end_all

Run = subprocess.CompletedProcess[str]


class Sky:
    """The command, in a home and a state directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "s"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("SKY", "NO_COLOR", "XDG"))}
        self.env |= {"HOME": str(root), "SKY_STATE_DIR": str(self.state)}
        self.program = [str(Path(sys.executable).with_name("sky"))]
        self.begun: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, answers: str = "", timeout: float = 90, cwd: Path | None = None) -> Run:
        return subprocess.run(
            [*self.program, *words],
            input=answers,
            capture_output=True,
            text=True,
            env=self.env,
            cwd=cwd or self.root,
            timeout=timeout,
        )

    def good(self, *words: str, answers: str = "", cwd: Path | None = None) -> Run:
        done = self(*words, answers=answers, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def json(self, *words: str) -> object:
        return json.loads(self.good(*words, "-o", "json").stdout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        begun = subprocess.Popen(
            [*self.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            cwd=self.root,
        )
        self.begun.append(begun)
        return begun

    def server_pid(self) -> int | None:
        """The server of this state directory, from its lock file."""
        try:
            return int(json.loads((self.state / "server.lock").read_text())["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def node_homes(self) -> list[Path]:
        return sorted((self.state / "local").glob("*/*/home"))

    def node_processes(self) -> dict[int, str]:
        """Pid to command line of every process that belongs to a node of this state directory."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environ = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                here = str((entry / "cwd").readlink())
            except OSError:
                continue
            marked = any(each.startswith(b"SKY_NODE_ID=") for each in environ)
            if marked and (here.startswith(str(self.state)) or str(self.state) in command):
                found[int(entry.name)] = command
        return found

    def cut_power(self, belongs: Callable[[int, str], bool] = lambda pid, command: True) -> set[int]:
        """End processes of nodes, by pid and command line, as a power cut does: none of them sees another one end.

        All stand still before the first is ended, those too that were just begun by one that did not yet.
        """
        still: set[int] = set()
        while fresh := {pid for pid, line in self.node_processes().items() if pid not in still and belongs(pid, line)}:
            _signal(fresh, signal.SIGSTOP)
            still |= fresh
        _signal(still, signal.SIGKILL)
        return still


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.fixture
def eventually() -> Callable[..., float]:
    return until


@contextmanager
def household() -> Iterator[Sky]:
    """The command in a fresh home, and nothing of it left afterwards."""
    # Not tmp_path: sockets below it need a short path.
    root = Path(tempfile.mkdtemp(prefix="sky-e2e-"))
    command = Sky(root)
    try:
        yield command
    finally:
        end_all(command.begun)
        if (command.state / "state.db").exists():  # else these would only start a server
            command("jobs", "cancel", "-a", "-y")
            command("down", "-a", "-y")
            command("api", "stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def sky() -> Iterator[Sky]:
    with household() as command:
        yield command


@pytest.fixture(scope="module")
def shared_sky() -> Iterator[Sky]:
    """One home for all tests of a file."""
    with household() as command:
        yield command


@pytest.fixture(scope="module")
def clouds(aws_wire: Any, gcp_wire: Any) -> Iterator[Clouds]:
    """One home with both clouds, for all tests of a file; each test cleans up after itself by `clouds.clean()`."""
    with household() as command:
        made = move_in(command, aws_wire, gcp_wire)
        try:
            yield made
        finally:
            made.clean()
