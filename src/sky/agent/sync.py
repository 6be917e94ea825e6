"""Takes files in by content: only what the node does not have travels, and only what an earlier sync brought is
removed.

A session lists the wanted tree in pages (`sync_begin`, `sync_entries`), each answered with the contents that are
missing for it, receives those (`sync_put`, `sync_part`) while further pages come, and puts everything in place
(`sync_commit`).
Contents are checked against their hash before they are used. They wait in a store by hash or, where the destination is
not there yet, in a tree beside it (`stage.py`). A manifest per destination remembers what was put there, with size and
time, so that unchanged files need not be read again. The client's half is `sky.remote.sync`.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional, Set, Tuple

from .fields import Fields, Refused, bad, relative_path
from .listing import Entry, Outline, check_hash, entries_of
from .node import Node
from .places import (
    clear,
    copy,
    crosses_link,
    digest,
    facts_of,
    fingerprint,
    hash_file,
    inside,
    length,
    make_parents,
    program,
    sha256,
    write,
)
from .stage import Record, Stage, remove_tree

Reply = Tuple[Dict[str, Any], bytes]

_KEEP_BLOBS = 86400.0
_OPEN_SESSIONS = 64
#: Bytes from which on an earlier version of a file is worth a comparison, and how many are told of in a page.
_DELTA_FROM = 8 << 20
_SIMILAR = 1000
#: Large files that are hashed while they come.
_SUMS = 64
#: Seconds for which the list of a session that is over can be handed on.
_KEEP_COMMITTED = 60.0


class Session:
    """One sync to one destination, from `sync_begin` to `sync_commit`."""

    def __init__(self, dest: str, delete: bool, asked: Dict[str, Any]) -> None:
        self.dest = dest
        self.delete = delete
        self.asked = asked
        """The arguments that begin the same session on another node."""
        self.entries: List[Entry] = []
        self.outline = Outline()
        self.before: Optional[Dict[str, Record]] = None
        """The manifest of the sync before, once it was read, and what the file was like then."""
        self.read: Optional[List[Any]] = None
        self.unchanged: Dict[str, Record] = {}
        self.modes: Set[str] = set()
        """Unchanged files that are to have other permissions."""
        self.claims: Set[str] = set()
        self.shelves: Dict[str, Set[str]] = {}
        """What the folders of the store held when they were looked at."""
        self.clear: Set[str] = set()
        self.passable: Set[str] = set()
        """Folders that are there and no links, so that each is looked at once."""
        self.similar: Dict[str, str] = {}
        """Large contents that are missing, and where an earlier version of each lies, below the destination."""
        self.stage: Optional[Stage] = None


class Sync:
    """The receiving end of file sync on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._blobs = os.path.join(node.root, "sync", "blobs")
        self._stages = os.path.join(node.root, "sync", "stages")
        self._manifests = os.path.join(node.root, "sync", "manifests")
        self._sessions: Dict[int, Session] = {}
        self._committed: Dict[int, Session] = {}
        self._staged: Dict[str, Stage] = {}
        """By destination: what is being made for it, by however many sessions."""
        self._claims: Dict[str, int] = {}
        """How many open sessions count on a content, so that one's commit does not move it away from another."""
        self._sums: Dict[str, Any] = {}
        """Of large files that are on their way, by their names; for what is in their parts."""
        self._last = 0
        # One disk, one thread: a second walk in parallel would only make both slower.
        self._gate = asyncio.Lock()

    async def begin(self, fields: Fields, body: bytes) -> Reply:
        """Open a session with the first entries (JSON list in the body); answers the hashes missing for them."""
        root = fields.choice("root", ("workdir", "mount"))
        wanted = fields.text("dest", "~/sky_workdir" if root == "workdir" else None) or ""
        asked = {"root": root, "dest": wanted, "delete": fields.flag("delete")}
        session = Session(self._destination(wanted), asked["delete"], asked)
        self._last += 1
        number = self._last
        if len(self._sessions) >= _OPEN_SESSIONS:
            # The oldest was left behind by a client that went away; what it had sent stays for its next try.
            self._release(self._sessions.pop(min(self._sessions)))
        self._sessions[number] = session
        return await self._take(number, session, body)

    async def more(self, fields: Fields, body: bytes) -> Reply:
        """Further entries of a session; answers the hashes that are missing for them."""
        number, session = self._session(fields)
        return await self._take(number, session, body)

    async def _take(self, number: int, session: Session, body: bytes) -> Reply:
        missing = await self._in_thread(self._listed, session, body)
        similar = [name for name in missing if name in session.similar]
        # Only where there is any does it matter what the node has.
        reply = {"session": number, "similar": similar[:_SIMILAR] if similar and program("rsync") else []}
        return reply, json.dumps(missing, separators=(",", ":")).encode()

    async def put(self, fields: Fields, body: bytes) -> Reply:
        """Contents of small files, one after the other: `hashes` and `sizes` say where each ends."""
        _, session = self._session(fields)
        hashes, sizes = fields.texts("hashes"), fields.integers("sizes") or []
        if len(hashes) != len(sizes) or sum(sizes) != len(body):
            raise bad("sync_put: hashes and sizes must match the body, byte for byte")
        for name in hashes:
            check_hash(name)
        await self._in_thread(self._store, session, hashes, sizes, body)
        return {}, b""

    async def have(self, fields: Fields, body: bytes) -> Reply:
        """How many bytes of a large file are here already: {offset}."""
        del body
        self._session(fields)
        name = check_hash(fields.text("hash"))
        done = self._has(name)
        return {"offset": length(self._blob(name) + ("" if done else ".part")), "done": done}, b""

    async def part(self, fields: Fields, body: bytes) -> Reply:
        """The next bytes of a large file, at the offset that `sync_have` gave; `last` checks the hash."""
        self._session(fields)
        name = check_hash(fields.text("hash"))
        offset, last = fields.integer("offset", 0, 1 << 53), fields.flag("last")
        return await self._in_thread(self._append, name, offset, last, body), b""

    async def commit(self, fields: Fields, body: bytes) -> Reply:
        """Put everything in place: {written, removed}. The session is over, whatever the outcome."""
        del body
        number, session = self._session(fields)
        listed = fields.integer("entries", 0, 1 << 53, len(session.entries))
        if listed != len(session.entries):
            raise bad("sync_commit: %d entries were listed here, not %d" % (len(session.entries), listed))
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

    def _release(self, session: Session) -> None:
        for name in session.claims:
            self._claims[name] -= 1
            if not self._claims[name]:
                del self._claims[name]

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        async with self._gate:
            return await asyncio.get_running_loop().run_in_executor(None, work, *args)

    def _session(self, fields: Fields) -> Tuple[int, Session]:
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

    def _listed(self, session: Session, body: bytes) -> List[str]:
        page = entries_of(body)
        session.outline.add(page)
        if session.before is None:
            self._drop_old()
            session.before = self._read_manifest(session)
            session.stage = self._stage(session.dest, page)
        session.entries.extend(page)
        return self._missing(session, session.before, [entry for entry in page if entry.kind == "file"])

    def _stage(self, dest: str, page: List[Entry]) -> Optional[Stage]:
        """Where to make what is not there yet; None where it is, or could not be moved from here."""
        if os.path.lexists(dest) or any(not entry.path and entry.kind != "dir" for entry in page):
            return None
        stage = self._staged.get(dest)
        if stage is None:
            above = os.path.dirname(dest)
            while not os.path.isdir(above):
                above = os.path.dirname(above)
            os.makedirs(self._stages, mode=0o700, exist_ok=True)
            if os.stat(above).st_dev != os.stat(self._stages).st_dev:
                return None
            stage = self._staged[dest] = Stage(os.path.join(self._stages, digest(os.fsencode(dest))))
        return stage

    def _missing(self, session: Session, known: Dict[str, Record], files: List[Entry]) -> List[str]:
        missing: Dict[str, None] = {}
        for entry in files:
            if self._is_there(session, known, entry) or entry.hash in session.claims:
                continue
            session.claims.add(entry.hash)
            self._claims[entry.hash] = self._claims.get(entry.hash, 0) + 1
            if not self._on_shelf(session, entry):
                missing[entry.hash] = None
                if entry.size >= _DELTA_FROM and entry.path in known:
                    self._note_similar(session, entry)
        return list(missing)

    def _note_similar(self, session: Session, entry: Entry) -> None:
        """Remember a large file that an earlier sync put where another version of it is wanted now."""
        facts = facts_of(inside(session.dest, entry.path))
        begun = length(self._blob(entry.hash) + ".part")
        if facts is not None and 2 * facts.st_size >= entry.size and not begun and session.stage is None:
            session.similar[entry.hash] = entry.path

    def _is_there(self, session: Session, known: Dict[str, Record], entry: Entry) -> bool:
        """Whether a wanted file needs nothing."""
        if session.stage is not None:
            return session.stage.want(entry) or session.stage.source(entry.hash) is not None
        path = inside(session.dest, entry.path)
        facts = facts_of(path)
        if facts is None or facts.st_size != entry.size or crosses_link(session.dest, entry.path, session.clear):
            return False
        record, here = known.get(entry.path), [facts.st_size, facts.st_mtime_ns]
        if record is None or record[:2] != here:
            record = [*here, hash_file(path)]
        if record[2] != entry.hash:
            return False
        session.unchanged[entry.path] = record
        if stat.S_IMODE(facts.st_mode) != entry.mode:
            session.modes.add(entry.path)
        return True

    def _on_shelf(self, session: Session, entry: Entry) -> bool:
        """As `_has`, with one look at each folder of the store."""
        shelf = session.shelves.get(entry.hash[:2])
        if shelf is None:
            try:
                shelf = set(os.listdir(os.path.join(self._blobs, entry.hash[:2])))
            except FileNotFoundError:
                shelf = set()
            session.shelves[entry.hash[:2]] = shelf
        return entry.hash in shelf and self._has(entry.hash, entry.size)

    def _has(self, name: str, size: Optional[int] = None) -> bool:
        """Whether a content is here. Small ones are written under their own name: one that is cut short is none."""
        try:
            found = os.stat(self._blob(name)).st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def _store(self, session: Session, hashes: List[str], sizes: List[int], body: bytes) -> None:
        at = 0
        view = memoryview(body)
        for name, size in zip(hashes, sizes):  # noqa: B905 - strict needs 3.10
            data = view[at : at + size]
            at += size
            if digest(data) != name:
                raise Refused("HashMismatch", "the content sent for %s has another hash; send it again" % name)
            if session.stage is not None and session.stage.take(name, data):
                continue
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

    async def basis(self, fields: Fields, name: str, number: int) -> str:
        """A file in the store that holds the earlier version of a content and may be replaced, not written to."""
        _, session = self._session(fields)
        path = session.similar.get(check_hash(name))
        if path is None:
            raise bad("there is no earlier version of %s" % name)
        target = "%s.delta%d" % (self._blob(name), number)
        await self._in_thread(self._lay_basis, session.dest, path, target)
        return target

    def _lay_basis(self, dest: str, path: str, target: str) -> None:
        if crosses_link(dest, path, set()) or facts_of(inside(dest, path)) is None:
            raise Refused("ContentMissing", "the earlier version of %r has gone" % path[:200])
        self._make_store(target)
        with suppress(FileNotFoundError):
            os.unlink(target)
        try:
            os.link(inside(dest, path), target, follow_symlinks=False)
        except (OSError, NotImplementedError):  # another file system, or one without links
            copy(inside(dest, path), target)

    async def take_in(self, name: str, path: str) -> bool:
        """Take a file in the store for a content, if it is that."""

        def work() -> bool:
            if facts_of(path) is None or hash_file(path) != name:
                return False
            os.replace(path, self._blob(name))
            return True

        return bool(await self._in_thread(work))

    def _make_store(self, path: str) -> None:
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)

    def _append(self, name: str, offset: int, last: bool, body: bytes) -> Dict[str, Any]:
        path = self._blob(name) + ".part"
        self._make_store(path)
        have = length(path)
        if have != offset:
            raise Refused(
                "WrongOffset",
                "the node has %d bytes of %s, the part begins at %d; ask sync_have" % (have, name, offset),
            )
        # Hashed as it comes; only what an agent before this one has received is read again.
        sum = self._sums.pop(name, None) if offset else sha256()
        with open(path, "ab") as file:
            file.write(body)
        if sum is not None:
            sum.update(body)
        if last:
            if (hash_file(path) if sum is None else sum.hexdigest()) != name:
                os.unlink(path)
                raise Refused(
                    "HashMismatch", "the whole of %s has another hash: it changed while it was sent; begin again" % name
                )
            os.replace(path, self._blob(name))
        elif sum is not None and len(self._sums) < _SUMS:
            self._sums[name] = sum
        return {"offset": offset + len(body)}

    def _commit(self, session: Session) -> Tuple[int, int]:
        stage, before = session.stage, session.before or {}
        if fingerprint(self._manifest(session.dest)) != session.read:
            before = self._read_manifest(session)  # another sync to the same place was quicker
        if stage is not None:
            stage.check()
        lacking = [e.path for e in session.entries if e.kind == "file" and not self._ready(session, e)]
        if lacking:
            raise Refused("ContentMissing", "%d file(s) were never sent, the first is %r" % (len(lacking), lacking[0]))
        if stage is not None:
            # Whoever comes now finds it in place, or begins another.
            self._staged.pop(session.dest, None)
            written, after = self._fill(session, stage.tree)
            stage.prune(after)
            landed = stage.land(session.dest)
            if not landed:
                written, after = self._fill(session, session.dest)
                stage.clear()
        else:
            landed = False
            written, after = self._fill(session, session.dest)
        removed = self._remove(session.dest, before, after) if session.delete and not landed else 0
        if not session.delete:
            after = {**before, **after}
        self._write_manifest(session.dest, after)
        return written, removed

    def _ready(self, session: Session, entry: Entry) -> bool:
        if session.stage is not None and session.stage.source(entry.hash) is not None:
            return True
        return entry.path in session.unchanged or self._has(entry.hash, entry.size)

    def _fill(self, session: Session, root: str) -> Tuple[int, Dict[str, Record]]:
        """Put the listed tree below `root`, the stage's or the destination: what was written, and the manifest."""
        staging = session.stage is not None and root == session.stage.tree
        uses: Dict[str, int] = {}
        for entry in session.entries:
            uses[entry.hash] = uses.get(entry.hash, 0) + 1
        after: Dict[str, Record] = {}
        written = 0
        for entry in session.entries:
            uses[entry.hash] -= 1
            if entry.kind == "file":
                record = self._record(session, entry, staging)
                if record is None:
                    make_parents(root, entry.path, session.passable)
                    last = uses[entry.hash] == 0 and self._claims.get(entry.hash) == 1
                    facts = _put_file(inside(root, entry.path), entry, *self._source(session, entry, staging, last))
                    record = [facts.st_size, facts.st_mtime_ns, entry.hash]
                written += staging or entry.path not in session.unchanged
                after[entry.path] = record
            else:
                make_parents(root, entry.path, session.passable)
                written += _put_other(inside(root, entry.path), entry)
                after[entry.path] = [0, 0, entry.kind]
        return written, after

    def _record(self, session: Session, entry: Entry, staging: bool) -> Optional[Record]:
        """What is known of a file that is in place already."""
        if session.stage is not None:
            return session.stage.record(entry) if staging else None
        record = session.unchanged.get(entry.path)
        if record is not None and entry.path in session.modes:
            os.chmod(inside(session.dest, entry.path), entry.mode)
        return record

    def _source(self, session: Session, entry: Entry, staging: bool, last: bool) -> Tuple[str, bool]:
        """Where the content of a file is to be had, and whether it may be moved away from there."""
        if session.stage is not None:
            if not staging:
                return session.stage.path(entry.path), True
            staged = session.stage.source(entry.hash)
            if staged is not None:
                return staged, False
        return self._blob(entry.hash), last

    def _remove(self, dest: str, before: Dict[str, List[Any]], after: Dict[str, List[Any]]) -> int:
        removed = 0
        for path in sorted(set(before) - set(after), reverse=True):  # a folder's contents come before the folder
            record, full = before[path], inside(dest, path)
            if crosses_link(dest, path, set()):
                continue
            with suppress(OSError):
                if record[2] == "dir":
                    os.rmdir(full)  # only if it holds nothing of the user's own
                elif (record[2] == "link" and os.path.islink(full)) or fingerprint(full) == record[:2]:
                    os.unlink(full)
                    removed += 1
        return removed

    def _manifest(self, dest: str) -> str:
        return os.path.join(self._manifests, digest(os.fsencode(dest)) + ".json")

    def _read_manifest(self, session: Session) -> Dict[str, Record]:
        session.read = fingerprint(self._manifest(session.dest))
        try:
            with open(self._manifest(session.dest), "rb") as file:
                values: Dict[str, Record] = json.loads(file.read())
                return values
        except (FileNotFoundError, ValueError):
            return {}

    def _write_manifest(self, dest: str, values: Dict[str, List[Any]]) -> None:
        os.makedirs(self._manifests, mode=0o700, exist_ok=True)
        write(self._manifest(dest), json.dumps(values).encode())

    def _drop_old(self) -> None:
        self._drop_old_blobs()
        before = time.time() - _KEEP_BLOBS
        with suppress(FileNotFoundError):
            for item in os.scandir(self._stages):
                # One that is in use is younger than that, or its session has long been forgotten by its client.
                if item.stat(follow_symlinks=False).st_mtime < before:
                    remove_tree(item.path)

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


def _put_file(path: str, entry: Entry, source: str, move: bool) -> os.stat_result:
    """Bring a content to its path, by moving it there if that may be and can be."""
    if move:
        with suppress(OSError):  # a folder in the way, or another file system: below
            facts = os.stat(source)
            if stat.S_IMODE(facts.st_mode) != entry.mode:
                os.chmod(source, entry.mode)
            # In one step, so that whoever has the old file open keeps a whole one.
            os.rename(source, path)
            return facts
    if os.path.isdir(path) and not os.path.islink(path):
        clear(path)
    new = path + ".sky-new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    copy(source, new)
    os.chmod(new, entry.mode)
    os.replace(new, path)
    return os.stat(path)


def _put_other(path: str, entry: Entry) -> int:
    """Make a folder or a link; 1 where a link was written."""
    if entry.kind == "dir":
        if not os.path.isdir(path) or os.path.islink(path):
            clear(path)
            os.mkdir(path)
        os.chmod(path, entry.mode | 0o700)
        return 0
    if os.path.islink(path) and os.readlink(path) == entry.target:
        return 0
    clear(path)
    os.symlink(entry.target, path + ".sky-new")
    os.replace(path + ".sky-new", path)
    return 1
