"""How a server is: what it has to do, what it holds, and how long its records take. Told as metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Counts:
    """What is on record: rows that are due by noun, living clusters by phase, letters and orders that wait."""

    due: Mapping[str, int] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    letters: int = 0
    orders: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Transactions so far, and the seconds that they took together."""

    count: int = 0
    seconds: float = 0.0


class Rotation(NamedTuple):
    """An exchange of the key that records are sealed with: its id and the rows sealed anew, once it is over."""

    key: str = ""
    rows: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Vitals:
    """One server at one moment. `held` are the rows that it drives, by noun; each is a lease."""

    counts: Counts = Counts()
    held: Mapping[str, int] = field(default_factory=dict)
    reads: Spent = Spent()
    writes: Spent = Spent()
    connections: int = 0
