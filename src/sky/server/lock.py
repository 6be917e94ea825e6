"""One server per state directory, and a note that says which. Called by `server.__main__` and embedded mode.

The lock is the kernel's, so it ends with the process however that ends; the file stays. Clients read the note.
"""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType

from sky.version import API_VERSION, __version__


class AlreadyRunning(RuntimeError):
    """Another server holds this state directory."""


class InstanceLock:
    """Held for as long as the server lives; use as a context manager. Raises AlreadyRunning on entry."""

    def __init__(self, path: Path, *, started_at: float, socket: Path) -> None:
        self._path = path
        self._note = {
            "pid": os.getpid(),
            "started_at": started_at,
            "version": __version__,
            "api_version": API_VERSION,
            "socket": str(socket),
        }
        self._handle = -1

    def __enter__(self) -> "InstanceLock":
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            note = os.read(handle, 4096).decode(errors="replace")
            os.close(handle)
            text = f"A server is running already on {self._path.parent}: {note.strip() or 'it is just starting'}"
            raise AlreadyRunning(text) from None
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(self._note).encode() + b"\n")
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Emptied first: a note without a lock would only mislead whoever reads it.
        os.ftruncate(self._handle, 0)
        os.close(self._handle)
