"""Small records of providers on this server's disk, as JSON: written whole or not at all. Used by `ssh` and `slurm`."""

import json
import os
import secrets
from pathlib import Path


def save(path: Path, value: object) -> None:
    """Write JSON; it survives a crash."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with fresh.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
