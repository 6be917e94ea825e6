"""Times of a cron expression in a time zone, as seconds since the epoch. Used by `engine.schedules`.

Clocks that are set forward or back are the library's business: a time that a day does not have comes an hour later, one
that it has twice comes once.
"""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: Characters of an expression: the longest sensible one is far shorter.
_LONGEST = 200


class Cron:
    """An expression of five or six fields (with seconds), such as `0 3 * * MON-FRI`. Raises ValueError."""

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        # Only a server with schedules reads cron.
        from cronsim import CronSim, CronSimError  # noqa: PLC0415

        self._sim = CronSim
        self.expression = expression.strip()
        if len(self.expression) > _LONGEST:
            raise ValueError(f"cron: longer than {_LONGEST} characters")
        try:
            # A machine without the files of time zones knows this one all the same.
            self._zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone: found {zone[:80]!r}; allowed: a name such as Europe/Berlin, or UTC") from None
        try:
            next(CronSim(self.expression, datetime.fromtimestamp(0.0, self._zone)))
        except (CronSimError, StopIteration, ValueError) as error:
            raise ValueError(f"cron: found {self.expression[:80]!r}: {str(error) or 'it never comes'}") from None

    def following(self, at: float) -> float:
        """The first time after a moment."""
        return next(self._sim(self.expression, datetime.fromtimestamp(at, self._zone))).timestamp()

    def latest(self, at: float) -> float:
        """The last time that is not after a moment."""
        # What is asked for is before the moment given, which counts itself: so from a second later on.
        return next(self._sim(self.expression, datetime.fromtimestamp(at + 1, self._zone), reverse=True)).timestamp()
