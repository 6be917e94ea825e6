"""Times as people say them: "2 mins ago", "1h 3m". Used by every listing; times are seconds since the epoch."""

import time

MINUTE, HOUR, DAY = 60, 3600, 86400
_UNITS = ((365 * DAY, "yr"), (30 * DAY, "mo"), (7 * DAY, "week"), (DAY, "day"), (HOUR, "hr"), (MINUTE, "min"))


def now() -> float:
    """The wall clock. Not `sky.kit.clock`, which loads asyncio: more than half of what `sky status` may take."""
    return time.time()  # noqa: TID251 - the one place in this room


def ago(then: float | None, at: float) -> str:
    """Return how long before `at` something was, in its largest unit: "2 mins ago"; "-" when it never was."""
    if not then or then < 0:
        return "-"
    seconds = at - then
    if seconds < MINUTE:
        return "a few secs ago"
    for size, word in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return "-"


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units: "45s", "3m 20s", "2d 4h"; "-" when it is not known."""
    if seconds is None or seconds < 0:
        return "-"
    whole = int(seconds)
    parts = ((whole // DAY, "d"), (whole % DAY // HOUR, "h"), (whole % HOUR // MINUTE, "m"), (whole % MINUTE, "s"))
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count or unit == parts[first][1])


def local_time(then: float | None) -> str:
    """Return the local time as `2026-01-31 23:59:59`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then)) if then else "-"
