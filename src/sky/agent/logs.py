"""Logs: reading them by offset, and joining the logs of a gang's nodes into one.

`Collector` copies what the nodes' logs hold into a job's `run.log`, line by line with the rank's prefix. It notes
after each write how far it has come; readers see no further than that note. So a killed agent loses and doubles
nothing: the next one cuts off what was written but not noted, and no reader has seen it. Called by `gang.py` and
`head.py`.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from typing import Any, Awaitable, Callable, Dict, Optional, Tuple

from .signals import Signal

CHUNK = 256 * 1024
_PARTIAL_AFTER = 0.1
_LONG_WAIT = 25.0
_TAIL_BLOCK = 64 * 1024

Fetch = Callable[[int, float], Awaitable[Tuple[Dict[str, Any], bytes]]]
"""Reads a node's log: offset, seconds to wait; gives {offset, eof, status, rc} and the bytes."""


def read_chunk(path: str, offset: int, limit: int) -> bytes:
    """At most `limit` bytes of a file from `offset`; b"" when there are none or no file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), limit, offset)
    except FileNotFoundError:
        return b""


def exists(path: str) -> bool:
    """True once there is a log to watch."""
    return os.path.exists(path)


def size(path: str) -> int:
    """The length of a file in bytes, 0 when it does not exist."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def tail_offset(path: str, lines: int, end: int) -> int:
    """Where the last `lines` lines of the first `end` bytes begin; an unterminated last line counts as one."""
    if lines <= 0:
        return end
    at, wanted = end, lines
    while at > 0:
        start = max(0, at - _TAIL_BLOCK)
        block = read_chunk(path, start, at - start)
        # The newline that ends the last line begins no line.
        stop = len(block) - 1 if at == end else len(block)
        while wanted and stop > 0:
            found = block.rfind(b"\n", 0, stop)
            if found < 0:
                break
            wanted, stop = wanted - 1, found
            if not wanted:
                return start + found + 1
        at = start
    return 0


class Collector:
    """The combined log of one job, being written."""

    def __init__(self, path: str, state: str) -> None:
        self.path = path
        self.grown = Signal()
        self.length = 0
        """Bytes that readers may see."""
        self._offsets: Dict[str, int] = {}
        self._last = ""
        self._open_line = False
        self._turn = 0
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.makedirs(os.path.dirname(state), mode=0o700, exist_ok=True)
        self._state = state
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._restore()
        os.ftruncate(self._file, self.length)
        os.lseek(self._file, 0, os.SEEK_END)

    def _restore(self) -> None:
        for slot in (self._state + ".0", self._state + ".1"):
            note = _read_note(slot)
            if note is not None and note["turn"] > self._turn and note["length"] <= size(self.path):
                self._turn, self.length = note["turn"], note["length"]
                self._offsets, self._last, self._open_line = note["offsets"], note["last"], note["open"]

    def _note(self) -> None:
        self._turn += 1
        note = {"turn": self._turn, "length": self.length, "offsets": self._offsets}
        note.update({"last": self._last, "open": self._open_line})
        data = json.dumps(note).encode()
        # Two files in turn: one of them is whole whatever happens to the other.
        handle = os.open("%s.%d" % (self._state, self._turn % 2), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, b"%08x%08x" % (len(data), zlib.crc32(data)) + data, 0)
        finally:
            os.close(handle)

    def write(self, source: str, offset: int, data: bytes, prefix: bytes) -> None:
        """Append `data` of `source`, prefixed line by line; `offset` is how far the source has now been read."""
        fresh = not self._open_line or self._last != source
        text = data.replace(b"\n", b"\n" + prefix)
        if data.endswith(b"\n"):
            text = text[: len(text) - len(prefix)]
        if fresh:
            # Another source's unfinished line is ended, so that no line holds two voices.
            text = (b"\n" if self._open_line else b"") + prefix + text
        view = memoryview(text)
        while view:
            view = view[os.write(self._file, view) :]
        self.length += len(text)
        self._offsets[source] = offset
        self._last, self._open_line = source, not data.endswith(b"\n")
        self._note()
        self.grown.fire()

    def say(self, name: str, text: str) -> None:
        """Append a line of the system's own, once per `name` even if said again after a crash."""
        source = "say:" + name
        if source not in self._offsets:
            self.write(source, 1, text.encode("utf-8", "surrogateescape") + b"\n", b"")

    async def copy(self, source: str, prefix: bytes, fetch: Fetch) -> Dict[str, Any]:
        """Copy a source to its end; returns the last answer of `fetch`. An unfinished line is shown after 0.1 s."""
        offset = self._offsets.get(source, 0)
        held = b""
        while True:
            facts, data = await fetch(offset + len(held), _PARTIAL_AFTER if held else _LONG_WAIT)
            ended = bool(facts["eof"])
            if data or held:
                text = held + data
                cut = len(text) if ended or not data or len(text) > CHUNK else text.rfind(b"\n") + 1
                if cut:
                    offset += cut
                    self.write(source, offset, text[:cut], prefix)
                held = text[cut:]
            if ended:
                return facts

    def close(self, done: bool) -> None:
        """Close the log; `done` drops the note as well: the file is complete."""
        os.close(self._file)
        if done:
            for slot in (self._state + ".0", self._state + ".1"):
                with suppress(FileNotFoundError):
                    os.unlink(slot)
        self.grown.fire()


def _read_note(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            raw = file.read()
        length, check = int(raw[:8], 16), int(raw[8:16], 16)
        data = raw[16 : 16 + length]
        if len(data) != length or zlib.crc32(data) != check:
            return None
        note: Dict[str, Any] = json.loads(data)
        return note
    except (FileNotFoundError, ValueError):
        return None
