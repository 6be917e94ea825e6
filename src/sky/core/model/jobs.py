"""A job on a cluster, as the server knows it; the node's own record is the truth once it has the job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.statuses import JobStatus


class JobPhase(StrEnum):
    """Where the server is with a job: before the node has it, then whatever the node last said."""

    SYNCING = "SYNCING"
    SUBMITTING = "SUBMITTING"
    ON_CLUSTER = "ON_CLUSTER"
    CANCELLING = "CANCELLING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class Job:
    """A job as recorded by the server.

    `id` is ours from the first moment and the key under which the node takes the job once; `job_id` is the number
    that the node gave it. `uploads` maps a source as written in the task to the manifest of its content. `variables`
    are given to it beside those of its task.
    """

    id: str
    cluster_id: str
    cluster_name: str
    request_id: str
    user: str
    phase: JobPhase
    status: JobStatus
    version: int
    created_at: float
    task_config: Mapping[str, object] = field(default_factory=dict)
    uploads: Mapping[str, str] = field(default_factory=dict)
    run_setup: bool = True
    sync_mounts: bool = True
    name: str | None = None
    task_id: str = ""
    resources: str = "-"
    job_id: int | None = None
    start_at: float | None = None
    end_at: float | None = None
    exit_codes: tuple[int, ...] = ()
    reason: str | None = None
    log_dir: str | None = None
    cancel_asked: bool = False
    git_commit: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
