"""Brings a directory or a file onto a node by content: only what the node lacks travels.

Called for workdirs and file mounts. The other half is `sky.agent.sync`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sky.agent.connection import Reply

from .agent_client import AgentClient
from .delta import bring
from .errors import AgentError, AgentUnreachable, SyncFailed

Ignore = Callable[[str, bool], bool]
"""Says whether a path (relative, with /) is left out; the second argument is True for directories."""
Progress = Callable[[int, int], None]
"""Told after each piece: bytes sent, bytes to send in all."""

#: Small enough to stay in the processor's caches on their way, large enough that their number costs nothing.
_PACK = 1 << 20
_SMALL = 1 << 20
_PART = 1 << 20
_IN_FLIGHT = 8
#: Entries in a page of the list. The first is short, so that contents begin to travel soon.
_FIRST_PAGE, _PAGE = 500, 4000
_LIST_LIMIT = 6 << 20
#: Pages on their way at the same time.
_PAGES_AHEAD = 3
_ATTEMPTS = 3
_FAN_S = 3600.0
#: Refusals that a new session may not meet: the agent restarted, a file changed while it was read, or another sync
#: to the same place came in between.
_MAY_PASS = ("NoSuchSession", "HashMismatch", "WrongOffset", "ContentMissing")


class SyncReport(NamedTuple):
    """What a sync did: files wanted, their bytes, bytes that travelled, files written and files removed on the node.

    `session` is the node's number for it, by which `sync_fan` hands it on.
    """

    files: int
    bytes_total: int
    bytes_sent: int
    written: int
    removed: int
    session: int = 0


class HashCache:
    """Hashes of files that have not changed since they were read, by path, size, time and inode. One per process."""

    def __init__(self, limit: int = 200_000) -> None:
        self._known: dict[tuple[str, int, int, int], str] = {}
        self._limit = limit

    def digest(self, path: Path, facts: os.stat_result) -> str:
        """The SHA-256 of the file in hexadecimal."""
        key = (str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino)
        known = self._known.get(key)
        if known is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            if len(self._known) >= self._limit:
                self._known.clear()
            self._known[key] = known
        return known


_Source = tuple[str, Path, int]
"""A content: its hash, where it can be read, and its size."""


class _Tree(NamedTuple):
    entries: list[dict[str, Any]]
    sizes: dict[str, int]
    """Of each content by its hash."""
    find: Callable[[str], Path]
    """Where the content of a hash can be read."""
    files: int
    size: int


async def sync_tree(
    client: AgentClient,
    source: Path,
    dest: str,
    *,
    root: str = "workdir",
    delete: bool = True,
    ignore: Ignore | None = None,
    progress: Progress | None = None,
    cache: HashCache | None = None,
) -> SyncReport:
    """Make `dest` on the node (~/…, absolute, or relative to its home) hold what `source` holds.

    Files that an earlier sync put there and that `source` no longer has are removed if `delete`; the user's own files
    are not. SyncFailed names what could not be read or written.
    """
    tree = await asyncio.to_thread(_walk, source, ignore, cache or HashCache())
    for attempt in range(_ATTEMPTS):
        try:
            return await _Sending(client, tree, progress).run(dest, root, delete)
        except (AgentError, AgentUnreachable) as error:
            # The agent restarted in between, or a file changed while it was read; contents that arrived are kept there.
            again = isinstance(error, AgentUnreachable) or error.type in _MAY_PASS
            if not again or attempt == _ATTEMPTS - 1:
                raise SyncFailed(f"cannot sync {source} to {dest} on {client.where}: {error}") from error
        if attempt:
            tree = await asyncio.to_thread(_walk, source, ignore, HashCache())
    raise AssertionError("the loop returns or raises")


async def sync_content(
    client: AgentClient,
    entries: Sequence[Mapping[str, Any]],
    read: Callable[[str], Path],
    dest: str,
    *,
    root: str = "workdir",
    delete: bool = True,
) -> SyncReport:
    """As `sync_tree`, from content that is kept by hash: `entries` as `sync_begin` takes them, `read` finds a hash."""
    files = [each for each in entries if "hash" in each]
    sizes = {str(each["hash"]): int(each["size"]) for each in files}
    tree = _Tree([dict(each) for each in entries], sizes, read, len(files), sum(int(each["size"]) for each in files))
    for attempt in range(_ATTEMPTS):
        try:
            return await _Sending(client, tree, None).run(dest, root, delete)
        except AgentUnreachable:
            if attempt == _ATTEMPTS - 1:
                raise
        except AgentError as error:
            if error.type not in _MAY_PASS or attempt == _ATTEMPTS - 1:
                raise SyncFailed(f"cannot sync to {dest} on {client.where}: {error}") from error
    raise AssertionError("the loop returns or raises")


async def sync_fan(head: AgentClient, session: int, ranks: Sequence[int]) -> list[int]:
    """Let the head give what was just synced to it to other nodes; the ranks of those that it could not give it to."""
    try:
        args = {"session": session, "ranks": list(ranks)}
        reply, _ = await head.call("sync_fan", args, timeout=_FAN_S, repeat=False)
    except (AgentError, AgentUnreachable):
        return list(ranks)
    outcomes = reply.get("ranks")
    done = outcomes if isinstance(outcomes, dict) else {}
    return [rank for rank in ranks if "written" not in (done.get(str(rank)) or {})]


class _Sending:
    """One session with an agent: the list goes ahead page by page, and contents follow as they are asked for."""

    def __init__(self, client: AgentClient, tree: _Tree, progress: Progress | None) -> None:
        self._client = client
        self._tree = tree
        self._progress = progress
        self._groups: asyncio.Queue[list[_Source] | None] = asyncio.Queue()
        self._similar: set[str] = set()
        """Contents of which the node has an earlier version, and rsync."""
        #: Bounds what is in memory here and there.
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self.session = self.sent = self.total = 0

    async def run(self, dest: str, root: str, delete: bool) -> SyncReport:
        """From the list to the commit."""
        workers = [asyncio.ensure_future(self._work()) for _ in range(_IN_FLIGHT)]
        listing = asyncio.ensure_future(self._list(dest, root, delete))
        try:
            # The first that fails ends all.
            await asyncio.gather(listing, *workers)
        finally:
            for task in (listing, *workers):
                task.cancel()
            await asyncio.gather(listing, *workers, return_exceptions=True)
        args = {"session": self.session, "entries": len(self._tree.entries)}
        reply, _ = await self._client.call("sync_commit", args, timeout=600.0, repeat=False)
        tree = self._tree
        return SyncReport(tree.files, tree.size, self.sent, int(reply["written"]), int(reply["removed"]), self.session)

    async def _list(self, dest: str, root: str, delete: bool) -> None:
        try:
            pages = _pages(self._tree.entries)
            args = {"root": root, "dest": dest, "delete": delete}
            reply, missing = await self._client.call("sync_begin", args, next(pages), timeout=600.0)
            self.session = int(reply["session"])
            self._ask(reply, missing)
            ahead: deque[asyncio.Future[Reply]] = deque()
            try:
                for page in pages:
                    # Not repeated: a page that is listed twice is refused.
                    call = self._client.call(
                        "sync_entries", {"session": self.session}, page, timeout=600.0, repeat=False
                    )
                    ahead.append(asyncio.ensure_future(call))
                    # Let it be on its way before the next one is encoded.
                    await asyncio.sleep(0)
                    if len(ahead) >= _PAGES_AHEAD:
                        self._ask(*await ahead.popleft())
                while ahead:
                    self._ask(*await ahead.popleft())
            finally:
                for left in ahead:
                    left.cancel()
                await asyncio.gather(*ahead, return_exceptions=True)
        finally:
            for _ in range(_IN_FLIGHT):
                self._groups.put_nowait(None)

    def _ask(self, reply: dict[str, Any], missing: bytes) -> None:
        """Queue what the agent lacks; it is not to ask for what it was not offered."""
        names = json.loads(missing)
        if not isinstance(names, list) or not all(isinstance(name, str) and name in self._tree.sizes for name in names):
            raise SyncFailed(f"{self._client.where} asks for contents that it was not offered")
        wanted = [(name, self._tree.find(name), self._tree.sizes[name]) for name in names]
        self.total += sum(size for _, _, size in wanted)
        similar = reply.get("similar")
        if isinstance(similar, list):
            self._similar.update(name for name in similar if isinstance(name, str))
        for group in _packs(wanted):
            self._groups.put_nowait(group)

    async def _work(self) -> None:
        while (group := await self._groups.get()) is not None:
            if len(group) == 1 and group[0][2] > _SMALL:
                if not await self._changed(*group[0]):
                    await self._large(*group[0])
            else:
                async with self._room:
                    await self._small(group)

    async def _small(self, group: Sequence[_Source]) -> None:
        contents = await asyncio.to_thread(lambda: [_read(path, size) for _, path, size in group])
        hashes, sizes = [name for name, _, _ in group], [len(data) for data in contents]
        args = {"session": self.session, "hashes": hashes, "sizes": sizes}
        body = b"".join(contents)
        await self._client.call("sync_put", args, body, timeout=300.0)
        self._count(len(body))

    async def _changed(self, name: str, path: Path, size: int) -> bool:
        """Bring a large file as what is new in it, if the node has an earlier version and both sides can."""
        if name not in self._similar or self._client.near:
            return False
        async with self._room:
            travelled = await bring(self._client, self.session, name, path)
        if travelled is None:
            return False
        self.total += travelled - size
        self._count(travelled)
        return True

    async def _large(self, name: str, path: Path, size: int) -> None:
        """Part after part without waiting for each; the agent takes them in the order in which they are sent."""
        reply, _ = await self._client.call("sync_have", {"session": self.session, "hash": name})
        if reply["done"]:
            return
        offset = int(reply["offset"])
        # In order: the first that failed is why the others did.
        going: list[asyncio.Task[None]] = []
        try:
            with path.open("rb") as file:
                while not any(task.done() and task.exception() for task in going):
                    await self._room.acquire()
                    data = await asyncio.to_thread(os.pread, file.fileno(), _PART, offset)
                    last = offset + len(data) >= size or not data
                    args = {"session": self.session, "hash": name, "offset": offset, "last": last}
                    task = asyncio.create_task(self._part(args, data))
                    # However it ends, also before it has begun.
                    task.add_done_callback(lambda _: self._room.release())
                    going.append(task)
                    offset += len(data)
                    if last:
                        break
            await asyncio.gather(*going)
        finally:
            for task in going:
                task.cancel()
            await asyncio.gather(*going, return_exceptions=True)

    async def _part(self, args: dict[str, Any], data: bytes) -> None:
        # Not repeated blindly: after a lost answer the offset tells whether the part arrived.
        await self._client.call("sync_part", args, data, timeout=300.0, repeat=False)
        self._count(len(data))

    def _count(self, amount: int) -> None:
        self.sent += amount
        if self._progress is not None:
            self._progress(self.sent, self.total)


def _read(path: Path, size: int) -> bytes:
    """A small file, whole. Without a file object: there are tens of thousands of them."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(handle, size + 1)
            # Not what it was when it was listed, or a system that reads in pieces.
            return data if len(data) == size else path.read_bytes()
        finally:
            os.close(handle)
    except OSError as error:
        raise SyncFailed(f"cannot read {path}: {error.strerror}") from error


def _walk(source: Path, ignore: Ignore | None, cache: HashCache) -> _Tree:
    entries: list[dict[str, Any]] = []
    sources: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    files = size = 0
    try:
        for path, relative, facts in _visit(source, ignore):
            entry: dict[str, Any] = {"path": relative, "mode": stat.S_IMODE(facts.st_mode) & 0o777}
            if stat.S_ISDIR(facts.st_mode):
                entry["type"] = "dir"
            elif stat.S_ISLNK(facts.st_mode):
                entry.update({"type": "link", "target": str(path.readlink())})
            elif stat.S_ISREG(facts.st_mode):
                digest = cache.digest(path, facts)
                entry.update({"type": "file", "size": facts.st_size, "hash": digest})
                sources[digest], sizes[digest] = path, facts.st_size
                files, size = files + 1, size + facts.st_size
            else:
                continue  # sockets, pipes and devices have no content to bring
            entries.append(entry)
    except OSError as error:
        raise SyncFailed(f"cannot read {error.filename or source}: {error.strerror}") from error
    return _Tree(entries, sizes, sources.__getitem__, files, size)


def _visit(source: Path, ignore: Ignore | None) -> Iterator[tuple[Path, str, os.stat_result]]:
    facts = source.stat()
    if not stat.S_ISDIR(facts.st_mode):
        yield source, "", facts
        return
    waiting = [(source, "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as items:
            for item in sorted(items, key=lambda item: item.name):
                relative = prefix + item.name
                is_dir = item.is_dir(follow_symlinks=False)
                if ignore is not None and ignore(relative, is_dir):
                    continue
                yield Path(item.path), relative, item.stat(follow_symlinks=False)
                if is_dir:
                    waiting.append((Path(item.path), relative + "/"))


def _pages(entries: list[dict[str, Any]]) -> Iterator[bytes]:
    """The list as JSON in pieces that fit a frame; at least one piece."""
    yield from _page(entries[:_FIRST_PAGE])
    for at in range(_FIRST_PAGE, len(entries), _PAGE):
        yield from _page(entries[at : at + _PAGE])


def _page(entries: list[dict[str, Any]]) -> Iterator[bytes]:
    text = json.dumps(entries, separators=(",", ":")).encode()
    if len(text) <= _LIST_LIMIT or len(entries) < 2:
        yield text
        return
    half = len(entries) // 2
    yield from _page(entries[:half])
    yield from _page(entries[half:])


def _packs(wanted: list[_Source]) -> Iterator[list[_Source]]:
    """Small files together up to a pack, large ones alone."""
    pack: list[_Source] = []
    size = 0
    for item in wanted:
        if item[2] > _SMALL:
            yield [item]
            continue
        if pack and size + item[2] > _PACK:
            yield pack
            pack, size = [], 0
        pack.append(item)
        size += item[2]
    if pack:
        yield pack
