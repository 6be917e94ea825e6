"""Finds recovery strategies by name: those of `core.policy.recovery`, and what other distributions add.

Called by `managed_jobs` for each launch of an attempt, and before a job is taken on.
"""

import logging
from functools import cache
from importlib.metadata import entry_points

from sky.core.errors import InvalidSkyPilotConfigError, NotSupportedError
from sky.core.policy.recovery import BUILT_IN, GROUP, LATER, NONE, Strategy

log = logging.getLogger(__name__)


@cache
def strategies() -> dict[str, Strategy]:
    """All strategies by name, in capitals. One that cannot be loaded is left out, with a line in the log."""
    found = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        try:
            found[entry.name.upper()] = entry.load()
        except Exception:  # whatever a stranger's module raises must not keep jobs that do not use it from running
            log.exception("the recovery strategy %s (%s) cannot be loaded", entry.name, entry.value)
    return found


def check_strategy(name: str) -> None:
    """Raise NotSupportedError or InvalidSkyPilotConfigError for a strategy that there is not."""
    if name in LATER:
        raise NotSupportedError(f"job_recovery.strategy: {name}: not supported yet in this version")
    if name != NONE and name not in strategies():
        known = ", ".join(sorted({*strategies(), NONE}))
        raise InvalidSkyPilotConfigError(f"job_recovery.strategy: found {name[:80]!r}; allowed: {known}")
