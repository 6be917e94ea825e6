"""The states of a job on a cluster and the permitted steps between them; `ledger.py` refuses any other.

The names are the public interface's. A job ends in exactly one terminal state and never leaves it.
"""

from __future__ import annotations

from typing import Dict, FrozenSet

INIT = "INIT"
PENDING = "PENDING"
SETTING_UP = "SETTING_UP"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
FAILED_SETUP = "FAILED_SETUP"
FAILED_DRIVER = "FAILED_DRIVER"
CANCELLED = "CANCELLED"

TERMINAL: FrozenSet[str] = frozenset({SUCCEEDED, FAILED, FAILED_SETUP, FAILED_DRIVER, CANCELLED})
ACTIVE: FrozenSet[str] = frozenset({SETTING_UP, RUNNING})

STEPS: Dict[str, FrozenSet[str]] = {
    INIT: frozenset({PENDING, FAILED_DRIVER, CANCELLED}),
    # A job without setup goes straight to RUNNING.
    PENDING: frozenset({SETTING_UP, RUNNING, FAILED_DRIVER, CANCELLED}),
    # A job that is nothing but a setup succeeds from here.
    SETTING_UP: frozenset({RUNNING, SUCCEEDED, FAILED_SETUP, FAILED_DRIVER, CANCELLED}),
    RUNNING: frozenset({SUCCEEDED, FAILED, FAILED_DRIVER, CANCELLED}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    FAILED_SETUP: frozenset(),
    FAILED_DRIVER: frozenset(),
    CANCELLED: frozenset(),
}


class ForbiddenStep(Exception):
    """A job was about to take a step that the table does not know."""


def check(job_id: int, before: str, after: str) -> None:
    """Raise ForbiddenStep unless a job may go from `before` to `after`."""
    if after not in STEPS[before]:
        allowed = ", ".join(sorted(STEPS[before])) or "nothing: it has ended"
        raise ForbiddenStep("job %d cannot go from %s to %s; allowed: %s" % (job_id, before, after, allowed))
