"""What has been played: seeds as ranges, in a file that is only ever added to, so that a soak goes on another day.

A line of JSON for each stretch of seeds in which all held, and one for each seed that broke something; both say by
which revision of the code. Used by `soak`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any


class Seeds:
    """A set of whole numbers, kept as ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add one, or all from `first` to `last`."""
        last = first if last is None else last
        apart = []
        for low, high in self._ranges:
            if high < first - 1 or low > last + 1:
                apart.append((low, high))
            else:
                first, last = min(first, low), max(last, high)
        self._ranges = sorted([*apart, (first, last)])

    def ranges(self) -> list[tuple[int, int]]:
        """First and last of each stretch, in order."""
        return list(self._ranges)

    def missing(self, first: int, last: int) -> Iterator[int]:
        """Those from `first` to `last` that are not in it."""
        for low, high in [*self._ranges, (last + 1, last + 1)]:
            yield from range(first, min(low - 1, last) + 1)
            first = max(first, high + 1)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self._ranges)

    def __contains__(self, seed: object) -> bool:
        return isinstance(seed, int) and any(low <= seed <= high for low, high in self._ranges)


class Record:
    """The file, or memory alone (`path` is None). `held` and `broken` have what was played, by any revision."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there. Raises OSError; ValueError for a line that is none of ours."""
        self._path = path
        self._fresh = Seeds()
        self.held = Seeds()
        #: Seeds with what they broke; one that held when it was last played is not among them.
        self.broken: dict[int, list[str]] = {}
        for line in path.read_text().splitlines() if path is not None and path.exists() else ():
            self._read(json.loads(line))

    def _read(self, line: dict[str, Any]) -> None:
        if "seed" in line:
            self.broken[line["seed"]] = line["broken"]
            return
        for first, last in line["held"]:
            self.held.add(first, last)
            for seed in [each for each in self.broken if first <= each <= last]:
                del self.broken[seed]

    def holds(self, seed: int) -> None:
        """A seed was played and all held. On file after the next `write`."""
        self._fresh.add(seed)
        self.held.add(seed)
        self.broken.pop(seed, None)

    def breaks(self, seed: int, broken: list[str], faults: list[str]) -> None:
        """A seed broke something; these faults are enough for it."""
        self.write()
        self.broken[seed] = broken
        self._add({"seed": seed, "broken": broken, "faults": faults, "revision": revision()})

    def write(self) -> None:
        """Put on file what was played since. Raises OSError."""
        if len(self._fresh):
            self._add({"held": self._fresh.ranges(), "revision": revision()})
            self._fresh = Seeds()

    def _add(self, line: dict[str, object]) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def asked(words: str) -> tuple[int, int]:
    """`A..B` as first and last, `N` as the first N. Raises ValueError."""
    found = re.fullmatch(r"(?:(\d+)\.\.)?(\d+)", words)
    if found is None or int(found[1] or 1) > int(found[2]):
        raise ValueError(f"{words!r} names no seeds; say 1..1000, or 1000 for the first thousand")
    return int(found[1] or 1), int(found[2])


@cache
def revision() -> str:
    """Twelve hexadecimal digits that stand for the code that runs."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
