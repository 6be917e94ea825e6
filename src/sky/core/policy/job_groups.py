"""What follows for managed jobs that belong together from how each of them is: plain functions.

Used by the lifecycle of managed jobs (`core.lifecycle.job_groups`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sky.core.model.job_groups import Awaited, Group, Kind
from sky.core.model.managed_jobs import ManagedTask
from sky.core.model.statuses import ManagedJobStatus as Status


@dataclass(frozen=True, slots=True)
class Sighting:
    """A member as it is. `done`: nothing of it is left; `gated`: it waits for its parent's word."""

    task: ManagedTask
    done: bool = False
    gated: bool = False
    cluster_name: str | None = None
    schedule: str = "WAITING"
    told: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the whole is, and what is to be done: who is let go, who is stopped, when to look again unasked."""

    status: Status
    over: bool
    free: tuple[int, ...] = ()
    stop: tuple[int, ...] = ()
    wake_at: float | None = None


def verdict(group: Group, seen: Sequence[Sighting], now: float, *, cancelling: bool = False) -> Verdict:
    """What follows from the members as they are."""
    status = status_of(group, [each.task.status for each in seen], cancelling=cancelling)
    over = all(each.done for each in seen) and status.is_terminal()
    stop, wake_at = _to_stop(group, seen, now)
    return Verdict(status, over, () if cancelling else _to_free(group, seen), stop, wake_at)


def status_of(group: Group, statuses: Sequence[Status], *, cancelling: bool = False) -> Status:
    """The status of the whole: one that nothing follows only when every member has one.

    A failure of a member that decides makes it a failure, otherwise a cancellation a cancellation; those that do not
    decide count for nothing then.
    """
    if all(each.is_terminal() for each in statuses):
        deciding = [each for at, each in enumerate(statuses) if group.is_primary(at)]
        failed = next((each for each in deciding if each.is_failed()), None)
        if failed is not None:
            return failed
        return Status.CANCELLED if Status.CANCELLED in deciding else Status.SUCCEEDED
    if cancelling:
        return Status.CANCELLING
    for word in (Status.RUNNING, Status.RECOVERING, Status.STARTING):
        if word in statuses:
            return word
    # Between two members it goes on all the same.
    return Status.PENDING if all(each is Status.PENDING for each in statuses) else Status.STARTING


def _to_stop(group: Group, seen: Sequence[Sighting], now: float) -> tuple[tuple[int, ...], float | None]:
    """Members of a group that do not decide its end, once those that do have ended and their own time is over."""
    deciding = [each.task for at, each in enumerate(seen) if group.is_primary(at)]
    if group.kind is not Kind.GROUP or not all(task.status.is_terminal() for task in deciding):
        return (), None
    ended = max((task.ended_at or now for task in deciding), default=now)
    left = {
        at: ended + group.delay(at)
        for at, each in enumerate(seen)
        if not group.is_primary(at) and not each.task.status.is_terminal()
    }
    later = [until for until in left.values() if until > now]
    return tuple(at for at, until in left.items() if until <= now), min(later, default=None)


def _to_free(group: Group, seen: Sequence[Sighting]) -> tuple[int, ...]:
    """Members that wait for the word, as far as there is room."""
    gated = [at for at, each in enumerate(seen) if each.gated and not each.done]
    if group.most_at_once is None:
        return tuple(gated)
    begun = sum(not each.gated and not each.done for each in seen)
    return tuple(gated[: max(0, group.most_at_once - begun)])


# --- what is waited for ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waits:
    """What is left to wait for, in words too; or why it will never come (`broken`)."""

    left: tuple[Awaited, ...]
    words: str = ""
    broken: str = ""


def waits(awaited: Sequence[Awaited], statuses: Sequence[Status | None]) -> Waits:
    """What follows from the statuses of those that are waited for; None is of one that is not on record any more."""
    left, words = [], []
    for each, status in zip(awaited, statuses, strict=True):
        if status is None:
            if not each.any_end:
                return Waits((), broken=f"{each.name}, which it was to wait for, is not on record any more")
        elif not status.is_terminal():
            left.append(each)
            words.append(f"{each.name} ({status.value})")
        elif not each.any_end and status is not Status.SUCCEEDED:
            return Waits((), broken=f"{each.name}, which it was to wait for, ended as {status.value}")
    return Waits(tuple(left), f"waiting for {', '.join(words)}" if words else "")
