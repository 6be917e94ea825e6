"""Starts the programs of this folder for tests, and ends by name of its own lab what it started.

Imported by `tests/conftest.py`, whose fixtures hand these objects out. Each worker of a parallel run has labs of its
own; a machine on which one cannot be made is told apart by `missing`, which says why.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import machinery, util
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
#: Programs that each bed cannot do without.
_TOOLS = {
    "hosts": ("ip", "nft", "unshare", "sshd", "ssh", "sudo"),
    "slurm": ("slurmctld", "slurmd", "sbatch", "munged"),
    "docker": ("dockerd", "docker"),
}
_UP_S = 90.0


@cache
def missing(*beds: str) -> str:
    """Why hosts (and the other beds named) cannot be made here; empty if they can."""
    if os.geteuid() != 0:
        return "test hosts need root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [tool for bed in ("hosts", *beds) for tool in _TOOLS[bed] if shutil.which(tool, path=path) is None]
    if absent:
        return f"test hosts need {', '.join(absent)}, which tests/run.sh installs as root on Debian"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


@cache
def library(program: str) -> ModuleType:
    """What is in a program of this folder."""
    loader = machinery.SourceFileLoader(f"testbed_{program}", str(HERE / program))
    module = util.module_from_spec(util.spec_from_loader(loader.name, loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


def lab(name: str) -> Any:
    """A lab that nobody else has; use it as a context manager."""
    return lab_of(f"{name}-{os.getpid()}")


def lab_of(name: str) -> Any:
    """The lab of that very name."""
    return library("hosts").Lab(name)


class Wire:
    """A cloud's API served by a program of this folder, in a lab of its own."""

    def __init__(self, program: str, folder: Path, *words: str) -> None:
        self.program = program
        self.lab = f"{program}-{os.getpid()}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{program}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command(), "serve", "--port", str(self.port), *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._wait()

    def _command(self) -> list[str]:
        return [sys.executable, str(HERE / self.program), "--lab", self.lab]

    def _wait(self) -> None:
        until = time.monotonic() + _UP_S
        while True:
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.program} does not serve: {self.log.read_text()[-2000:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)

    def do(self, *words: str) -> str:
        """A command of the program (`preempt`)."""
        done = subprocess.run([*self._command(), *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(
        self,
        operation: str,
        code: str,
        *,
        times: int | None = None,
        match: Mapping[str, str] = {},
        message: str = "made to fail by the test bed",
        http: int | None = None,
    ) -> None:
        """Let calls of an operation fail; see the program's head. Said as `fail` says it, without a process for it."""
        rule = {"operation": operation, "code": code, "times": times, "match": match, "message": message, "http": http}
        with library("aws").Faults(self.lab).open() as rules:
            rules.append(rule)

    def heal(self) -> None:
        """No failures to come."""
        with library("aws").Faults(self.lab).open() as rules:
            rules.clear()

    def hosts(self) -> Sequence[Any]:
        """The machines that run or are stopped: the cloud's own view, whatever its API says."""
        return lab_of(self.lab).views()

    def host(self, name: str) -> Any:
        """One of them, from inside."""
        return lab_of(self.lab).host(name)

    def close(self) -> None:
        """End the server by its own process, then its machines."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        subprocess.run([sys.executable, str(HERE / "hosts"), "--lab", self.lab, "down"], capture_output=True)


class Aws(Wire):
    """AWS on the wire. `environment` is what a client needs."""

    def __init__(self, folder: Path) -> None:
        super().__init__("aws", folder)
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def reset(self) -> None:
        """Forget all that was made and all failures to come."""
        self.heal()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=30):
            pass


class Gcp(Wire):
    """Google's Compute Engine on the wire."""

    def __init__(self, folder: Path) -> None:
        super().__init__("gcp", folder)


class Slurm:
    """A Slurm cluster: a login host and nodes, `/home` shared by all."""

    def __init__(self, *words: str) -> None:
        self.lab = f"slurm-{os.getpid()}"
        self.do("up", *words)

    def do(self, *words: str) -> str:
        """A command of the program (`up`, `kill`, `revive`, `down`)."""
        command = [sys.executable, str(HERE / "slurm"), "--lab", self.lab, *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def host(self, name: str) -> Any:
        return lab_of(self.lab).host(name)

    def close(self) -> None:
        self.do("down")
