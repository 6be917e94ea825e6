"""The host keys of nodes that no cloud told us: pinned at the first connection, one line each in a file.

Used by `ssh_link.py` for SSH pools and jump hosts. The file has the form of OpenSSH's `known_hosts`, so that a person
can read and mend it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sky.kit.turns import Turn, turn


class KnownNodes:
    """See the module. Safe for several processes at once: the first that pins a node wins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def key(self, name: str) -> str | None:
        """The key that is pinned for a name: type and base64; None if none is."""
        return self._read().get(name)

    def pin(self, name: str, key: str) -> str:
        """Remember a key if there is none yet; the one that holds."""
        with self._alone() as taken:
            known = self._read()
            if name not in known:
                self._write({**known, name: key}, taken)
                return key
            return known[name]

    def forget(self, name: str) -> None:
        """Take the next key that is shown under this name."""
        with self._alone() as taken:
            known = self._read()
            if known.pop(name, None) is not None:
                self._write(known, taken)

    def _read(self) -> dict[str, str]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        parts = [line.split(None, 2) for line in lines if line and not line.startswith("#")]
        return {words[0]: f"{words[1]} {words[2].split()[0]}" for words in parts if len(words) == 3}

    def _write(self, known: dict[str, str], taken: Turn) -> None:
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{name} {key}\n" for name, key in known.items())
        try:
            taken.check()
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[Turn]:
        with turn(self.path.with_name(f".{self.path.name}.lock")) as taken:
            yield taken
