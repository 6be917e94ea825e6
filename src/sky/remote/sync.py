"""Brings a directory or a file onto a node by content: only what the node lacks travels.

Called for workdirs and file mounts. The other half is `sky.agent.sync`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .agent_client import AgentClient
from .errors import AgentError, AgentUnreachable, SyncFailed

Ignore = Callable[[str, bool], bool]
"""Says whether a path (relative, with /) is left out; the second argument is True for directories."""
Progress = Callable[[int, int], None]
"""Told after each piece: bytes sent, bytes to send in all."""

_PACK = 4 << 20
_SMALL = 1 << 20
_PART = 4 << 20
_LIST_LIMIT = 6 << 20
_IN_FLIGHT = 4
_ATTEMPTS = 3
_FAN_S = 3600.0
#: Refusals that a new session may not meet: the agent restarted, or a file changed while it was read.
_MAY_PASS = ("NoSuchSession", "HashMismatch", "WrongOffset")


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


class _Tree(NamedTuple):
    entries: list[dict[str, Any]]
    sources: dict[str, tuple[Path, int]]
    """Where the content of each hash can be read, and its size."""
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
            return await _send(client, tree, dest, root, delete, progress)
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
    sources = {str(each["hash"]): (read(str(each["hash"])), int(each["size"])) for each in entries if "hash" in each}
    files = [each for each in entries if "hash" in each]
    tree = _Tree([dict(each) for each in entries], sources, len(files), sum(int(each["size"]) for each in files))
    for attempt in range(_ATTEMPTS):
        try:
            return await _send(client, tree, dest, root, delete, None)
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


async def _send(
    client: AgentClient, tree: _Tree, dest: str, root: str, delete: bool, progress: Progress | None
) -> SyncReport:
    pages = list(_pages(tree.entries))
    session, missing = 0, b"[]"
    for number, page in enumerate(pages):
        more = number < len(pages) - 1
        if number == 0:
            args = {"root": root, "dest": dest, "delete": delete, "more": more}
            reply, missing = await client.call("sync_begin", args, page, timeout=600.0)
            session = int(reply["session"])
        else:
            _, missing = await client.call("sync_entries", {"session": session, "more": more}, page, timeout=600.0)
    wanted = [(name, *tree.sources[name]) for name in json.loads(missing)]
    total = sum(size for _, _, size in wanted)
    sent = 0

    def count(amount: int) -> None:
        nonlocal sent
        sent += amount
        if progress is not None:
            progress(sent, total)

    gate = asyncio.Semaphore(_IN_FLIGHT)

    async def guarded(group: Sequence[tuple[str, Path, int]]) -> None:
        async with gate:
            if len(group) == 1 and group[0][2] > _SMALL:
                await _send_large(client, session, *group[0], count)
            else:
                await _send_small(client, session, group, count)

    sending = [asyncio.ensure_future(guarded(group)) for group in _packs(wanted)]
    try:
        await asyncio.gather(*sending)
    finally:
        for piece in sending:
            piece.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    reply, _ = await client.call("sync_commit", {"session": session}, timeout=600.0, repeat=False)
    return SyncReport(tree.files, tree.size, sent, int(reply["written"]), int(reply["removed"]), session)


async def _send_small(
    client: AgentClient, session: int, group: Sequence[tuple[str, Path, int]], count: Callable[[int], None]
) -> None:
    contents = await asyncio.to_thread(lambda: [_read(path, size) for _, path, size in group])
    args = {"session": session, "hashes": [name for name, _, _ in group], "sizes": [len(data) for data in contents]}
    body = b"".join(contents)
    await client.call("sync_put", args, body, timeout=300.0)
    count(len(body))


async def _send_large(
    client: AgentClient, session: int, name: str, path: Path, size: int, count: Callable[[int], None]
) -> None:
    reply, _ = await client.call("sync_have", {"session": session, "hash": name})
    if reply["done"]:
        return
    offset = int(reply["offset"])
    with path.open("rb") as file:
        while True:
            data = await asyncio.to_thread(os.pread, file.fileno(), _PART, offset)
            last = offset + len(data) >= size
            args = {"session": session, "hash": name, "offset": offset, "last": last}
            # Not repeated blindly: after a lost answer the offset tells whether the part arrived.
            await client.call("sync_part", args, data, timeout=300.0, repeat=False)
            offset += len(data)
            count(len(data))
            if last or not data:
                return


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
    sources: dict[str, tuple[Path, int]] = {}
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
                sources[digest] = (path, facts.st_size)
                files, size = files + 1, size + facts.st_size
            else:
                continue  # sockets, pipes and devices have no content to bring
            entries.append(entry)
    except OSError as error:
        raise SyncFailed(f"cannot read {error.filename or source}: {error.strerror}") from error
    return _Tree(entries, sources, files, size)


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
    page: list[bytes] = []
    size = 0
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":")).encode()
        if size + len(text) > _LIST_LIMIT:
            yield b"[" + b",".join(page) + b"]"
            page, size = [], 0
        page.append(text)
        size += len(text) + 1
    yield b"[" + b",".join(page) + b"]"


def _packs(wanted: list[tuple[str, Path, int]]) -> Iterator[list[tuple[str, Path, int]]]:
    """Small files together up to 4 MiB, large ones alone."""
    pack: list[tuple[str, Path, int]] = []
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
