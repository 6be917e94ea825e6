"""Looks for the newest complete checkpoint below a folder, and never for long, however large the folder is.

What lies directly in the folder is a checkpoint each, a file or a folder. One whose name begins with a dot or ends in
`.tmp`, `.partial` or `.incomplete` is being written: whoever writes so and renames is seen at once to be done. Another
is complete when it has not changed from one look to the next, or holds a file that says so. Called by `care.py` on a
thread.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

UNFINISHED = (".tmp", ".partial", ".incomplete")
MARKERS = ("_SUCCESS", ".complete", "COMPLETE")
#: Seconds since the last change of one that bears no marker.
SETTLED = 3.0
#: How many checkpoints are looked through, names in the folder are read, and files are counted in one look.
_CANDIDATES, _NAMES, _FILES = 4, 5000, 20000


class Found(NamedTuple):
    """A complete checkpoint: its name, its last change in Unix seconds, its bytes; `whole` unless it has too many
    files to count."""

    name: str
    at: float
    bytes: int
    whole: bool


_Look = Tuple[float, int, int]
"""Last change, bytes and number of files: what tells whether a checkpoint has changed."""


class Folder:
    """One folder of checkpoints, as it was at the last look."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: Dict[str, _Look] = {}
        self.unsettled = False
        """Whether something was newer than the newest complete one, at the last look."""

    def newest(self, now: float) -> Optional[Found]:
        """The newest complete checkpoint; None while there is none. Reads the disk."""
        seen: Dict[str, _Look] = {}
        best: Optional[Found] = None
        left = _FILES
        for name in self._candidates():
            look, marked, left = _measure(os.path.join(self.path, name) if name else self.path, left)
            if look is None:
                continue
            seen[name] = look
            settled = self._seen.get(name) == look and look[0] <= now - SETTLED
            if (marked or settled) and (best is None or look[0] > best.at):
                best = Found(name or os.path.basename(self.path), look[0], look[1], left > 0)
        self._seen = seen
        self.unsettled = any(best is None or look[0] > best.at for look in seen.values())
        return best

    def _candidates(self) -> List[str]:
        """The newest names; "" is the path itself, where it is a file."""
        found: List[Tuple[float, str]] = []
        try:
            with os.scandir(self.path) as items:
                for number, item in enumerate(items):
                    if number >= _NAMES:
                        break
                    if not item.name.startswith(".") and not item.name.endswith(UNFINISHED):
                        found.append((item.stat(follow_symlinks=False).st_mtime, item.name))
        except NotADirectoryError:
            return [""]
        except OSError:
            return []
        return [name for _, name in sorted(found, reverse=True)[:_CANDIDATES] if name not in MARKERS]


def _measure(path: str, budget: int) -> Tuple[Optional[_Look], bool, int]:
    """What is there, whether it says that it is complete, and how many files may still be counted."""
    try:
        facts = os.stat(path)
    except OSError:
        return None, False, budget
    if not stat.S_ISDIR(facts.st_mode):
        return (facts.st_mtime, facts.st_size, 1), False, budget - 1
    latest, total, count = facts.st_mtime, 0, 0
    marked = any(os.path.exists(os.path.join(path, name)) for name in MARKERS)
    for at, _, files in os.walk(path):
        for name in files:
            if budget <= 0:
                return (latest, total, count), marked, 0
            budget -= 1
            try:
                facts = os.lstat(os.path.join(at, name))
            except OSError:
                continue
            if name.endswith(UNFINISHED):
                # Somebody writes in there: not complete, whatever else holds.
                return None, False, budget
            latest, total, count = max(latest, facts.st_mtime), total + facts.st_size, count + 1
    return ((latest, total, count) if count else None), marked, budget


def told(found: Found) -> Dict[str, Any]:
    """A checkpoint as JSON."""
    return {"name": found.name[:200], "at": round(found.at, 3), "bytes": found.bytes, "whole": found.whole}
