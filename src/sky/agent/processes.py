"""Finds and ends the processes of a task, including those that left its session or its parent.

Every task process carries a mark in its environment, which children inherit and which nobody clears by accident;
`/proc` shows it. Used by `tasks.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Dict, List, Tuple

MARK = "SKYPILOT_INTERNAL_TASK_KEY"

Process = Tuple[int, bytes]
"""A process id with its start time: together they name one process even when ids are used again."""

_HOPELESS = 10.0


def started(pid: int) -> bytes:
    """The start time of a process in the kernel's ticks since boot, b"" when it is gone or a zombie."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return b""
    return b"" if fields[0] in (b"Z", b"X") else fields[19]


def carries(pid: int, mark: str) -> bool:
    """True if the process lives and its mark begins with `mark`."""
    return _has(pid, b"%s=%s" % (MARK.encode(), mark.encode())) and started(pid) != b""


def marked(mark: str) -> List[Process]:
    """All living processes whose mark begins with `mark`."""
    wanted = b"%s=%s" % (MARK.encode(), mark.encode())
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _has(int(name), wanted):
            since = started(int(name))
            if since:
                found.append((int(name), since))
    return found


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False


def parent(pid: int) -> int:
    """The parent of a process, 0 when it is gone."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _has(pid: int, wanted: bytes) -> bool:
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            environ = file.read()
    except OSError:
        return False
    return environ.startswith(wanted) or (b"\0" + wanted) in environ


async def end(mark: str, grace: float) -> None:
    """SIGTERM every process with the mark, SIGKILL what is left after `grace` seconds.

    Returns when none is left, or 10 s after the last resort: the kernel then holds what neither signal reached.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    told: Dict[Process, int] = {}
    pause = 0.01
    while True:
        processes = marked(mark)
        if not processes or loop.time() >= deadline + _HOPELESS:
            return
        late = loop.time() >= deadline
        number = signal.SIGKILL if late else signal.SIGTERM
        for process in processes:
            if told.get(process) != number:
                told[process] = number
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process[0], number)
        # Not idle: something is being ended, and only looking tells when it is gone.
        await asyncio.sleep(min(pause, max(0.01, deadline - loop.time())) if not late else 0.02)
        pause = min(pause * 2, 0.2)
