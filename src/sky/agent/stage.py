"""A tree that does not exist yet is made beside the store and moved to its place in one step.

A sync to where nothing is writes each content once, under its final name, instead of keeping it by its hash and moving
it afterwards; that is half of the work that a node has with many small files. What an attempt that broke off has left
is taken up by the next one, file by file after a look at its hash. Used by `sync.py`, on its worker thread alone.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any, Dict, List, Optional, Set

from .fields import Refused
from .listing import Entry
from .places import hash_file

Record = List[Any]
"""Size, time of change in nanoseconds, and hash."""


class Stage:
    """The tree below `tree`, in a folder that only the owner can enter. `records` are the files that are whole."""

    def __init__(self, holder: str) -> None:
        self.tree = os.path.join(holder, "tree")
        self.records: Dict[str, Record] = {}
        self._holder = holder
        self._wanted: Dict[str, Entry] = {}
        self._where: Dict[str, Entry] = {}
        self._strays: Set[str] = set()
        self._folders: Set[str] = set()
        self._over = False
        os.makedirs(holder, mode=0o700, exist_ok=True)
        os.utime(holder)
        if os.path.isdir(self.tree):
            self._take_up("")
        else:
            os.mkdir(self.tree)

    def _take_up(self, folder: str) -> None:
        """What is left of an attempt before: links, which a write must not follow, go at once."""
        self._folders.add(folder)
        for item in list(os.scandir(self.path(folder))):
            inside = "%s/%s" % (folder, item.name) if folder else item.name
            if item.is_dir(follow_symlinks=False):
                self._take_up(inside)
            elif item.is_file(follow_symlinks=False):
                self._strays.add(inside)
            else:
                os.unlink(item.path)

    def check(self) -> None:
        """Refused once another session has brought the tree to its place, so that this one begins again."""
        if self._over:
            raise Refused("NoSuchSession", "another sync to the same place has come first; begin again")

    def path(self, inside: str) -> str:
        """Where a path of the tree is."""
        return "%s/%s" % (self.tree, inside) if inside else self.tree

    def want(self, entry: Entry) -> bool:
        """Note a wanted file; whether it is here already."""
        if entry.path in self._strays:
            path = self.path(entry.path)
            facts = os.lstat(path)
            if facts.st_size == entry.size and hash_file(path) == entry.hash:
                os.chmod(path, entry.mode)
                self._strays.discard(entry.path)
                self._keep(entry, facts)
        if self.record(entry) is not None:
            return True
        self._wanted[entry.hash] = entry
        return False

    def record(self, entry: Entry) -> Optional[Record]:
        """What is known of a file that is whole; None where it is not."""
        record = self.records.get(entry.path)
        return record if record is not None and record[2] == entry.hash else None

    def source(self, name: str) -> Optional[str]:
        """Where the content of a hash was put, if it was."""
        entry = self._where.get(name)
        return None if entry is None or self.record(entry) is None else self.path(entry.path)

    def _keep(self, entry: Entry, facts: os.stat_result) -> None:
        self.records[entry.path] = [facts.st_size, facts.st_mtime_ns, entry.hash]
        self._where[entry.hash] = entry

    def take(self, name: str, data: Any) -> bool:
        """Write a content, whose hash was checked, where it belongs; False when it belongs nowhere here."""
        entry = self._wanted.get(name)
        if entry is None or len(data) != entry.size:
            return False
        self.check()
        if self.record(entry) is not None:
            return True
        path = self.path(entry.path)
        if entry.path in self._strays or entry.path in self.records:
            self.records.pop(entry.path, None)
            self._strays.discard(entry.path)
            os.unlink(path)
        handle = self._create(path, entry)
        try:
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)
        # Not before it is closed: some file systems settle the time only then.
        facts = os.stat(path)
        if stat.S_IMODE(facts.st_mode) != entry.mode:
            os.chmod(path, entry.mode)
        self._keep(entry, facts)
        return True

    def _create(self, path: str, entry: Entry) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        above = entry.path.rpartition("/")[0]
        if above not in self._folders:
            self._make(above)
        return os.open(path, flags, entry.mode)

    def _make(self, folder: str) -> None:
        """Make a folder and those above it."""
        if folder and folder not in self._folders:
            self._make(folder.rpartition("/")[0])
            with suppress(FileExistsError):
                os.mkdir(self.path(folder))
        self._folders.add(folder)

    def prune(self, wanted: Dict[str, Any]) -> None:
        """Take away what a commit does not want: left by an attempt before, or by another sync to the same place."""
        for inside in self._strays | (set(self.records) - set(wanted)):
            with suppress(FileNotFoundError):
                os.unlink(self.path(inside))
        needed = {""}
        for inside in wanted:
            above = inside
            while above not in needed:
                needed.add(above)
                above = above.rpartition("/")[0]
        for folder in sorted(self._folders - needed, reverse=True):
            with suppress(OSError):
                os.rmdir(self.path(folder))

    def land(self, dest: str) -> bool:
        """Move the tree to where it belongs; False when that is not to be had in one step."""
        self._over = True
        try:
            os.makedirs(os.path.dirname(dest), exist_ok=True)
            # Onto an empty folder it goes as well, onto anything else not.
            os.rename(self.tree, dest)
        except OSError:
            return False
        os.rmdir(self._holder)
        return True

    def clear(self) -> None:
        """Take away what is left."""
        self._over = True
        remove_tree(self._holder)


def remove_tree(folder: str) -> None:
    """Remove a folder of ours with all that is in it; what cannot be removed stays."""
    for at, folders, files in os.walk(folder, topdown=False):
        for name in files + folders:
            with suppress(OSError):
                path = os.path.join(at, name)
                if name in folders and not os.path.islink(path):
                    os.rmdir(path)
                else:
                    os.unlink(path)
    with suppress(OSError):
        os.rmdir(folder)
