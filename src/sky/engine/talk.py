"""Progress of requests as text files, appended here and read back by offset wherever they are streamed."""

import logging
import os
from pathlib import Path

from sky.kit.signals import Signals

log = logging.getLogger(__name__)


class FileTalk:
    """One file per request under `folder`, readable by the owner only."""

    def __init__(self, folder: Path, signals: Signals) -> None:
        self._folder = folder
        self._signals = signals
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, request_id: str) -> Path:
        """Where a request's talk is, whether or not there is any yet. Raises ValueError for an id that is a path."""
        if not request_id.replace("-", "").isalnum():
            raise ValueError(f"not a request id: {request_id!r}")
        return self._folder / f"{request_id}.log"

    def drop(self, request_id: str) -> None:
        """Forget what was said."""
        self.path(request_id).unlink(missing_ok=True)

    def say(self, request_id: str, text: str) -> None:
        """Append a line."""
        path = self.path(request_id)
        try:
            with open(path, "a", encoding="utf-8", opener=_private) as file:
                # In one write: another server that believes to have the request may append at the same time.
                file.write(text + "\n")
        except OSError as error:
            # Talk is a courtesy: a full disk must not fail what is talked about.
            log.warning("%s cannot be written: %s", path, error)
        self._signals.notify(f"request:{request_id}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
