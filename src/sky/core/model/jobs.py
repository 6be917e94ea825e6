"""A job on a cluster, as the server knows it; the node's own record is the truth once it has the job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.quantities import parse_duration_seconds
from sky.core.model.statuses import JobStatus


class JobPhase(StrEnum):
    """Where the server is with a job: before the node has it, then whatever the node last said."""

    SYNCING = "SYNCING"
    SUBMITTING = "SUBMITTING"
    ON_CLUSTER = "ON_CLUSTER"
    CANCELLING = "CANCELLING"
    DONE = "DONE"


class FailureCause(StrEnum):
    """Why a job failed, where the node can tell: its machine had no memory left, or its device."""

    OUT_OF_MEMORY = "out_of_memory"
    CUDA_OUT_OF_MEMORY = "cuda_out_of_memory"


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """The newest complete checkpoint of a job: its name, its last change (Unix seconds), its bytes.

    `whole` is false where it has so many files that not all were counted.
    """

    name: str
    at: float
    bytes: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """What the node sees of a job. `progress` is between 0 and 1, and was said at `progress_at`.

    `noticed_at` is when one of its nodes was told that it will be taken away.
    `concerns` are `late` (no checkpoint for longer than the task wants) and `large` (above its size).
    """

    progress: float | None = None
    progress_at: float | None = None
    checkpoint: CheckpointSeen | None = None
    concerns: tuple[str, ...] = ()
    noticed_at: float | None = None


NOTHING_SEEN = Seen()


@dataclass(frozen=True, slots=True)
class Job:
    """A job as recorded by the server.

    `id` is ours from the first moment and the key under which the node takes the job once; `job_id` is the number
    that the node gave it. `uploads` maps a source as written in the task to the manifest of its content. `variables`
    are given to it beside those of its task. `fresh` are the ranks of the nodes that do not have its files and its
    setup yet; None: all. `on_worker`: it runs on a worker of a pool, in its working directory.
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
    on_worker: bool = False
    seen: Seen = NOTHING_SEEN
    cause: FailureCause | None = None
    fresh: tuple[int, ...] | None = None

    def progress(self, now: float) -> float | None:
        """How far it is, between 0 and 1: as it says itself, else by the duration that its task declares."""
        declared = self.task_config.get("progress")
        if self.status is JobStatus.SUCCEEDED and (declared or self.seen.progress is not None):
            return 1.0
        if self.seen.progress is not None or self.start_at is None:
            return self.seen.progress
        duration = declared.get("duration") if isinstance(declared, Mapping) else None
        if duration is None:
            return None
        # What has not ended is not at its end, however long it was to take.
        return min((self.end_at or now) - self.start_at, 0.99 * (total := parse_duration_seconds(duration))) / total
