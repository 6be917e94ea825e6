"""Small records of providers on this server's disk, as JSON: written whole or not at all. Used by `ssh` and `slurm`.

Several servers may share them: who changes one reads it anew under a lock, and who reads it looks whether it changed.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sky.kit.turns import Turn, turn

#: What tells one version of a file from another.
Stamp = tuple[int, int, int]


def save(path: Path, value: object, during: Turn | None = None) -> None:
    """Write JSON; it survives a crash. Raises TurnLost, and writes nothing, if the turn it is part of has passed on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with fresh.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        if during is not None:
            during.check()
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def stamp(path: Path) -> Stamp | None:
    """The version of a record; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


@contextmanager
def alone(path: Path) -> Iterator[Turn]:
    """Nobody else is in such a block of this record. The block waits for nothing, and has no other one inside."""
    with turn(path.with_name(f".{path.name}.lock")) as taken:
        yield taken
