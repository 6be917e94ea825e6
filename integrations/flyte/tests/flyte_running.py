"""Starts flows as a person does, and takes nodes away. Used by the tests."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import sky

from household import processes_of

FLOWS = Path(__file__).parent / "flows"
BIN = Path(sys.executable).parent


def clusters() -> set[str]:
    """Names of the clusters that are there."""
    return {each.name for each in sky.get(sky.status())}


def power_cut(pid: int) -> None:
    """What a power cut does to the node on which a process runs: all of its processes are gone at once."""
    told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (mark,) = [each.partition(b"=")[2] for each in told if each.startswith(b"SKY_NODE_ID=")]
    for each in processes_of(mark.decode()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


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
