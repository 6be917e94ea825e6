"""The statuses that users see. Apart from their nouns, so that a client can load them alone: dataclasses cost 20 ms."""

from enum import StrEnum


class _Told(StrEnum):
    """A status as programs print and compare it: `str()` names the class too, as of an enum that is no text.

    Inside an f-string, in JSON and wherever a text is compared, it is the word alone.
    """

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


class ClusterStatus(_Told):
    """What the interface shows. PENDING is only ever displayed: asked for, not begun."""

    INIT = "INIT"
    UP = "UP"
    STOPPED = "STOPPED"
    AUTOSTOPPING = "AUTOSTOPPING"
    PENDING = "PENDING"


class JobStatus(_Told):
    """States of a job, as the interface names them."""

    INIT = "INIT"
    PENDING = "PENDING"
    SETTING_UP = "SETTING_UP"
    RUNNING = "RUNNING"
    FAILED_DRIVER = "FAILED_DRIVER"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAILED_SETUP = "FAILED_SETUP"
    CANCELLED = "CANCELLED"

    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in TERMINAL


TERMINAL = frozenset(
    {JobStatus.FAILED_DRIVER, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.FAILED_SETUP, JobStatus.CANCELLED}
)


class ServerStatus(StrEnum):
    """How an API server says it is."""

    HEALTHY = "healthy"


class RequestStatus(StrEnum):
    """States of a request, as the interface names them."""

    PENDING = "PENDING"
    WAITING = "WAITING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in (RequestStatus.SUCCEEDED, RequestStatus.FAILED, RequestStatus.CANCELLED)


class ManagedJobStatus(StrEnum):
    """How far a managed job, or one of its tasks, has come."""

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


class ManagedJobScheduleState(StrEnum):
    """Whether a managed job waits for its turn, is being launched, or lives, as the interface names it."""

    INACTIVE = "INACTIVE"
    WAITING = "WAITING"
    ALIVE_WAITING = "ALIVE_WAITING"
    LAUNCHING = "LAUNCHING"
    ALIVE_BACKOFF = "ALIVE_BACKOFF"
    ALIVE = "ALIVE"
    DONE = "DONE"


class ServiceStatus(StrEnum):
    """How a service, or a pool of workers, is."""

    CONTROLLER_INIT = "CONTROLLER_INIT"
    REPLICA_INIT = "REPLICA_INIT"
    CONTROLLER_FAILED = "CONTROLLER_FAILED"
    READY = "READY"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    FAILED = "FAILED"
    FAILED_CLEANUP = "FAILED_CLEANUP"
    NO_REPLICA = "NO_REPLICA"


class ReplicaStatus(StrEnum):
    """How a replica of a service, or a worker of a pool, is."""

    PENDING = "PENDING"
    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    READY = "READY"
    NOT_READY = "NOT_READY"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    FAILED = "FAILED"
    FAILED_INITIAL_DELAY = "FAILED_INITIAL_DELAY"
    FAILED_PROBING = "FAILED_PROBING"
    FAILED_PROVISION = "FAILED_PROVISION"
    FAILED_CLEANUP = "FAILED_CLEANUP"
    PREEMPTED = "PREEMPTED"
    UNKNOWN = "UNKNOWN"
