"""Learns of ended processes and grown files from the kernel, so that the agent sleeps while nothing happens.

Processes are watched through pidfds, files through inotify. Where one is missing (Python below 3.9, a libc without
inotify) a timer looks instead, and only while something is being watched. Used by `tasks.py`.
"""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, Tuple

from .signals import Signal

_LOOK_EVERY = 0.03
_IN_MODIFY = 0x2
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")


def watch_exit(pid: int, ended: Callable[[], None]) -> None:
    """Call `ended` once on the loop when the process is gone or, being a child, waits to be reaped."""
    loop = asyncio.get_running_loop()
    opener = getattr(os, "pidfd_open", None)
    if opener is not None:
        try:
            handle = opener(pid)
        except ProcessLookupError:
            loop.call_soon(ended)
            return
        except OSError:
            pass  # an old kernel: look by timer
        else:

            def readable() -> None:
                loop.remove_reader(handle)
                os.close(handle)
                ended()

            loop.add_reader(handle, readable)
            return
    _look(loop, pid, ended)


def _look(loop: asyncio.AbstractEventLoop, pid: int, ended: Callable[[], None]) -> None:
    if _zombie_or_gone(pid):
        ended()
    else:
        loop.call_later(_LOOK_EVERY, _look, loop, pid, ended)


def _zombie_or_gone(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


class FileWatch:
    """Rings a bell when a watched file is written to. One bell per path, counted."""

    def __init__(self) -> None:
        self._bells: Dict[str, Tuple[Signal, int, int]] = {}  # path: bell, users, inotify's number
        self._paths: Dict[int, str] = {}
        self._libc: Any = None
        self._handle = -1
        self._timer: Optional[asyncio.TimerHandle] = None

    def enter(self, path: str) -> Signal:
        """Start watching `path`, which must exist."""
        if path in self._bells:
            bell, users, number = self._bells[path]
            self._bells[path] = (bell, users + 1, number)
            return bell
        number = self._add(path)
        bell = Signal()
        self._bells[path] = (bell, 1, number)
        if number < 0 and self._timer is None:
            self._ring_all()
        return bell

    def leave(self, path: str) -> None:
        """Stop watching, once for each `enter`."""
        bell, users, number = self._bells[path]
        if users > 1:
            self._bells[path] = (bell, users - 1, number)
            return
        del self._bells[path]
        if number >= 0:
            self._paths.pop(number, None)
            self._libc.inotify_rm_watch(self._handle, number)

    def close(self) -> None:
        """Stop watching anything; the loop goes on without us."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle >= 0:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1

    def _add(self, path: str) -> int:
        if self._libc is None:
            self._open()
        if self._handle < 0:
            return -1
        number = int(self._libc.inotify_add_watch(self._handle, os.fsencode(path), _IN_MODIFY))
        if number >= 0:
            self._paths[number] = path
        return number

    def _open(self) -> None:
        self._libc = False
        with suppress(ImportError, OSError, AttributeError):
            # A part that stripped-down Pythons lack, and 0.4 MB that an agent without jobs need not hold.
            import ctypes  # noqa: PLC0415

            self._libc = ctypes.CDLL(None, use_errno=True)
            self._handle = int(self._libc.inotify_init1(_IN_FLAGS))
        if self._handle >= 0:
            asyncio.get_running_loop().add_reader(self._handle, self._ring)

    def _ring(self) -> None:
        try:
            data = os.read(self._handle, 1 << 16)
        except BlockingIOError:
            return
        numbers, at = set(), 0
        while at + _EVENT.size <= len(data):
            number, _, _, extra = _EVENT.unpack_from(data, at)
            numbers.add(number)
            at += _EVENT.size + extra
        if -1 in numbers:  # the kernel's queue was full: what was dropped is unknown
            numbers = set(self._paths)
        for number in numbers:
            watched = self._bells.get(self._paths.get(number, ""))
            if watched is not None:
                watched[0].fire()

    def _ring_all(self) -> None:
        self._timer = None
        unwatched = [bell for bell, _, number in self._bells.values() if number < 0]
        for bell in unwatched:
            bell.fire()
        if unwatched:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._ring_all)
