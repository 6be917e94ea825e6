"""What a schedule does now: a plain function of the schedule, the time, and whether its last job still runs.

Called by `engine.schedules`. Times of the schedule are asked for, not worked out here: cron is a library's business.
"""

from collections.abc import Callable
from dataclasses import replace

from sky.core.model.schedules import MOST_WAITING, Missed, Overlap, Schedule

#: Seconds after which a time counts as missed: less is what a busy server, or a restart, takes.
LATE_S = 90.0
#: Seconds between looks at whether the job before has ended, while another waits for it.
LOOK_S = 5.0


def tick(
    schedule: Schedule,
    now: float,
    busy: bool,
    latest: Callable[[float], float],
    following: Callable[[float], float],
) -> Schedule:
    """The schedule after what has come until now; `launching` is the time to launch for, None for nothing.

    `latest` gives the last time of the schedule that is not after a moment, `following` the first one after it.
    """
    if schedule.paused or schedule.launching is not None:
        return schedule
    came, said = _came(schedule, now, latest)
    planned = following(now) if schedule.tick_at is None or schedule.tick_at <= now else schedule.tick_at
    waiting = schedule.waiting
    if came is not None and busy and schedule.overlap is Overlap.SKIP:
        said = "left out: the job before has not ended"
    elif came is not None and len(waiting) >= MOST_WAITING:
        said = f"left out: {MOST_WAITING} wait already"
    elif came is not None:
        waiting = (*waiting, came)
    may = not busy or schedule.overlap is Overlap.ALLOW
    launch = waiting[0] if waiting and may else None
    if launch is not None:
        waiting, said = waiting[1:], "launched"
    elif waiting:
        said = f"{len(waiting)} wait for the job before"
    after = replace(
        schedule,
        waiting=waiting,
        tick_at=planned,
        launching=launch,
        last_at=schedule.last_at if launch is None else launch,
        said=said or schedule.said,
    )
    return replace(after, next_at=look_at(after, now))


def look_at(schedule: Schedule, now: float) -> float | None:
    """When to look at a schedule again: at once while a launch is decided, soon while one waits, else at its time."""
    if schedule.paused:
        return None
    if schedule.launching is not None:
        return now
    if schedule.waiting and schedule.tick_at is not None:
        return min(schedule.tick_at, now + LOOK_S)
    return schedule.tick_at


def _came(schedule: Schedule, now: float, latest: Callable[[float], float]) -> tuple[float | None, str]:
    """The time that has come, if it is to be heeded; several that came together are one."""
    if schedule.tick_at is None or schedule.tick_at > now:
        return None, ""
    last = max(latest(now), schedule.tick_at)
    if now - last <= LATE_S or schedule.missed is Missed.ONCE:
        return last, ""
    return None, "left out: no server ran at its time"
