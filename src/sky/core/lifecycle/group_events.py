"""What can happen to managed jobs that belong together or wait for others, and what can be ordered for them.

`managed_events` takes these words into those of managed jobs; `engine.job_groups` sends the events and carries the
orders out.
"""

from dataclasses import dataclass

from sky.core.model.job_groups import Addressed
from sky.core.model.statuses import ManagedJobStatus
from sky.core.policy.job_groups import Sighting

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AwaitedSeen:
    """How those are that the job waits for, in their order; None is of one that is not on record."""

    statuses: tuple[ManagedJobStatus | None, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """The parent lets a member begin."""


@dataclass(frozen=True, slots=True)
class Met:
    """The addresses of the others are known as far as they ever will be, and the member's nodes have been told."""

    known: tuple[Addressed, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alone:
    """The addresses of these tasks are not known yet."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MembersSeen:
    """The members of a parent as they are."""

    members: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Steered:
    """The members have been told."""


# --- orders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookAtAwaited:
    """Read how those are that the job waits for."""


@dataclass(frozen=True, slots=True)
class Meet:
    """Read the addresses of the other members, and tell this one's nodes."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Read the members, and tell their nodes addresses that have changed."""


@dataclass(frozen=True, slots=True)
class Steer:
    """Let members begin, and end others, by their positions; `reason` says why these end."""

    free: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelMembers:
    """End all members, as somebody asked for the parent."""

    user: str = ""
    graceful: bool = False
    timeout: float | None = None
    failed: str = ""


EVENTS: tuple[type, ...] = (AwaitedSeen, Freed, Met, Alone, MembersSeen, Steered)
ORDERS: tuple[type, ...] = (LookAtAwaited, Meet, Lead, Steer, CancelMembers)
