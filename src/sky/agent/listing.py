"""The list of a wanted tree, as a client sends it: what is in it is checked before anything is done with it.

Used by `sync.py` and `fan.py`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, NamedTuple, Set

from .fields import Fields, bad, relative_path

_HASH = re.compile(r"[0-9a-f]{64}\Z")
#: No part begins with a dot, which leaves out `.` and `..` among those that are all right.
_PLAIN = re.compile(r"[^./\0][^/\0]*(?:/[^./\0][^/\0]*)*\Z")


class Entry(NamedTuple):
    """One wanted path, relative to the destination ("" is the destination itself). kind: file, dir or link."""

    path: str
    kind: str
    mode: int
    size: int
    hash: str
    target: str


def entries_of(body: bytes) -> List[Entry]:
    """The entries of a page; Refused when it is none, or names a path that lies elsewhere."""
    try:
        values = json.loads(body.decode("utf-8", "surrogatepass") or "[]")
    except (ValueError, RecursionError):
        raise bad("the list of entries must be JSON") from None
    if not isinstance(values, list):
        raise bad("the list of entries must be a JSON list, found %s" % type(values).__name__)
    return [_entry(value) for value in values]


def _entry(value: Any) -> Entry:
    if type(value) is dict and _plain_file(value):
        # As below, in a third of the time: there are tens of thousands of them.
        return Entry(value["path"], "file", value["mode"] & 0o777, value["size"], value["hash"], "")
    fields = Fields(value, "an entry")
    path, kind = fields.text("path", limit=4096), fields.choice("type", ("file", "dir", "link"))
    if path:
        relative_path(path)
    return Entry(
        path=path,
        kind=kind,
        mode=fields.integer("mode", 0, 0o7777, 0o644) & 0o777,
        size=fields.integer("size", 0, 1 << 53, 0),
        hash=check_hash(fields.text("hash")) if kind == "file" else "",
        target=fields.text("target", limit=4096) if kind == "link" else "",
    )


def _plain_file(value: Dict[str, Any]) -> bool:
    """Whether it is a file with nothing unusual about it."""
    path, name, mode, size = value.get("path"), value.get("hash"), value.get("mode"), value.get("size")
    return (
        value.get("type") == "file"
        and type(path) is str
        and len(path) <= 4096
        and _PLAIN.match(path) is not None
        and type(name) is str
        and _HASH.match(name) is not None
        and type(mode) is int
        and 0 <= mode <= 0o7777
        and type(size) is int
        and 0 <= size <= 1 << 53
    )


class Outline:
    """What was listed so far: no path twice, and nothing below a file or a link, which could carry writes elsewhere."""

    def __init__(self) -> None:
        self._kinds: Dict[str, str] = {}
        self._above: Set[str] = set()

    def add(self, page: List[Entry]) -> None:
        """Take a page in; Refused when it does not fit."""
        kinds, above = self._kinds, self._above
        for entry in page:
            if entry.path in kinds:
                raise bad("the path %r is listed twice" % entry.path[:200])
            kinds[entry.path] = entry.kind
        for entry in page:
            if entry.kind != "dir" and entry.path in above:
                raise bad("%r, which is a %s, has others below it" % (entry.path[:200], entry.kind))
            at = entry.path
            while at:
                at = at.rpartition("/")[0]
                if at in above:
                    break
                if kinds.get(at, "dir") != "dir":
                    raise bad("%r lies below %r, which is a %s" % (entry.path[:200], at[:200], kinds[at]))
                above.add(at)


def check_hash(name: str) -> str:
    """The name of a content; Refused when it is none."""
    if not _HASH.match(name):
        raise bad("not a SHA-256 in hexadecimal: %r" % name[:80])
    return name
