"""Takes a large file in as the difference from the one that an earlier sync put at its place, by the node's `rsync`.

The client's own rsync talks with one that is run here, through frames: `sync_delta` starts it, `sync_delta_write` and
`sync_delta_read` are its input and output, `sync_delta_end` checks what came of it. Which file it writes is said here
and not by whoever asks, and the old one is never written to. Dispatched to by `server.py`; the other half is
`sky.remote.delta`.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from typing import Any, Dict, List, Optional, Tuple

from .bounds import within
from .fields import Fields, Refused, bad
from .places import program
from .sync import Sync

Reply = Tuple[Dict[str, Any], bytes]

_AT_ONCE = 8
_CHUNK = 1 << 18
#: Seconds that a client may leave its rsync alone.
_PATIENCE = 120.0
#: What it is asked for: no option but that times do not count, and what it can do. Nothing that names another file.
_OPTIONS = re.compile(r"-(?=.)[It]*(?:e\d*\.[A-Za-z0-9]{0,20})?\Z")


class _Delta:
    """One rsync that runs."""

    def __init__(self, name: str, target: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.target = target
        self.process = process
        self.writing = asyncio.Lock()
        self.timer: Optional[asyncio.TimerHandle] = None


class Deltas:
    """The rsyncs of one node, by number."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._running: Dict[int, _Delta] = {}
        self._last = 0

    async def start(self, fields: Fields, body: bytes) -> Reply:
        """Start rsync for the content `hash`, with the words that the other rsync wants it to have: {delta}."""
        del body
        options = _checked(fields.texts("argv"))
        found = program("rsync")
        if found is None:
            raise Refused("NotSupported", "there is no rsync on this node")
        if len(self._running) >= _AT_ONCE:
            raise Refused("Busy", "%d files are taken in by rsync already" % _AT_ONCE)
        name = fields.text("hash")
        self._last += 1
        number = self._last
        target = await self._sync.basis(fields, name, number)
        try:
            process = await asyncio.create_subprocess_exec(
                found,
                "--server",
                options,
                ".",
                os.path.basename(target),
                cwd=os.path.dirname(target),
                # Nothing that would have it read somebody's settings.
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_CHUNK,
            )
        except OSError as error:
            _remove(target)
            raise Refused("NotSupported", "rsync cannot be run: %s" % error.strerror) from None
        self._running[number] = _Delta(name, target, process)
        self._touch(number)
        return {"delta": number}, b""

    async def write(self, fields: Fields, body: bytes) -> Reply:
        """Give it input; `last` closes that."""
        delta = self._delta(fields)
        stdin = delta.process.stdin
        assert stdin is not None
        async with delta.writing:
            with suppress(OSError):  # it has ended, which its output tells
                if body:
                    stdin.write(body)
                    await stdin.drain()
                if fields.flag("last"):
                    stdin.close()
        return {}, b""

    async def read(self, fields: Fields, body: bytes) -> Reply:
        """Its next output; nothing once there is no more. Asked for by one at a time."""
        del body
        delta = self._delta(fields)
        assert delta.process.stdout is not None and delta.timer is not None
        # As long as somebody waits for it it may take its time; a client that goes away ends this call.
        delta.timer.cancel()
        try:
            return {}, await delta.process.stdout.read(_CHUNK)
        finally:
            number = fields.integer("delta", 0, 1 << 53)
            if number in self._running:
                self._touch(number)

    async def end(self, fields: Fields, body: bytes) -> Reply:
        """Wait for it, if it is to have ended well, and look at what it wrote: {done}."""
        del body
        delta = self._delta(fields)
        number = fields.integer("delta", 0, 1 << 53)
        try:
            if fields.flag("well"):
                with suppress(asyncio.TimeoutError):
                    await within(10.0, delta.process.wait())
            well = delta.process.returncode == 0
            return {"done": well and await self._sync.take_in(delta.name, delta.target)}, b""
        finally:
            self._drop(number)

    def _delta(self, fields: Fields) -> _Delta:
        number = fields.integer("delta", 0, 1 << 53)
        if number not in self._running:
            raise Refused("NoSuchDelta", "there is no rsync %d" % number)
        self._touch(number)
        return self._running[number]

    def _touch(self, number: int) -> None:
        delta = self._running[number]
        if delta.timer is not None:
            delta.timer.cancel()
        delta.timer = asyncio.get_running_loop().call_later(_PATIENCE, self._drop, number)

    def _drop(self, number: int) -> None:
        delta = self._running.pop(number, None)
        if delta is None:
            return
        if delta.timer is not None:
            delta.timer.cancel()
        if delta.process.returncode is None:
            with suppress(ProcessLookupError):
                delta.process.kill()
        _remove(delta.target)


def _checked(argv: List[str]) -> str:
    """The one word of options among those that the other rsync wants; Refused when they are anything else."""
    if len(argv) != 5 or argv[:2] != ["rsync", "--server"] or argv[3:] != [".", "content"]:
        raise bad("this is not how rsync is asked to take one file in: %r" % " ".join(argv)[:200])
    if not _OPTIONS.match(argv[2]):
        raise bad("rsync is not run with the options %r" % argv[2][:80])
    return argv[2]


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
