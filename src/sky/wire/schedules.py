"""Messages about schedules. Used by the server's routes."""

from typing import Any

from sky.core.model.schedules import Missed, Overlap, Schedule, check_schedule_name
from sky.wire.codec import Body, Record


class ScheduleBody(Body):
    """Arguments of `/jobs/schedule/add`. `launch` are the arguments of `/jobs/launch` at each time.

    `cron` has five or six fields and is read in the time zone `zone`. `missed`: skip or once; `overlap`: skip, queue or
    allow.
    """

    name: str
    cron: str
    launch: dict[str, Any]
    zone: str = "UTC"
    missed: str = "skip"
    overlap: str = "skip"

    def __post_init__(self) -> None:
        """Refuse words that mean nothing."""
        check_schedule_name(self.name)
        for word, kind, name in ((self.missed, Missed, "missed"), (self.overlap, Overlap, "overlap")):
            if word not in tuple(kind):
                raise ValueError(f"{name}: found {word[:40]!r}; allowed: {', '.join(kind)}")


class ScheduleNameBody(Body):
    """Arguments of `/jobs/schedule/remove` and `/jobs/schedule/pause`: a name, or an id where several have it."""

    name: str
    paused: bool = True


class SchedulesBody(Body):
    """Arguments of `/jobs/schedule/list`."""

    all_users: bool = False


class ScheduleRecord(Record):
    """A schedule. Times in seconds since the epoch; `waiting` launches wait for the one before."""

    id: str
    name: str
    user: str
    workspace: str
    cron: str
    zone: str
    missed: str
    overlap: str
    paused: bool
    next_at: float | None
    last_at: float | None
    last_request: str | None
    waiting: int
    said: str
    created_at: float


def schedule_record(one: Schedule) -> ScheduleRecord:
    """A schedule as it is told: nothing of what it launches, which may hold secrets."""
    return ScheduleRecord(
        id=one.id,
        name=one.name,
        user=one.user,
        workspace=one.workspace,
        cron=one.cron,
        zone=one.zone,
        missed=one.missed.value,
        overlap=one.overlap.value,
        paused=one.paused,
        next_at=None if one.paused else one.tick_at,
        last_at=one.last_at,
        last_request=one.last_request,
        waiting=len(one.waiting),
        said=one.said,
        created_at=one.created_at,
    )
