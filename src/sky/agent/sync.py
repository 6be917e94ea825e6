"""Takes files in by content: only what the node does not have travels, and only what an earlier sync brought is
removed.

A session lists the wanted tree (`sync_begin`, `sync_entries`), receives the missing contents (`sync_put`,
`sync_part`) into a store by hash, and puts everything in place (`sync_commit`). Contents are checked against their
hash before they are used. A manifest per destination remembers what was put there, with size and time, so that
unchanged files need not be read again. The client's half is `sky.remote.sync`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import time
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from .fields import Fields, Refused, bad, relative_path
from .node import Node

Reply = Tuple[Dict[str, Any], bytes]

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_KEEP_BLOBS = 86400.0
_OPEN_SESSIONS = 64
#: Seconds for which the list of a session that is over can be handed on.
_KEEP_COMMITTED = 60.0
_BLOCK = 1 << 20


class Entry(NamedTuple):
    """One wanted path, relative to the destination ("" is the destination itself). kind: file, dir or link."""

    path: str
    kind: str
    mode: int
    size: int
    hash: str
    target: str


class _Session:
    def __init__(self, dest: str, delete: bool, asked: Dict[str, Any]) -> None:
        self.dest = dest
        self.delete = delete
        self.asked = asked
        """The arguments that begin the same session on another node."""
        self.entries: List[Entry] = []
        self.unchanged: Dict[str, List[Any]] = {}
        self.claims: Set[str] = set()
        self.passable: Set[str] = set()
        """Folders that are there and no links, so that each is looked at once."""


class Sync:
    """The receiving end of file sync on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._blobs = os.path.join(node.root, "sync", "blobs")
        self._manifests = os.path.join(node.root, "sync", "manifests")
        self._sessions: Dict[int, _Session] = {}
        self._committed: Dict[int, _Session] = {}
        self._claims: Dict[str, int] = {}
        """How many open sessions count on a content, so that one's commit does not move it away from another."""
        self._last = 0
        # One disk, one thread: a second walk in parallel would only make both slower.
        self._gate = asyncio.Lock()

    async def begin(self, fields: Fields, body: bytes) -> Reply:
        """Open a session with the first entries (JSON list in the body); without `more`, answers the missing hashes."""
        root = fields.choice("root", ("workdir", "mount"))
        wanted = fields.text("dest", "~/sky_workdir" if root == "workdir" else None) or ""
        asked = {"root": root, "dest": wanted, "delete": fields.flag("delete")}
        session = _Session(self._destination(wanted), asked["delete"], asked)
        self._last += 1
        number = self._last
        if len(self._sessions) >= _OPEN_SESSIONS:
            # The oldest was left behind by a client that went away; what it had sent stays for its next try.
            self._release(self._sessions.pop(min(self._sessions)))
        self._sessions[number] = session
        return await self._take(number, session, fields.flag("more"), body)

    async def more(self, fields: Fields, body: bytes) -> Reply:
        """Further entries of a session whose list did not fit one frame."""
        number, session = self._session(fields)
        return await self._take(number, session, fields.flag("more"), body)

    async def _take(self, number: int, session: _Session, more: bool, body: bytes) -> Reply:
        session.entries.extend(_entries(body))
        if more:
            return {"session": number}, b""
        _check_tree(session.entries)
        missing = await self._in_thread(self._compare, session)
        return {"session": number}, json.dumps(missing).encode()

    async def put(self, fields: Fields, body: bytes) -> Reply:
        """Contents of small files, one after the other: `hashes` and `sizes` say where each ends."""
        self._session(fields)
        hashes, sizes = fields.texts("hashes"), fields.integers("sizes") or []
        if len(hashes) != len(sizes) or sum(sizes) != len(body):
            raise bad("sync_put: hashes and sizes must match the body, byte for byte")
        for name in hashes:
            _check_hash(name)
        await self._in_thread(self._store, hashes, sizes, body)
        return {}, b""

    async def have(self, fields: Fields, body: bytes) -> Reply:
        """How many bytes of a large file are here already: {offset}."""
        del body
        self._session(fields)
        name = _check_hash(fields.text("hash"))
        done = self._has(name)
        return {"offset": _length(self._blob(name) + ("" if done else ".part")), "done": done}, b""

    async def part(self, fields: Fields, body: bytes) -> Reply:
        """The next bytes of a large file, at the offset that `sync_have` gave; `last` checks the hash."""
        self._session(fields)
        name = _check_hash(fields.text("hash"))
        offset, last = fields.integer("offset", 0, 1 << 53), fields.flag("last")
        return await self._in_thread(self._append, name, offset, last, body), b""

    async def commit(self, fields: Fields, body: bytes) -> Reply:
        """Put everything in place: {written, removed}. The session is over, whatever the outcome."""
        del body
        number, session = self._session(fields)
        del self._sessions[number]
        try:
            written, removed = await self._in_thread(self._commit, session)
        finally:
            self._release(session)
        self._committed[number] = session
        asyncio.get_running_loop().call_later(_KEEP_COMMITTED, self._committed.pop, number, None)
        return {"written": written, "removed": removed}, b""

    def committed(self, number: int) -> Tuple[Dict[str, Any], List[Entry], str]:
        """A session whose tree is in place since a moment ago: how to begin it elsewhere, its entries, and where."""
        session = self._committed.get(number)
        if session is None:
            raise Refused("NoSuchSession", "there is no sync session %d that was committed just now" % number)
        return session.asked, session.entries, session.dest

    def _release(self, session: _Session) -> None:
        for name in session.claims:
            self._claims[name] -= 1
            if not self._claims[name]:
                del self._claims[name]

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        async with self._gate:
            return await asyncio.get_running_loop().run_in_executor(None, work, *args)

    def _session(self, fields: Fields) -> Tuple[int, _Session]:
        number = fields.integer("session", 0, 1 << 53)
        session = self._sessions.get(number)
        if session is None:
            raise Refused(
                "NoSuchSession", "there is no sync session %d; the agent may have restarted: begin again" % number
            )
        return number, session

    def _destination(self, dest: str) -> str:
        if dest in ("", "~"):
            raise bad("the destination of a sync must be a path below the home or an absolute one, found %r" % dest)
        if dest.startswith("/"):
            parts = [part for part in dest.split("/") if part]
            if not parts:
                raise bad("the destination of a sync cannot be /")
            return "/" + "/".join(relative_path("/".join(parts)))
        return os.path.join(self._node.home, *relative_path((dest[2:] if dest.startswith("~/") else dest).rstrip("/")))

    def _blob(self, name: str) -> str:
        # In many folders: file systems take ten times as long to make a file among ten thousand others.
        return "%s/%s/%s" % (self._blobs, name[:2], name)

    # On the worker thread

    def _compare(self, session: _Session) -> List[str]:
        self._drop_old_blobs()
        known = self._read_manifest(session.dest)
        missing: Dict[str, None] = {}
        clear: Set[str] = set()
        for entry in session.entries:
            if entry.kind != "file":
                continue
            path = _inside(session.dest, entry.path)
            here = _fingerprint(path)
            if here is not None and here[0] == entry.size and not _crosses_link(session.dest, entry.path, clear):
                record = known.get(entry.path)
                same = record[2] if record is not None and record[:2] == here else hash_file(path)
                if same == entry.hash:
                    session.unchanged[entry.path] = [*here, entry.hash]
                    continue
            if entry.hash not in session.claims:
                session.claims.add(entry.hash)
                self._claims[entry.hash] = self._claims.get(entry.hash, 0) + 1
            if not self._has(entry.hash, entry.size):
                missing[entry.hash] = None
        return list(missing)

    def _has(self, name: str, size: Optional[int] = None) -> bool:
        """Whether a content is here. Small ones are written under their own name: one that is cut short is none."""
        try:
            found = os.stat(self._blob(name)).st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def _store(self, hashes: List[str], sizes: List[int], body: bytes) -> None:
        at = 0
        view = memoryview(body)
        for name, size in zip(hashes, sizes):  # noqa: B905 - strict needs 3.10
            data = view[at : at + size]
            at += size
            if _digest(data) != name:
                raise Refused("HashMismatch", "the content sent for %s has another hash; send it again" % name)
            handle = self._create(self._blob(name))
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)

    def _create(self, path: str) -> int:
        """Open for writing, with the store's folders if they are not there yet."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            self._make_store(path)
            return os.open(path, flags, 0o644)

    def _make_store(self, path: str) -> None:
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)

    def _append(self, name: str, offset: int, last: bool, body: bytes) -> Dict[str, Any]:
        path = self._blob(name) + ".part"
        self._make_store(path)
        have = _length(path)
        if have != offset:
            raise Refused(
                "WrongOffset",
                "the node has %d bytes of %s, the part begins at %d; ask sync_have" % (have, name, offset),
            )
        with open(path, "ab") as file:
            file.write(body)
        if last:
            if hash_file(path) != name:
                os.unlink(path)
                raise Refused(
                    "HashMismatch", "the whole of %s has another hash: it changed while it was sent; begin again" % name
                )
            os.replace(path, self._blob(name))
        return {"offset": offset + len(body)}

    def _commit(self, session: _Session) -> Tuple[int, int]:
        before = self._read_manifest(session.dest)
        lacking = [e.path for e in session.entries if e.kind == "file" and not self._ready(session, e)]
        if lacking:
            raise Refused("ContentMissing", "%d file(s) were never sent, the first is %r" % (len(lacking), lacking[0]))
        after: Dict[str, List[Any]] = {}
        written = 0
        uses: Dict[str, int] = {}
        for entry in session.entries:
            uses[entry.hash] = uses.get(entry.hash, 0) + 1
        for entry in session.entries:
            uses[entry.hash] -= 1
            written += self._place(session, entry, uses[entry.hash] == 0 and self._claims.get(entry.hash) == 1, after)
        removed = self._remove(session.dest, before, after) if session.delete else 0
        if not session.delete:
            after = {**before, **after}
        self._write_manifest(session.dest, after)
        return written, removed

    def _ready(self, session: _Session, entry: Entry) -> bool:
        return entry.path in session.unchanged or self._has(entry.hash, entry.size)

    def _place(self, session: _Session, entry: Entry, last_use: bool, after: Dict[str, List[Any]]) -> int:
        path = _inside(session.dest, entry.path)
        _make_parents(session.dest, entry.path, session.passable)
        if entry.kind == "dir":
            made = not os.path.isdir(path) or os.path.islink(path)
            if made:
                _clear(path)
                os.mkdir(path)
            os.chmod(path, entry.mode | 0o700)
            after[entry.path] = [0, 0, "dir"]
            return 0
        if entry.kind == "link":
            after[entry.path] = [0, 0, "link"]
            if os.path.islink(path) and os.readlink(path) == entry.target:
                return 0
            _clear(path)
            os.symlink(entry.target, path + ".sky-new")
            os.replace(path + ".sky-new", path)
            return 1
        record = session.unchanged.get(entry.path)
        if record is not None:
            facts = _facts(path)
            if facts is not None and [facts.st_size, facts.st_mtime_ns] == record[:2]:
                if stat.S_IMODE(facts.st_mode) != entry.mode:
                    os.chmod(path, entry.mode)
                after[entry.path] = record
                return 0
        facts = self._put_file(path, entry, last_use)
        after[entry.path] = [facts.st_size, facts.st_mtime_ns, entry.hash]
        return 1

    def _put_file(self, path: str, entry: Entry, last_use: bool) -> os.stat_result:
        blob = self._blob(entry.hash)
        if last_use:
            with suppress(OSError):  # a folder in the way, or another file system: below
                facts = os.stat(blob)
                if stat.S_IMODE(facts.st_mode) != entry.mode:
                    os.chmod(blob, entry.mode)
                # In one step, so that whoever has the old file open keeps a whole one.
                os.rename(blob, path)
                return facts
        if os.path.isdir(path) and not os.path.islink(path):
            _clear(path)
        new = path + ".sky-new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        _copy(blob, new)
        os.chmod(new, entry.mode)
        os.replace(new, path)
        return os.stat(path)

    def _remove(self, dest: str, before: Dict[str, List[Any]], after: Dict[str, List[Any]]) -> int:
        removed = 0
        for path in sorted(set(before) - set(after), reverse=True):  # a folder's contents come before the folder
            record, full = before[path], _inside(dest, path)
            if _crosses_link(dest, path, set()):
                continue
            with suppress(OSError):
                if record[2] == "dir":
                    os.rmdir(full)  # only if it holds nothing of the user's own
                elif (record[2] == "link" and os.path.islink(full)) or _fingerprint(full) == record[:2]:
                    os.unlink(full)
                    removed += 1
        return removed

    def _manifest(self, dest: str) -> str:
        return os.path.join(self._manifests, _digest(os.fsencode(dest)) + ".json")

    def _read_manifest(self, dest: str) -> Dict[str, List[Any]]:
        try:
            with open(self._manifest(dest), "rb") as file:
                values: Dict[str, List[Any]] = json.loads(file.read())
                return values
        except (FileNotFoundError, ValueError):
            return {}

    def _write_manifest(self, dest: str, values: Dict[str, List[Any]]) -> None:
        os.makedirs(self._manifests, mode=0o700, exist_ok=True)
        _write(self._manifest(dest), json.dumps(values).encode())

    def _drop_old_blobs(self) -> None:
        before = time.time() - _KEEP_BLOBS
        with suppress(FileNotFoundError):
            for folder in os.scandir(self._blobs):
                if not folder.is_dir(follow_symlinks=False):
                    os.unlink(folder.path)  # an earlier version kept its contents here
                    continue
                for item in os.scandir(folder.path):
                    if item.stat().st_mtime < before:
                        os.unlink(item.path)


def _entries(body: bytes) -> List[Entry]:
    try:
        values = json.loads(body.decode("utf-8", "surrogatepass") or "[]")
    except (ValueError, RecursionError):
        raise bad("the list of entries must be JSON") from None
    if not isinstance(values, list):
        raise bad("the list of entries must be a JSON list, found %s" % type(values).__name__)
    return [_entry(value) for value in values]


def _entry(value: Any) -> Entry:
    fields = Fields(value, "an entry")
    path, kind = fields.text("path", limit=4096), fields.choice("type", ("file", "dir", "link"))
    if path:
        relative_path(path)
    return Entry(
        path=path,
        kind=kind,
        mode=fields.integer("mode", 0, 0o7777, 0o644) & 0o777,
        size=fields.integer("size", 0, 1 << 53, 0),
        hash=_check_hash(fields.text("hash")) if kind == "file" else "",
        target=fields.text("target", limit=4096) if kind == "link" else "",
    )


def _check_tree(entries: List[Entry]) -> None:
    """No path twice, and nothing below a file or a link: a link in the list must not carry writes elsewhere."""
    kinds: Dict[str, str] = {}
    for entry in entries:
        if entry.path in kinds:
            raise bad("the path %r is listed twice" % entry.path[:200])
        kinds[entry.path] = entry.kind
    for entry in entries:
        at = entry.path
        while at:
            at = at.rpartition("/")[0]
            if kinds.get(at, "dir") != "dir":
                raise bad("%r lies below %r, which is a %s" % (entry.path[:200], at[:200], kinds[at]))


def _check_hash(name: str) -> str:
    if not _HASH.match(name):
        raise bad("not a SHA-256 in hexadecimal: %r" % name[:80])
    return name


def _inside(dest: str, path: str) -> str:
    return os.path.join(dest, path) if path else dest


def _parents(path: str) -> List[str]:
    parts = path.split("/")[:-1] if path else []
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _crosses_link(dest: str, path: str, clear: Set[str]) -> bool:
    """Whether a link lies on the way; folders that are none are added to `clear`."""
    for parent in _parents(path):
        if parent not in clear:
            if os.path.islink(os.path.join(dest, parent)):
                return True
            clear.add(parent)
    return False


def _make_parents(dest: str, path: str, passable: Set[str]) -> None:
    """Make the folders above; those in `passable` are known to be there."""
    above = path.rpartition("/")[0] if path else None
    if above is not None and above in passable:
        return
    os.makedirs(os.path.dirname(dest) if not path else dest, exist_ok=True)
    for parent in _parents(path):
        full = os.path.join(dest, parent)
        if os.path.islink(full):
            raise Refused(
                "LinkInTheWay",
                "%s is a symbolic link on the node; nothing is written through it. Remove it first" % full,
            )
        if not os.path.isdir(full):
            _clear(full)
            os.mkdir(full)
    if above is not None:
        passable.add(above)


def _clear(path: str) -> None:
    """Make way for an entry of another kind; a folder only when it is empty."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    try:
        os.rmdir(path)
    except OSError:
        raise Refused(
            "FolderInTheWay", "%s is a folder with files on the node; it is not replaced by a file" % path
        ) from None


def _facts(path: str) -> Optional[os.stat_result]:
    """Of a regular file, None for anything else."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _fingerprint(path: str) -> Optional[List[Any]]:
    """Size and time of a regular file, None for anything else."""
    facts = _facts(path)
    return None if facts is None else [facts.st_size, facts.st_mtime_ns]


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _digest(data: Any) -> str:
    # Brings libcrypto, 3 MB that an agent without files to take in need not hold.
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(data).hexdigest()


def hash_file(path: str) -> str:
    """The SHA-256 of a file in hexadecimal."""
    import hashlib  # noqa: PLC0415 - as above

    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def _write(path: str, data: bytes) -> None:
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)


def _copy(source: str, target: str) -> None:
    with open(source, "rb", buffering=0) as reading, open(target, "wb") as writing:
        while True:
            block = reading.read(_BLOCK)
            if not block:
                return
            writing.write(block)
