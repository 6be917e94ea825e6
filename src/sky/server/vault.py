"""The keys that records are sealed with: a file beside the state, or one elsewhere, or keys that only a KMS unwraps.

Made by `server.assembly`, used by `store.sealing`; `sky api rotate-key` adds a key. The file has one key per line,
`<id> <plain|wrapped> <base64>`, the newest last; earlier ones stay, so that back-ups sealed with them can be read.
"""

import base64
import binascii
import fcntl
import importlib
import os
import secrets
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from sky.store.sealing import KEY_BYTES

#: `wrap` or `unwrap`, and the bytes; what comes back.
Hook = Callable[[str, bytes], bytes]
#: Seconds for a KMS to answer.
_HOOK_S = 30
#: Seconds for which another server's new key may go unnoticed: the file is asked after at each row that is written.
_FRESH_S = 1.0
#: Bytes of a wrapped key at most.
_LONGEST = 64 * 1024


def hook_of(section: Mapping[str, object]) -> Hook | None:
    """The hook that the section `encryption` names, by `command` or `function`. Raises ValueError for one not found."""
    command, function = section.get("command"), section.get("function")
    if isinstance(command, list) and command:
        words = [str(each) for each in command]
        return lambda verb, given: _by_command(words, verb, given)
    if isinstance(function, str) and function:
        module, _, name = function.partition(":")
        try:
            found: Hook = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"encryption.function: {function} cannot be had: {error}") from error
        return found
    return None


def _by_command(words: list[str], verb: str, given: bytes) -> bytes:
    """Bytes travel as base64 on standard input and output, so that no list of processes shows them."""
    done = subprocess.run(
        [*words, verb], input=base64.b64encode(given), capture_output=True, timeout=_HOOK_S, check=False
    )
    if done.returncode != 0:
        # Only what it says of its failure is told; its output may hold the key.
        why = done.stderr[-500:].decode(errors="replace").strip()
        raise ValueError(f"encryption.command: {words[0]} {verb} ended with {done.returncode}: {why}")
    try:
        return base64.b64decode(done.stdout.strip(), validate=True)
    except binascii.Error:
        raise ValueError(f"encryption.command: what {words[0]} {verb} said is not base64") from None


class KeyFile:
    """See the module, and `store.sealing.Keys`. The file is made at the first use, and read again when it changes."""

    def __init__(self, path: Path, hook: Hook | None = None) -> None:
        self.path = path
        self._hook = hook
        self._seen: tuple[int, int] | None = None
        self._looked_at = float("-inf")
        self._keys: dict[str, bytes] = {}
        self._last = ""

    def current(self) -> tuple[str, bytes]:
        """The newest key; made if there is none. Raises ValueError, OSError."""
        self._read(_FRESH_S)
        if not self._last:
            self._add(first=True)
        return self._last, self._keys[self._last]

    def key(self, id: str) -> bytes | None:
        """A key by its id. Raises ValueError, OSError."""
        if id not in self._keys:
            self._read()
        return self._keys.get(id)

    def rotate(self) -> str:
        """Add a key that is used from now on; its id. Raises ValueError, OSError."""
        self._add(first=False)
        return self._last

    def _read(self, fresh: float = 0.0) -> None:
        """Read the file, unless it was looked at within the last `fresh` seconds."""
        if self._keys and 0 <= monotonic() - self._looked_at < fresh:
            return
        self._looked_at = monotonic()
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._keys:
                # What is in memory goes on to be used: a file that is gone for a moment must not make a new key.
                return
            self._last = ""
            return
        seen = (found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        if found.st_mode & 0o077:
            raise ValueError(f"The keys in {self.path} can be read by others; run: chmod 600 {self.path}")
        for line in self.path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                self._take(line)
        self._seen = seen

    def _take(self, line: str) -> None:
        parts = line.split()
        try:
            id, kind, text = parts
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raise ValueError(f"{self.path} has a line that is not `ID plain|wrapped BASE64`") from None
        if id not in self._keys:
            self._keys[id] = self._unwrapped(kind, raw)
        self._last = id

    def _unwrapped(self, kind: str, raw: bytes) -> bytes:
        if kind == "wrapped":
            if self._hook is None:
                raise ValueError(
                    f"The keys in {self.path} are wrapped, and the configuration names nothing to unwrap them with "
                    "(encryption.command or encryption.function)."
                )
            raw = self._hook("unwrap", raw)
        if len(raw) != KEY_BYTES:
            raise ValueError(f"{self.path} has a key of {len(raw)} bytes; {KEY_BYTES} are needed")
        return raw

    def _add(self, *, first: bool) -> None:
        """Add a line, under a lock: of servers that start at once, one makes the first key."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (first and file.read().strip()):
                key = secrets.token_bytes(KEY_BYTES)
                kind, kept = ("plain", key) if self._hook is None else ("wrapped", self._hook("wrap", key))
                if len(kept) > _LONGEST:
                    raise ValueError(f"a wrapped key of {len(kept)} bytes is longer than {_LONGEST}")
                file.write(f"{secrets.token_hex(6)} {kind} {base64.b64encode(kept).decode()}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        self._read()
