"""Uploaded content in an object store (`s3://`, `gs://`, `file://`), for servers that share no directory.

Made by `assembly` and `api` where `SKY_SHARED` names one; used by `blobs` beside the directory, which is a cache of
this server's own then. An object is there whole or not at all: that is the store's promise.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sky.core.errors import ServerTemporarilyUnavailableError
from sky.server.settings import Settings

T = TypeVar("T")

#: Objects that are asked for, sent or fetched at a time.
_AT_ONCE = 32
#: Seconds after which an object is asked for anew, so that it is not removed before a launch that names it has begun.
_RENEWED_AFTER_S = 43200.0
#: Seconds for which one that was seen need not be asked for, and how many of these are kept in mind.
_SEEN_S, _MOST_SEEN = 3600.0, 200_000
_FOLDER = "blobs"


class ObjectStore:
    """See `blobs.Far`. Raises ServerTemporarilyUnavailableError where the store cannot be had."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        """Raises ValueError for an address of another kind, or where the library is missing."""
        try:
            import obstore  # noqa: PLC0415 - in an extra
            from obstore.store import from_url  # noqa: PLC0415 - as above
        except ImportError as missing:
            raise ValueError(
                f"SKY_SHARED names an object store, and the library for it is not installed ({missing.name}); "
                "install it with: pip install 'altostratus[objects]'"
            ) from None
        scheme = urlsplit(url).scheme
        if scheme not in ("s3", "gs", "file"):
            raise ValueError(
                f"SKY_SHARED begins with {scheme[:20]!r}; it has to be a directory, s3://, gs:// or file://"
            )
        more: dict[str, Any] = {"mkdir": True} if scheme == "file" else {}
        try:
            self._store: Any = from_url(url, **more)
        except Exception as refused:  # noqa: BLE001 - of whatever kind the library has for a bad address
            raise ValueError(f"SKY_SHARED: {refused}") from None
        self._library: Any = obstore
        self._now = now
        #: When objects were there, by their names.
        self._seen: dict[str, float] = {}
        self.shown = url

    async def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not there, and those that have been there for so long that they may soon be removed."""

        async def asked(name: str) -> bool:
            if 0 <= self._now() - self._seen.get(name, float("-inf")) <= _SEEN_S:
                return False
            try:
                found = await self._library.head_async(self._store, _key(name))
            except FileNotFoundError:
                return True
            made: datetime = found["last_modified"]
            if self._now() - made.timestamp() > _RENEWED_AFTER_S:
                return True
            self._see(name)
            return False

        return [name for name, gone in zip(names, await self._each(asked, names), strict=True) if gone]

    async def put(self, files: Sequence[tuple[str, Path]]) -> None:
        """Send files, each under its name."""

        async def send(each: tuple[str, Path]) -> None:
            await self._library.put_async(self._store, _key(each[0]), each[1])
            self._see(each[0])

        await self._each(send, files)

    def _see(self, name: str) -> None:
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[name] = self._now()

    async def get(self, name: str, path: Path) -> None:
        """Fetch one into a new file. Raises FileNotFoundError."""

        async def fetch(name: str) -> None:
            found = await self._library.get_async(self._store, _key(name))
            with path.open("xb") as file:
                async for piece in found.stream():
                    file.write(piece)

        await self._each(fetch, [name])

    async def prune(self, kept: Collection[str], before: float) -> int:
        """Remove those that were sent before a time and are not kept; how many."""

        async def work(_: None) -> int:
            gone = [
                each["path"]
                async for page in self._library.list(self._store, prefix=_FOLDER)
                for each in page
                if each["last_modified"].timestamp() < before and each["path"].rpartition("/")[2] not in kept
            ]
            if gone:
                await self._library.delete_async(self._store, gone)
            return len(gone)

        return (await self._each(work, [None]))[0]

    async def _each(self, work: Callable[[Any], Awaitable[T]], given: Sequence[Any]) -> list[T]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(each: Any) -> T:
            async with room:
                return await work(each)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(each)) for each in given]
        except BaseExceptionGroup as several:
            failed = several.exceptions[0]
            if not isinstance(failed, Exception) or isinstance(failed, FileNotFoundError | FileExistsError):
                raise failed from None
            raise ServerTemporarilyUnavailableError(
                f"The server's store of uploads {self.shown} cannot be used just now: {type(failed).__name__}. "
                "Ask again in a moment; its log says more."
            ) from failed
        return [task.result() for task in tasks]


def far_of(settings: Settings, now: Callable[[], float]) -> ObjectStore | None:
    """The object store that servers share, where one is named. Raises ValueError."""
    return None if settings.objects is None else ObjectStore(settings.objects, now)


def _key(name: str) -> str:
    return f"{_FOLDER}/{name[:2]}/{name}"
