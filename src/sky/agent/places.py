"""Looks at and makes way for paths below the destination of a sync, and never goes through a link there.

Used by `sync.py` and `stage.py`; what they were told of paths was checked by `listing.py`.
"""

from __future__ import annotations

import os
import stat
from typing import Any, List, Optional, Set

from .fields import Refused

_BLOCK = 1 << 20


def inside(dest: str, path: str) -> str:
    """Where a listed path is; "" is the destination itself."""
    return os.path.join(dest, path) if path else dest


def _parents(path: str) -> List[str]:
    parts = path.split("/")[:-1] if path else []
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def crosses_link(dest: str, path: str, seen: Set[str]) -> bool:
    """Whether a link lies on the way; folders that are none are added to `seen`."""
    for parent in _parents(path):
        if parent not in seen:
            if os.path.islink(os.path.join(dest, parent)):
                return True
            seen.add(parent)
    return False


def make_parents(dest: str, path: str, passable: Set[str]) -> None:
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
            clear(full)
            os.mkdir(full)
    if above is not None:
        passable.add(above)


def clear(path: str) -> None:
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


def facts_of(path: str) -> Optional[os.stat_result]:
    """Of a regular file, None for anything else."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def fingerprint(path: str) -> Optional[List[Any]]:
    """Size and time of a regular file, None for anything else."""
    facts = facts_of(path)
    return None if facts is None else [facts.st_size, facts.st_mtime_ns]


def length(path: str) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def sha256(data: Any = b"") -> Any:
    """A hash that has begun."""
    # Brings libcrypto, 3 MB that an agent without files to take in need not hold.
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(data)


def digest(data: Any) -> str:
    """The SHA-256 in hexadecimal."""
    return str(sha256(data).hexdigest())


def hash_file(path: str) -> str:
    """The SHA-256 of a file in hexadecimal."""
    sum = sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return str(sum.hexdigest())
            sum.update(block)


def write(path: str, data: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)


def copy(source: str, target: str) -> None:
    """Copy a content, block by block."""
    with open(source, "rb", buffering=0) as reading, open(target, "wb") as writing:
        while True:
            block = reading.read(_BLOCK)
            if not block:
                return
            writing.write(block)


def program(name: str) -> Optional[str]:
    """Where a program of the node is; None where it has none."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if folder.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None
