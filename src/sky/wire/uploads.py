"""Messages about uploaded content: files named by the hash of what is in them, and manifests that list a tree.

The server checks manifests with these; whoever brings uploads to nodes reads them.
"""

from pathlib import Path
from typing import Literal

from sky.core.errors import ClientError
from sky.wire.codec import Body, Record, decode


class MissingBody(Body):
    """Arguments of `/api/uploads/missing`: SHA-256 hashes (hexadecimal) that the client would send."""

    hashes: list[str]


class MissingAnswer(Record):
    """Those that the server does not have yet."""

    missing: list[str]


class ManifestEntry(Record):
    """One thing in a tree: `path` is relative, with forward slashes (empty for a source that is one file).

    `mode` holds permission bits; `size` in bytes and `hash` (SHA-256) belong to files, `target` to links.
    """

    path: str
    type: Literal["file", "dir", "link"]
    mode: int = 0o644
    size: int = 0
    hash: str = ""
    target: str = ""


#: Bytes of a manifest; a million files take about as much. It is held in memory, so it is no matter of the disk alone.
MOST_MANIFEST = 128 * 1024 * 1024


def manifest_file(path: Path) -> list[ManifestEntry]:
    """The entries of a manifest on disk. Raises as `read_manifest` does, and ClientError for one that is too large."""
    if path.stat().st_size > MOST_MANIFEST:
        raise ClientError(f"A manifest has at most {MOST_MANIFEST} bytes; what was uploaded as {path.name} has more.")
    return read_manifest(path.read_bytes())


def read_manifest(data: bytes) -> list[ManifestEntry]:
    """The entries of a manifest. Raises ClientError if it is malformed or names a path outside of its tree."""
    entries = decode(list[ManifestEntry], data)
    for entry in entries:
        parts = entry.path.split("/")
        if entry.path and (".." in parts or "." in parts or "" in parts or "\0" in entry.path):
            raise ClientError(f"The manifest names a path outside of its tree: {entry.path!r}")
    return entries
