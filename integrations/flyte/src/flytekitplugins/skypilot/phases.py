"""Which phase of Flyte a status of ours is. Pure tables; asked by `jobs` and `connector`."""

from __future__ import annotations

#: Numbers of Flyte's `TaskExecution.Phase`, the same in both generations of its interface; spelt out, since each
#: generation has them in a package that the other lacks.
QUEUED = 1
INITIALIZING = 6
WAITING = 7
RUNNING = 2
SUCCEEDED = 3
FAILED = 5
#: The engine tries again without it counting against the task's own retries: it was not the task's fault.
RETRYABLE = 8
ABORTED = 4

OVER = (SUCCEEDED, FAILED, RETRYABLE, ABORTED)

_OF_JOB = {
    "INIT": INITIALIZING,
    "PENDING": INITIALIZING,
    "SETTING_UP": INITIALIZING,
    "RUNNING": RUNNING,
    "SUCCEEDED": SUCCEEDED,
    "FAILED": FAILED,
    "FAILED_SETUP": FAILED,
    "FAILED_DRIVER": RETRYABLE,
    "CANCELLED": ABORTED,
}

_OF_MANAGED = {
    "PENDING": QUEUED,
    "SUBMITTED": QUEUED,
    "DEPRECATED_SUBMITTED": QUEUED,
    "STARTING": INITIALIZING,
    "RUNNING": RUNNING,
    "WINDING_DOWN": RUNNING,
    "RECOVERING": WAITING,
    "CANCELLING": RUNNING,
    "SUCCEEDED": SUCCEEDED,
    "CANCELLED": ABORTED,
    "FAILED": FAILED,
    "FAILED_SETUP": FAILED,
    "FAILED_PRECHECKS": FAILED,
    "FAILED_NO_RESOURCE": FAILED,
    "FAILED_CONTROLLER": FAILED,
}


def of_job(status: object) -> int:
    """The phase of a job on a cluster. A word that a newer server made up is one that is under way."""
    return _OF_JOB.get(_word(status), RUNNING)


def of_managed(status: object) -> int:
    """The phase of a managed job."""
    found = _OF_MANAGED.get(_word(status))
    if found is not None:
        return found
    return FAILED if _word(status).startswith("FAILED") else RUNNING


def _word(status: object) -> str:
    return str(getattr(status, "value", status)).upper()
