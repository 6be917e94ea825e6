"""Answers to calls that only read, kept for a while under their request ids.

A read changes nothing and is repeated at no cost, so it is no row in the store; this ring lets a late `sky.get(id)`
find it. Bounded in number, bytes and age. Called by the routes.
"""

from collections import OrderedDict
from dataclasses import dataclass

from sky.server.pieces import Pieces

#: What is kept: number of answers, bytes of all together, seconds.
MOST_READS = 1_000
MOST_BYTES = 32 * 1024 * 1024
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Read:
    """An answer: `result` or `error` is encoded JSON."""

    id: str
    name: str
    at: float
    result: bytes | Pieces | None = None
    error: bytes | None = None
    user: str = ""

    @property
    def size(self) -> int:
        return len(self.result or b"") + len(self.error or b"")


class Reads:
    """The newest reads, oldest first. `now` is seconds of any one clock."""

    def __init__(self, most: int = MOST_READS, most_bytes: int = MOST_BYTES, longest_s: float = LONGEST_S) -> None:
        self._reads: OrderedDict[str, Read] = OrderedDict()
        self._bytes = 0
        self._most = most
        self._most_bytes = most_bytes
        self._longest_s = longest_s

    def __len__(self) -> int:
        return len(self._reads)

    def keep(self, read: Read) -> None:
        """Remember an answer and drop what is beyond the bounds."""
        known = self._reads.pop(read.id, None)
        if known is not None:
            self._bytes -= known.size
        self._reads[read.id] = read
        self._bytes += read.size
        while len(self._reads) > self._most or self._bytes > self._most_bytes or self._oldest_age(read.at):
            _, dropped = self._reads.popitem(last=False)
            self._bytes -= dropped.size

    def find(self, prefix: str, now: float, user: str = "") -> Read | None:
        """The user's read of this id, or their only one whose id begins so; None if there is none (any more)."""
        exact = self._reads.get(prefix)
        if exact is None:
            found = self._reads.items() if len(prefix) >= 4 else ()
            matches = [read for id, read in found if id.startswith(prefix) and read.user == user]
            exact = matches[0] if len(matches) == 1 else None
        if exact is not None and exact.user != user:
            return None
        return exact if exact is not None and now - exact.at <= self._longest_s else None

    def _oldest_age(self, now: float) -> bool:
        return bool(self._reads) and now - next(iter(self._reads.values())).at > self._longest_s
