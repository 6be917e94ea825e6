"""When an idle cluster stops or goes: the ``autostop`` of resources and of ``sky autostop``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sky.core.model.quantities import parse_minutes

#: Minutes of idleness when autostop is asked for without a number.
DEFAULT_IDLE_MINUTES = 5

#: Seconds that a hook may run.
DEFAULT_HOOK_TIMEOUT_SECONDS = 3600


class AutostopWaitFor(enum.StrEnum):
    """What keeps a cluster awake."""

    JOBS_AND_SSH = "jobs_and_ssh"
    JOBS = "jobs"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class AutostopConfig:
    """When an idle cluster stops (or, with ``down``, goes).

    enabled: false turns it off explicitly. idle_minutes: whole minutes. wait_for: ``None`` is ``jobs_and_ssh``.
    hook, hook_timeout: deprecated in favour of ``config.hooks``; the time-out is in seconds.
    """

    enabled: bool
    idle_minutes: int = 0
    down: bool = False
    wait_for: AutostopWaitFor | None = None
    hook: str | None = None
    hook_timeout: int | None = None

    @classmethod
    def from_yaml_config(cls, value: object) -> AutostopConfig | None:
        """Read a boolean, minutes, ``"10m"`` or a mapping that ``fields.AUTOSTOP`` accepts; ``None`` stays ``None``.

        Raises ``ValueError`` for an unreadable or negative duration.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, bool):
            return cls(value, DEFAULT_IDLE_MINUTES if value else 0)
        if isinstance(value, Mapping):
            return cls._from_mapping(value)
        if not isinstance(value, int | str):
            raise ValueError(
                f"found a {type(value).__name__}; allowed: true, false, minutes, a duration like 10m, a mapping"
            )
        return cls(True, parse_minutes(value))

    @classmethod
    def _from_mapping(cls, value: Mapping[str, Any]) -> AutostopConfig:
        if value.get("enabled") is False:
            return cls(False)
        minutes = value.get("idle_minutes")
        wait_for = value.get("wait_for")
        return cls(
            True,
            DEFAULT_IDLE_MINUTES if minutes is None else parse_minutes(minutes),
            bool(value.get("down") or False),
            None if wait_for is None else AutostopWaitFor(str(wait_for).lower()),
            value.get("hook"),
            value.get("hook_timeout"),
        )

    def to_yaml_config(self) -> bool | dict[str, Any]:
        """Return the value that ``from_yaml_config`` reads back."""
        if not self.enabled:
            return False
        config: dict[str, Any] = {"idle_minutes": self.idle_minutes, "down": self.down}
        if self.wait_for is not None:
            config["wait_for"] = self.wait_for.value
        if self.hook is not None:
            config["hook"] = self.hook
        if self.hook_timeout is not None:
            config["hook_timeout"] = self.hook_timeout
        return config
