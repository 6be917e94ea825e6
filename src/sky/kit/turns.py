"""Turns at a file among processes: one at a time, and nobody waits long for a process that stands still in its own.

For what takes milliseconds: a look at a record and the change that follows from it. A process that dies gives its turn
back (the kernel sees to that); one that is stopped (a suspended machine, `kill -STOP`, a hanging disk) does not, and
would hold up all others for as long. So a turn is taken from who has it for longer than `patience`; who wakes up then
is told by `Turn.check`, before anything is written. Used by providers' records, local nodes and pinned host keys.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a turn is taken away. What is done in one takes some milliseconds, on a slow disk some hundred.
PATIENCE_S = 3.0
_LOOK_EVERY_S = 0.005


class TurnLost(OSError):
    """This process was stopped during its turn for so long that another one has taken it: nothing may be written."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was taken at a lock file."""

    path: Path
    handle: int

    def check(self) -> None:
        """To be asked right before a write. Raises TurnLost."""
        if not _same(self.handle, self.path):
            raise TurnLost(f"{self.path.name}: this process stood still for so long that another went on; try again")


@contextmanager
def turn(path: Path, patience: float = PATIENCE_S) -> Iterator[Turn]:
    """Nobody else is in such a block at this lock file, here or in another process. The block waits for nothing.

    Not to be entered twice by one process: it would wait for itself, and then take the turn away from itself.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = _taken(path, patience)
    try:
        yield Turn(path, handle)
    finally:
        os.close(handle)


def _taken(path: Path, patience: float) -> int:
    """An open handle that holds the lock of the file that has the name now."""
    until = time.monotonic() + patience
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(handle, path, until):
                return handle
            if time.monotonic() >= until:
                # The name goes to a new file, whose lock nobody has; the holder keeps that of a file without a name.
                _forsake(handle, path)
                until = time.monotonic() + patience
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _locked(handle: int, path: Path, until: float) -> bool:
    """Wait for the lock; whether it is ours, of the file that still has the name."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until or not _same(handle, path):
                return False
            time.sleep(_LOOK_EVERY_S)
        else:
            return _same(handle, path)


def _forsake(handle: int, path: Path) -> None:
    if _same(handle, path):
        with suppress(FileNotFoundError):
            path.unlink()


def _same(handle: int, path: Path) -> bool:
    """Whether the name is still that of the open file."""
    mine = os.fstat(handle)
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)
