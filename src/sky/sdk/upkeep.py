"""Looking after the server of this machine: a new key, a back-up, a dump for who looks for a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sky.sdk.transport import call


def rotate_key() -> tuple[str, int]:
    """Have the records sealed with a new key: its id, and how many rows that were."""
    told = call("POST", "/api/rotate_key", {}).json()
    while not told["over"]:
        told = call("POST", "/api/rotate_key", {"going_on": True}).json()
    return str(told["key"]), int(told["rows"])


def backup(path: str | Path) -> tuple[Path, int]:
    """Copy the records into a new file on the server's machine: where it is, and its bytes."""
    return _written("/api/backup", path)


def debug_dump(path: str | Path) -> tuple[Path, int]:
    """Write what helps to find a fault, without secrets, into a new zip: where it is, and its bytes."""
    return _written("/api/debug_dump", path)


def _written(target: str, path: str | Path) -> tuple[Path, int]:
    told: dict[str, Any] = call("POST", target, {"path": str(Path(path).expanduser().absolute())}).json()
    return Path(told["path"]), int(told["bytes"])
