"""States of a managed job, as the interface names them; the machinery comes with managed jobs."""

from __future__ import annotations

import enum


class ManagedJobStatus(enum.StrEnum):
    """How far a managed job has come."""

    PENDING = "PENDING"
    #: No longer entered; programs still name it.
    DEPRECATED_SUBMITTED = "DEPRECATED_SUBMITTED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    WINDING_DOWN = "WINDING_DOWN"
    RECOVERING = "RECOVERING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"
    FAILED_PRECHECKS = "FAILED_PRECHECKS"
    FAILED_NO_RESOURCE = "FAILED_NO_RESOURCE"
    FAILED_CONTROLLER = "FAILED_CONTROLLER"

    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in (ManagedJobStatus.SUCCEEDED, ManagedJobStatus.CANCELLED) or self.is_failed()

    def is_failed(self) -> bool:
        """Whether the job has ended badly."""
        return self.value.startswith("FAILED")
