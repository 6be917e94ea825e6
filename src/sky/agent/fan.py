"""Hands what was synced to the head on to other nodes: the server sends it once, however many nodes there are.

The head is the client of its peers here, with the same verbs as the server's half (`sky.remote.sync`): only what a node
lacks travels. Contents are read from where the head's own commit put them; if a job has changed one since, its hash
tells, and the server is told to feed that node itself. Dispatched to by `server.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Dict, Iterator, List, Tuple

from .connection import CallRefused, ConnectionLost, Reply
from .fields import Fields, Refused, bad
from .listing import Entry
from .peers import Peer
from .sync import Sync

_AT_ONCE = 8
_LIST_LIMIT = 4 << 20
_PACK = 4 << 20
_PATIENCE = 600.0

Source = Tuple[str, str, int]
"""A content: its hash, where it can be read, and its size."""


class Fan:
    """The head's way to give other nodes what it has."""

    def __init__(self, sync: Sync, peers: List[Peer]) -> None:
        self._sync = sync
        self._peers = peers

    async def fan(self, fields: Fields, body: bytes) -> Reply:
        """Give a session that was just committed here to the nodes of `ranks`: by rank, what came of it."""
        del body
        asked, entries, dest = self._sync.committed(fields.integer("session", 0, 1 << 53))
        ranks = fields.integers("ranks", 1, max(1, len(self._peers) - 1)) or []
        if len(self._peers) == 1 and ranks:
            raise bad("sync_fan: the cluster has one node")
        loop = asyncio.get_running_loop()
        pages = await loop.run_in_executor(None, lambda: list(_pages(entries)))
        sources = {each.hash: (each.hash, _place(dest, each), each.size) for each in entries if each.kind == "file"}
        gate = asyncio.Semaphore(_AT_ONCE)

        async def give(rank: int) -> Tuple[str, Dict[str, Any]]:
            async with gate:
                try:
                    return str(rank), await _feed(self._peers[rank], asked, pages, sources)
                except (ConnectionLost, CallRefused, Refused, OSError, LookupError, ValueError, TypeError) as error:
                    return str(rank), {"error": str(error) or type(error).__name__}

        return {"ranks": dict(await asyncio.gather(*(give(rank) for rank in sorted(set(ranks)))))}, b""


async def _feed(peer: Peer, asked: Dict[str, Any], pages: List[bytes], sources: Dict[str, Source]) -> Dict[str, Any]:
    session = 0
    for number, page in enumerate(pages):
        if number == 0:
            reply, missing = await peer.call("sync_begin", asked, page, _PATIENCE)
            session = int(reply["session"])
        else:
            _, missing = await peer.call("sync_entries", {"session": session}, page, _PATIENCE)
        for pack in _packs([sources[name] for name in json.loads(missing)]):
            if pack[0][2] > _PACK:
                await _feed_large(peer, session, pack[0])
            else:
                await _feed_small(peer, session, pack)
    reply, _ = await peer.call("sync_commit", {"session": session}, b"", _PATIENCE)
    return {"written": int(reply["written"]), "removed": int(reply["removed"])}


async def _feed_small(peer: Peer, session: int, pack: List[Source]) -> None:
    loop = asyncio.get_running_loop()
    contents = await loop.run_in_executor(None, lambda: [_read(path, 0, size) for _, path, size in pack])
    args = {"session": session, "hashes": [name for name, _, _ in pack], "sizes": [len(data) for data in contents]}
    await peer.call("sync_put", args, b"".join(contents), _PATIENCE)


async def _feed_large(peer: Peer, session: int, source: Source) -> None:
    name, path, size = source
    loop = asyncio.get_running_loop()
    reply, _ = await peer.call("sync_have", {"session": session, "hash": name}, b"", _PATIENCE)
    offset = int(reply["offset"])
    while not reply["done"]:
        data = await loop.run_in_executor(None, _read, path, offset, _PACK)
        last = offset + len(data) >= size
        if not data and not last:
            raise ValueError("%s has become shorter" % path)
        args = {"session": session, "hash": name, "offset": offset, "last": last}
        await peer.call("sync_part", args, data, _PATIENCE)
        offset += len(data)
        if last:
            return


def _read(path: str, offset: int, size: int) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(handle, size, offset)
    finally:
        os.close(handle)


def _place(dest: str, entry: Entry) -> str:
    return os.path.join(dest, entry.path) if entry.path else dest


def _pages(entries: List[Entry]) -> Iterator[bytes]:
    """The entries as `sync_begin` takes them, in pieces that fit a frame; at least one piece."""
    page: List[str] = []
    length = 0
    for entry in entries:
        told: Dict[str, Any] = {"path": entry.path, "type": entry.kind, "mode": entry.mode}
        if entry.kind == "file":
            told.update(size=entry.size, hash=entry.hash)
        elif entry.kind == "link":
            told["target"] = entry.target
        text = json.dumps(told, separators=(",", ":"))
        if length + len(text) > _LIST_LIMIT:
            yield ("[%s]" % ",".join(page)).encode()
            page, length = [], 0
        page.append(text)
        length += len(text) + 1
    yield ("[%s]" % ",".join(page)).encode()


def _packs(wanted: List[Source]) -> Iterator[List[Source]]:
    """Small contents together up to what a frame takes, a large one alone."""
    pack: List[Source] = []
    length = 0
    for source in wanted:
        if source[2] > _PACK:
            yield [source]
            continue
        if pack and length + source[2] > _PACK:
            yield pack
            pack, length = [], 0
        pack.append(source)
        length += source[2]
    if pack:
        yield pack
