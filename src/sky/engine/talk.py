"""Progress of requests as text files, appended here and read back by offset wherever they are streamed.

`FileTalk` is for servers that share a directory, `RecordTalk` for those that share the store alone.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.kit.clock import Clock
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: Lines that wait to be written at most; what comes beyond them is lost, as talk may be.
_MOST_WAITING = 10_000


def _path(folder: Path, request_id: str) -> Path:
    if not request_id.replace("-", "").isalnum():
        raise ValueError(f"not a request id: {request_id!r}")
    return folder / f"{request_id}.log"


class FileTalk:
    """One file per request under `folder`, readable by the owner only."""

    def __init__(self, folder: Path, signals: Signals) -> None:
        self._folder = folder
        self._signals = signals
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, request_id: str) -> Path:
        """Where a request's talk is, whether or not there is any yet. Raises ValueError for an id that is a path."""
        return _path(self._folder, request_id)

    async def here(self, request_id: str) -> Path:
        """The same."""
        return self.path(request_id)

    async def written(self) -> None:
        """What was said is where all can read it already."""

    def drop(self, request_id: str) -> None:
        """Forget what was said."""
        self.path(request_id).unlink(missing_ok=True)

    def say(self, request_id: str, text: str) -> None:
        """Append a line."""
        path = self.path(request_id)
        try:
            with open(path, "a", encoding="utf-8", opener=_private) as file:
                # In one write: another server that believes to have the request may append at the same time.
                file.write(text + "\n")
        except OSError as error:
            # Talk is a courtesy: a full disk must not fail what is talked about.
            log.warning("%s cannot be written: %s", path, error)
        self._signals.notify(f"request:{request_id}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Lines(Protocol):
    """Where `RecordTalk` keeps what is said."""

    async def add(self, lines: Sequence[tuple[str, str]], now: float) -> None:
        """Write lines, each with the id of its request, in this order."""
        ...

    async def read(self, request_id: str) -> list[str]:
        """All lines of a request, in order."""
        ...


class RecordTalk:
    """Lines in the store, written a moment after they were said, in order; files under `folder` are copies for reading.

    Lines go with their request when it is forgotten.
    """

    def __init__(self, folder: Path, signals: Signals, lines: Lines, clock: Clock) -> None:
        self._folder = folder
        self._signals = signals
        self._lines = lines
        self._clock = clock
        self._waiting: list[tuple[str, str]] = []
        self._writing: asyncio.Task[None] | None = None
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.glob("*.log"):
            left.unlink(missing_ok=True)

    def path(self, request_id: str) -> Path:
        """Where the copy of a request's talk is. Raises ValueError for an id that is a path."""
        return _path(self._folder, request_id)

    async def here(self, request_id: str) -> Path:
        """Bring the copy up to date; where it is."""
        path = self.path(request_id)
        await self.written()
        said = "".join(f"{text}\n" for text in await self._lines.read(request_id)).encode()
        if said:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(said)
        return path

    async def written(self) -> None:
        """Once what was said is where all can read it, or is lost."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def drop(self, request_id: str) -> None:
        """Remove the copy."""
        self.path(request_id).unlink(missing_ok=True)

    def say(self, request_id: str, text: str) -> None:
        """Have a line written."""
        self.path(request_id)
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((request_id, text))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                lines, self._waiting = self._waiting, []
                try:
                    await self._lines.add(lines, self._clock.now())
                except ServerTemporarilyUnavailableError as error:
                    # A courtesy, as above; the store has been patient already.
                    log.warning("%d lines of talk are lost: %s", len(lines), error)
                for id in dict.fromkeys(id for id, _ in lines):
                    self._signals.notify(f"request:{id}")
        finally:
            self._writing = None
