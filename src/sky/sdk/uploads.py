"""Bringing a task's local files to the server: list the tree, hash what is in it, send what is not there yet.

Called by `sdk.clusters` for tasks with a local workdir or file mounts. What was hashed once is remembered by size and
times, so that an unchanged tree costs a walk.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sky.core.errors import ClientError, StorageSourceError
from sky.kit.paths import private_dir, state_dir
from sky.sdk.http1 import BodyChanged
from sky.sdk.ignore import Ignores
from sky.sdk.transport import call
from sky.wire.packs import MOST_PACK, MOST_PACKED, packed
from sky.wire.protocol import ENV_UPLOAD_BOUND

#: Bytes of one tree beyond which an upload is refused, unless the environment says otherwise.
MOST_BYTES = 64 * 1024**3
#: Files whose hashes are remembered.
MOST_KNOWN = 200_000
#: Hashes asked about in one call.
ASK_AT_ONCE = 10_000
#: Nanoseconds: a file changed this shortly before it was hashed may change again without a trace in its times.
_TOO_FRESH_NS = 50_000_000


def local_sources(config: Mapping[str, Any], *, mounts: bool) -> list[str]:
    """Local paths that a task's configuration names, as written there. Raises StorageSourceError for a bad workdir."""
    workdir = config.get("workdir")
    found = [workdir] if isinstance(workdir, str) else []
    if found and "://" not in found[0] and Path(found[0]).expanduser().is_file():
        raise StorageSourceError(f"workdir: {found[0]!r} is a file; allowed: a folder. `file_mounts` brings files.")
    if mounts:
        found += [source for source in (config.get("file_mounts") or {}).values() if isinstance(source, str)]
    return [source for source in dict.fromkeys(found) if source and "://" not in source]


def upload_sources(sources: Iterable[str]) -> dict[str, str]:
    """Bring local files and folders to the server. Returns the hash of each source's manifest.

    Raises StorageSourceError, with path and reason, for what cannot be read or is too large.
    """
    trees = {}
    with HashBook(private_dir(private_dir(state_dir()) / "client") / "hashes.json") as book:
        for source in sources:
            trees[source] = Tree(source, book)
    contents: dict[str, Path | bytes] = {}
    for tree in trees.values():
        contents |= tree.files
        contents[tree.hash] = tree.manifest
    _send(contents)
    return {source: tree.hash for source, tree in trees.items()}


def _send(contents: Mapping[str, Path | bytes]) -> None:
    names = list(contents)
    for at in range(0, len(names), ASK_AT_ONCE):
        asked = {"hashes": names[at : at + ASK_AT_ONCE]}
        pack = bytearray()
        for name in call("POST", "/api/uploads/missing", asked).json()["missing"]:
            content = contents[name]
            if _size(content) > MOST_PACKED:
                _put(name, content)
                continue
            pack += packed(name, _read(name, content))
            if len(pack) > MOST_PACK - MOST_PACKED:
                call("POST", "/api/uploads/pack", raw=bytes(pack))
                pack.clear()
        if pack:
            call("POST", "/api/uploads/pack", raw=bytes(pack))


def _put(name: str, content: Path | bytes) -> None:
    try:
        call("PUT", f"/api/uploads/{name}", raw=content)
    except (BodyChanged, ClientError, FileNotFoundError) as changed:
        if isinstance(content, bytes):
            raise
        raise _changed(content) from changed


def _size(content: Path | bytes) -> int:
    if isinstance(content, bytes):
        return len(content)
    try:
        return content.stat().st_size
    except OSError as gone:
        raise _changed(content) from gone


def _read(name: str, content: Path | bytes) -> bytes:
    """A small file as it was when its tree was listed."""
    if isinstance(content, bytes):
        return content
    try:
        data = content.read_bytes()
    except OSError as gone:
        raise _changed(content) from gone
    if hashlib.sha256(data).hexdigest() != name:
        raise _changed(content)
    return data


def _changed(path: Path) -> StorageSourceError:
    return StorageSourceError(f"{path} changed while it was uploaded. Run the command again once nothing writes to it.")


class HashBook:
    """Hashes of files seen before, by path, size, times and inode; use as a context manager, which saves it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        self._now_ns = 0

    def __enter__(self) -> HashBook:
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text())
            self._known = found if isinstance(found, dict) else {}
        # The file system's own idea of now; its clock may differ from the system's.
        mark = self._path.with_suffix(".now")
        mark.touch()
        self._now_ns = mark.stat().st_mtime_ns
        return self

    def __exit__(self, *_: object) -> None:
        if not self._changed:
            return
        newest = dict(list(self._known.items())[-MOST_KNOWN:])
        aside = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            aside.write_text(json.dumps(newest))
            aside.replace(self._path)

    def hash_of(self, path: Path, found: os.stat_result) -> str:
        """The SHA-256 of a file's content. Raises OSError."""
        mark = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        known = self._known.get(str(path))
        if isinstance(known, list) and known[:4] == mark and len(known) == 5:
            return str(known[4])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if max(found.st_mtime_ns, found.st_ctime_ns) < self._now_ns - _TOO_FRESH_NS:
            self._known.pop(str(path), None)
            self._known[str(path)] = [*mark, digest]
            self._changed = True
        return digest


class Tree:
    """A local file or folder: `files` by hash, the `manifest` that lists it, and the manifest's `hash`."""

    def __init__(self, source: str, book: HashBook) -> None:
        self._source = source
        self._book = book
        self._bound = _bound()
        self._total = 0
        self._entries: list[dict[str, Any]] = []
        self.files: dict[str, Path | bytes] = {}
        top = Path(source).expanduser().absolute()
        if top.is_dir():
            self._ignores = Ignores(top)
            self._walk(top, "")
        elif top.is_file():
            self._add_file(top, "", top.stat())
        else:
            raise StorageSourceError(f"{source!r} (here: {top}) does not exist or is neither a file nor a folder.")
        self.manifest = json.dumps(self._entries, sort_keys=True, separators=(",", ":")).encode()
        self.hash = hashlib.sha256(self.manifest).hexdigest()

    def _walk(self, folder: Path, inside: str) -> None:
        self._ignores.enter(inside)
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as refused:
            raise self._unreadable(folder, refused) from refused
        for entry in found:
            path = f"{inside}/{entry.name}" if inside else entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            if self._ignores.leaves_out(path, is_dir):
                continue
            self._check_name(path)
            with suppress(FileNotFoundError):
                # What vanishes during the walk was not meant to stay.
                self._add(Path(entry.path), path, entry.stat(follow_symlinks=False))

    def _add(self, local: Path, path: str, found: os.stat_result) -> None:
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if stat.S_ISDIR(found.st_mode):
            self._entries.append({"path": path, "type": "dir", "mode": mode})
            self._walk(local, path)
        elif stat.S_ISLNK(found.st_mode):
            target = os.readlink(local)  # noqa: PTH115 - a Path would tidy the target up
            self._check_name(target)
            self._entries.append({"path": path, "type": "link", "target": target})
        elif stat.S_ISREG(found.st_mode):
            self._add_file(local, path, found)
        # Sockets, pipes and devices mean nothing on another machine.

    def _add_file(self, local: Path, path: str, found: os.stat_result) -> None:
        self._total += found.st_size
        if self._total > self._bound:
            raise StorageSourceError(
                f"{self._source!r} holds more than {self._bound} bytes. List what is not needed in .skyignore, "
                f"put data into a bucket, or raise {ENV_UPLOAD_BOUND}."
            )
        try:
            name = self._book.hash_of(local, found)
        except FileNotFoundError:
            raise
        except OSError as refused:
            raise self._unreadable(local, refused) from refused
        mode = stat.S_IMODE(found.st_mode) & 0o777
        self._entries.append({"path": path, "type": "file", "mode": mode, "size": found.st_size, "hash": name})
        self.files[name] = local

    def _unreadable(self, path: Path, refused: OSError) -> StorageSourceError:
        return StorageSourceError(
            f"Cannot read {path}, which belongs to {self._source!r}: {refused.strerror}. "
            "Change its permissions or list it in .skyignore."
        )

    def _check_name(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = text.encode(errors="backslashreplace").decode()
            raise StorageSourceError(
                f"A file name below {self._source!r} is not UTF-8: {shown}. Rename it or list it in .skyignore."
            ) from None


def _bound() -> int:
    said = os.environ.get(ENV_UPLOAD_BOUND)
    if said is None:
        return MOST_BYTES
    if not said.isdecimal():
        raise ValueError(f"{ENV_UPLOAD_BOUND} is not a number of bytes: {said!r}")
    return int(said)
