"""Starts flows as a person does, waits for things to be so, and counts what is left. Used by the tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import sky

FLOWS = Path(__file__).parent / "flows"
BIN = Path(sys.executable).parent


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so after {seconds:g} s"
        time.sleep(0.1)


def clusters() -> set[str]:
    """Names of the clusters that are there."""
    return {each.name for each in sky.get(sky.status())}


def power_cut(pid: int) -> None:
    """What a power cut does to the node on which a process runs: all of its processes are gone at once."""
    told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (mark,) = [each.partition(b"=")[2] for each in told if each.startswith(b"SKY_NODE_ID=")]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in folder.joinpath("environ").read_bytes() + folder.joinpath("cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def processes_of(home: Path, patience_s: float = 20.0) -> list[str]:
    """Processes whose environment or command names this home, after they were given time to end."""
    until = time.monotonic() + patience_s
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            if int(folder.name) in (os.getpid(), os.getppid()):
                continue
            try:
                told = folder.joinpath("environ").read_bytes() + folder.joinpath("cmdline").read_bytes()
            except OSError:
                continue
            if str(home).encode() in told:
                found.append(folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode() or folder.name)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


class Pyflyte:
    """Runs flows in processes of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, file: str, name: str, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a workflow or task to its end."""
        return subprocess.run(
            self._words(file, name, words, before), cwd=FLOWS, capture_output=True, text=True, timeout=200
        )

    def start(self, file: str, name: str, *words: str) -> subprocess.Popen[str]:
        """Begin a workflow or task; the caller ends it."""
        return subprocess.Popen(
            self._words(file, name, words, ()), cwd=FLOWS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @staticmethod
    def _words(file: str, name: str, words: tuple[str, ...], before: tuple[str, ...]) -> list[str]:
        return [str(BIN / "pyflyte"), "run", *before, file, name, *words]
