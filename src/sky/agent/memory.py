"""Tells a task that ran out of memory from one that failed otherwise: by the kernel's counters, and by its last words.

When a task starts, the counts of processes that were killed for want of memory are noted; one that failed while its
count rose is such a one. Called by `tasks.py`, and with made-up folders by tests.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import List, NamedTuple, Optional

from .logs import read_chunk, size

HOST, DEVICE = "out_of_memory", "cuda_out_of_memory"
_LAST_WORDS = 1 << 15
_KILLED = (137, 9)

_CUDA = re.compile(
    rb"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED"
    rb"|CUDA error: out of memory|HIP out of memory|hipErrorOutOfMemory"
    rb"|RESOURCE_EXHAUSTED: (?:Out of memory|Failed to allocate)"
)
_HOST = re.compile(
    rb"^(?:\w+\.)*MemoryError\b|std::bad_alloc|java\.lang\.OutOfMemoryError|oom[-_]kill|Cannot allocate memory",
    re.MULTILINE,
)
#: What a launcher of processes says of one that was killed, while it ends with a code of its own.
_CHILD_KILLED = re.compile(rb"SIGKILL|\bKilled\b|signal 9\b|exit ?code:? -9\b", re.IGNORECASE)


class Count(NamedTuple):
    """How many processes were killed for want of memory, by the file that says so."""

    path: str
    kills: int


def count(pid: int, proc: str = "/proc", groups: str = "/sys/fs/cgroup") -> Optional[Count]:
    """The count of the control group of a process, else of the whole machine; None where neither can be read."""
    for path in [*_group_files(pid, proc, groups), os.path.join(proc, "vmstat")]:
        kills = _kills(path)
        if kills is not None:
            return Count(path, kills)
    return None


def _group_files(pid: int, proc: str, groups: str) -> List[str]:
    try:
        with open(os.path.join(proc, str(pid), "cgroup"), encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found = []
    for fields in lines:
        inside = fields[-1].strip("/")
        if ".." in inside.split("/"):
            continue
        if fields[:2] == ["0", ""]:
            found += [os.path.join(groups, top, inside, "memory.events") for top in ("", "unified")]
        elif len(fields) == 3 and "memory" in fields[1].split(","):
            # In a container the group itself stands where the root of all groups is on the machine.
            found += [os.path.join(groups, "memory", at, "memory.oom_control") for at in (inside, "")]
    return found


def _kills(path: str) -> Optional[int]:
    with suppress(OSError, ValueError), open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None


def note(stem: str, pid: int) -> None:
    """Write down the count at the start of a task."""
    found = count(pid)
    if found is not None:
        with suppress(OSError), open(stem + ".memory", "w", encoding="utf-8") as file:
            file.write("%d %s\n" % (found.kills, found.path))


def mark(stem: str) -> None:
    """Say of a task that what ends it is a want of memory, whatever the counters tell."""
    with open(stem + ".oom", "w", encoding="utf-8"):
        pass


def _rose(stem: str) -> bool:
    try:
        with open(stem + ".memory", encoding="utf-8", errors="replace") as file:
            before, _, path = file.read().rstrip("\n").partition(" ")
        now = _kills(path)
        return now is not None and now > int(before)
    except (OSError, ValueError):
        return False


def cause(stem: str, code: int, log: str) -> Optional[str]:
    """Why a task failed, if it is `out_of_memory` (of the machine) or `cuda_out_of_memory` (of a device)."""
    if code == 0:
        return None
    if os.path.exists(stem + ".oom"):
        return HOST
    words = read_chunk(log, max(0, size(log) - _LAST_WORDS), _LAST_WORDS)
    if (code in _KILLED or _CHILD_KILLED.search(words)) and _rose(stem):
        return HOST
    if _CUDA.search(words):
        return DEVICE
    return HOST if _HOST.search(words) else None
