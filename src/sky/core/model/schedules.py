"""A schedule: a managed job that is launched again and again. `core.policy.schedules` decides by it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
#: Launches that wait for the one before, at most; those beyond are left out.
MOST_WAITING = 100


class Missed(StrEnum):
    """What becomes of times that passed while no server ran: nothing, or one launch for all of them."""

    SKIP = "skip"
    ONCE = "once"


class Overlap(StrEnum):
    """What is done when a time comes and the job of the last one has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as recorded. Times in seconds since the epoch.

    `cron` is read in the time zone `zone`. `body` are the arguments of the launch, secrets among them; `reach` is what
    its user was allowed when it was made. `next_at` is when to look at it again, None while paused. `waiting` are times
    that came and whose launch waits for the one before; `launching` is one whose launch is decided, and perhaps not on
    record yet. `last_request` launched `last_at`; `said` tells what was decided last, and why.
    """

    id: str
    name: str
    user: str
    workspace: str
    cron: str
    zone: str
    body: Mapping[str, object] = field(default_factory=dict)
    reach: str = "own"
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.SKIP
    created_at: float = 0.0
    tick_at: float | None = None
    next_at: float | None = None
    paused: bool = False
    waiting: tuple[float, ...] = ()
    launching: float | None = None
    last_at: float | None = None
    last_request: str | None = None
    said: str = ""
    version: int = 0


def check_schedule_name(name: str) -> str:
    """The name. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: found {name[:80]!r}; allowed: letters, digits, '.', '_' and '-', at most 64")
    return name
