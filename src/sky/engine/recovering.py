"""Finds recovery strategies by name: those of `core.policy.recovery`, and what other distributions add.

Called by `managed_jobs` for each launch of an attempt, and before a job is taken on.
"""

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.policy.pacing import STRATEGY, problem
from sky.core.policy.recovery import BUILT_IN, GROUP, NONE, Strategy, strategy_name

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


def check_recovery(config: Mapping[str, object]) -> None:
    """Raise InvalidSkyPilotConfigError for a `job_recovery` that cannot be: a strategy that there is not, a deadline
    that nothing meets."""
    name = strategy_name(config)
    if name == STRATEGY:
        if why := problem(config):
            raise InvalidSkyPilotConfigError(why)
    elif idle := sorted(config.keys() & {"deadline", "policy"}):
        raise InvalidSkyPilotConfigError(f"job_recovery.{idle[0]}: goes with strategy: deadline, found {name[:80]}")
    elif name != NONE and name not in strategies():
        known = ", ".join(sorted({*strategies(), NONE, STRATEGY}))
        raise InvalidSkyPilotConfigError(f"job_recovery.strategy: found {name[:80]!r}; allowed: {known}")
