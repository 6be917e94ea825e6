"""Choices that callers make for one request and that belong to no single noun."""

from __future__ import annotations

import enum


class OptimizeTarget(enum.Enum):
    """What the optimizer makes small: dollars, hours, or dollars with refusals and preemptions to be expected."""

    COST = "cost"
    TIME = "time"
    EXPECTED = "expected"


class StatusRefreshMode(enum.Enum):
    """Whether ``sky.status`` asks the infra: never, where the record may be stale, or always."""

    NONE = "NONE"
    AUTO = "AUTO"
    FORCE = "FORCE"

    @classmethod
    def of(cls, value: StatusRefreshMode | bool | str | None) -> StatusRefreshMode:
        """Read what callers pass as ``refresh``: the enum, a boolean, or its word."""
        if isinstance(value, cls):
            return value
        if value is None or isinstance(value, bool):
            return cls.FORCE if value else cls.NONE
        return cls(str(value).upper())
