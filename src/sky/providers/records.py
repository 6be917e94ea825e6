"""Small records of providers on this server's disk, as JSON: written whole or not at all. Used by `ssh` and `slurm`.

Several servers may share them: who changes one reads it anew under a lock, and who reads it looks whether it changed.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What tells one version of a file from another.
Stamp = tuple[int, int, int]


def save(path: Path, value: object) -> None:
    """Write JSON; it survives a crash."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with fresh.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def stamp(path: Path) -> Stamp | None:
    """The version of a record; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else is in such a block of this record. The block waits for nothing, and has no other one inside."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
