"""Uploaded content: files named by the SHA-256 of what is in them, under `<state>/blobs/ab/<hash>`.

A blob is complete or absent: it is written aside, checked against its name and renamed. The upload routes put blobs
here; whoever brings files to nodes reads them by path. Where servers share an object store and no directory, that has
the blobs, and the directory is what this server has seen of them.
"""

import asyncio
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sky.core.errors import ClientError, ServerTemporarilyUnavailableError
from sky.kit.paths import private_dir
from sky.kit.together import together
from sky.server.failures import TooLarge
from sky.wire.packs import unpack
from sky.wire.protocol import MAX_BLOB
from sky.wire.uploads import ManifestEntry, manifest_file

#: Seconds without a write after which an upload has broken off.
_BROKEN_OFF_S = 3600.0
#: Bytes on disk that uploads leave free.
RESERVE = 512 * 1024 * 1024
#: Bytes of an upload after which the room is looked at again.
_LOOK_EVERY = 64 * 1024 * 1024
#: Blobs that are fetched at a time.
_FETCHED = 32
#: Seconds between looks for copies that are used no more, and without use after which one goes.
_TRIM_S, _UNUSED_S = 3600.0, 86400.0
_NAME = re.compile(r"[0-9a-f]{64}")


class Far(Protocol):
    """Where blobs are that all servers see; `objects.ObjectStore`. Raises ServerTemporarilyUnavailableError."""

    async def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not there."""
        ...

    async def put(self, files: Sequence[tuple[str, Path]]) -> None:
        """Send files, each under its name."""
        ...

    async def get(self, name: str, path: Path) -> None:
        """Fetch one into a new file. Raises FileNotFoundError."""
        ...

    async def prune(self, kept: Collection[str], before: float) -> int:
        """Remove those that were sent before a time and are not kept; how many."""
        ...


class BlobStore:
    """Content-addressed files below one directory, and in `far` where there is one."""

    def __init__(self, root: Path, most: int = MAX_BLOB, far: Far | None = None) -> None:
        self.root = private_dir(root)
        self._far = far
        self._trimmed = float("-inf")
        self._most = most
        self._aside = private_dir(root / "incoming")
        _clear(self._aside)

    def path(self, name: str) -> Path:
        """Where a blob is or would be. Raises ClientError for a name that is no hash."""
        return blob_path(self.root, name)

    async def missing(self, names: Iterable[str]) -> list[str]:
        """Those that are not here, each once, in order."""
        asked = list(dict.fromkeys(names))
        gone = [name for name in asked if not _asked_for(self.path(name))]
        return gone if self._far is None else await self._far.missing(asked)

    async def fetch(self, names: Iterable[str]) -> None:
        """Have blobs in the directory that another server was sent. Raises FileNotFoundError."""
        if (far := self._far) is None:
            return
        gone = [name for name in dict.fromkeys(names) if not _asked_for(self.path(name))]
        for first in range(0, len(gone), _FETCHED):
            await together(self._fetch(far, name) for name in gone[first : first + _FETCHED])
        if gone and (now := asyncio.get_running_loop().time()) > self._trimmed + _TRIM_S:
            self._trimmed = now
            await asyncio.to_thread(_trim, self.root, self._aside)

    async def _fetch(self, far: Far, name: str) -> None:
        target, aside = self.path(name), self._aside / f"{name}.{secrets.token_hex(8)}"
        try:
            await far.get(name, aside)
            await asyncio.to_thread(_check, aside, name)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    async def prune(self, manifests: Collection[str], before: float) -> int:
        """Remove blobs last asked for before a time and used by none of these manifests; how many."""
        if self._far is None:
            return prune(self.root, manifests, before)
        for name in manifests:
            # One that is gone names nothing that could be kept.
            with suppress(FileNotFoundError, ClientError):
                await self.fetch([name])
        removed = await self._far.prune(_kept(self.root, manifests), before)
        prune(self.root, manifests, before)
        return removed

    def manifest(self, name: str) -> list[ManifestEntry]:
        """The entries of a manifest that was uploaded. Raises FileNotFoundError, ClientError."""
        return manifest_file(self.path(name))

    async def put_pack(self, pack: bytes) -> int:
        """Store the small blobs of a pack (see `wire.packs`); how many. Raises ClientError for other content."""
        blobs = unpack(pack)
        self._check_room()
        # Thousands of files are hashed and written here: not while everybody else waits.
        stored = await asyncio.to_thread(_store_pack, self, self._aside, blobs)
        if self._far is not None:
            await self._far.put(stored)
        return len(blobs)

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Store a blob and return its size; nothing is kept unless its content has the hash `name`.

        Raises ClientError for other content, TooLarge beyond the bound.
        """
        target = self.path(name)
        aside = self._aside / f"{name}.{secrets.token_hex(8)}"
        digest, size = hashlib.sha256(), 0
        try:
            with aside.open("xb") as out:
                async for piece in pieces:
                    if size // _LOOK_EVERY != (size + len(piece)) // _LOOK_EVERY or not size:
                        self._check_room()
                    size += len(piece)
                    if size > self._most:
                        raise TooLarge(f"An uploaded file may have at most {self._most} bytes.")
                    digest.update(piece)
                    out.write(piece)
                    await asyncio.sleep(0)
            if digest.hexdigest() != name:
                raise ClientError(f"The uploaded content does not have the hash {name}; it changed on the way.")
            if self._far is not None:
                await self._far.put([(name, aside)])
            target.parent.mkdir(mode=0o700, exist_ok=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return size

    def _check_room(self) -> None:
        """Raise ServerTemporarilyUnavailableError when uploads would take the room that the server's records need."""
        if _free(self.root) < RESERVE:
            raise ServerTemporarilyUnavailableError(
                f"There is no room for uploads on the server: less than {RESERVE >> 20} MiB are free for them."
            )


def _free(root: Path) -> int:
    """Bytes that are free where uploads are kept."""
    return shutil.disk_usage(root).free


def _clear(aside: Path) -> None:
    """Remove what uploads that broke off left; not what another server may be writing at this moment."""
    for left in aside.iterdir():
        # Of the file system's own clock, which stamps both.
        with suppress(FileNotFoundError):
            if aside.stat().st_mtime - left.stat().st_mtime > _BROKEN_OFF_S:
                left.unlink(missing_ok=True)


def _trim(root: Path, aside: Path) -> None:
    """Remove copies that were not used for long. By the file system's own clock: something was just made in `aside`."""
    now = aside.stat().st_mtime
    for path in root.glob("??/*"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > _UNUSED_S:
                path.unlink()


def _asked_for(path: Path) -> bool:
    """Whether a blob is here; its time becomes that of this last use, so that it is not removed just now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def prune(root: Path, manifests: Collection[str], before: float) -> int:
    """Remove blobs last asked for before a time and used by none of these manifests; how many."""
    kept = _kept(root, manifests)
    removed = 0
    for path in root.glob("??/*"):
        if path.name not in kept and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _kept(root: Path, manifests: Collection[str]) -> set[str]:
    """Manifests, and all that they name."""
    kept = set(manifests)
    for name in manifests:
        with suppress(FileNotFoundError, ClientError):
            kept |= {entry.hash for entry in manifest_file(blob_path(root, name))}
    return kept


def _check(path: Path, name: str) -> None:
    """Raise FileNotFoundError for what was fetched and is not what it is called: it is of no use to anybody."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != name:
            raise FileNotFoundError(f"what the store of uploads has as {name} is something else")


def _store_pack(store: "BlobStore", aside: Path, blobs: Sequence[tuple[str, bytes]]) -> list[tuple[str, Path]]:
    """Where each is then, by its name."""
    stored = []
    for name, content in blobs:
        target = store.path(name)
        if hashlib.sha256(content).hexdigest() != name:
            raise ClientError(f"The uploaded content does not have the hash {name}; it changed on the way.")
        fresh = aside / f"{name}.{secrets.token_hex(8)}"
        fresh.write_bytes(content)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.replace(target)
        stored.append((name, target))
    return stored


def blob_path(root: Path, name: str) -> Path:
    """Where a blob is or would be below `root`. Raises ClientError for a name that is no hash."""
    if not _NAME.fullmatch(name):
        raise ClientError(f"{name[:80]!r} is not a SHA-256 hash in lower-case hexadecimal digits.")
    return root / name[:2] / name
