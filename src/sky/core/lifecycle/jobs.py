"""The life of a job on a cluster, as the server sees it: until the node has it, then whatever the node reports."""

from collections.abc import Mapping
from dataclasses import dataclass

from sky.core.lifecycle.machine import Step, Table
from sky.core.model.jobs import NOTHING_SEEN, FailureCause, Job, JobPhase, Seen
from sky.core.model.statuses import JobStatus
from sky.kit.frozen import replace

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilesSynced:
    """The working directory and mounts are on every node; `git_commit` of a working directory from git."""

    detail: str = ""
    git_commit: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The head has the job in its own record, under this number."""

    job_id: int
    log_dir: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """Files or job could not be brought to the cluster."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """What the node's record says."""

    status: JobStatus
    start_at: float | None = None
    end_at: float | None = None
    exit_codes: tuple[int, ...] = ()
    reason: str | None = None
    seen: Seen = NOTHING_SEEN
    cause: FailureCause | None = None


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the job to end."""


@dataclass(frozen=True, slots=True)
class CancelDelivered:
    """The node was told to end the job."""


@dataclass(frozen=True, slots=True)
class CancelFailed:
    """The node could not be told; it is to be told again after `again_in` seconds."""

    reason: str
    again_in: float


@dataclass(frozen=True, slots=True)
class ClusterLost:
    """The cluster was stopped or is gone, and the job with it."""

    reason: str


# --- orders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SyncFiles:
    """Bring the working directory and the mounts to every node."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Put the job into the head's queue, once, under the job's own id as key."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell the head, after `delay` seconds, to end the job."""

    delay: float = 0.0


EVENTS: tuple[type, ...] = (
    FilesSynced, Submitted, DeliveryFailed, Reported, CancelAsked, CancelDelivered, CancelFailed,
    ClusterLost,
)  # fmt: skip
ORDERS: tuple[type, ...] = (SyncFiles, Submit, Cancel)

TABLE: Table[Job] = Table("job", JobPhase, EVENTS, lambda job: job.phase)
P = JobPhase


def opening(job: Job) -> Step[Job]:
    """The first step of a new record. One without files goes to the head at once."""
    if any(job.task_config.get(each) for each in ("workdir", "file_mounts")):
        syncing = replace(job, phase=P.SYNCING, status=JobStatus.INIT)
        return Step(syncing, (SyncFiles(),), "bringing files to the cluster")
    return Step(replace(job, phase=P.SUBMITTING, status=JobStatus.INIT), (Submit(),), "submitting")


@TABLE.on(P.SYNCING, FilesSynced, to={P.SUBMITTING})
def files_synced(job: Job, event: FilesSynced, now: float) -> Step[Job]:
    """Everything the job reads is in place."""
    ready = replace(job, phase=P.SUBMITTING, git_commit=event.git_commit)
    return Step(ready, (Submit(),), event.detail or "files are in place")


@TABLE.on((P.SYNCING, P.SUBMITTING), DeliveryFailed, to={P.DONE})
def not_delivered(job: Job, event: DeliveryFailed, now: float) -> Step[Job]:
    """The node never had it, so nothing ran."""
    return Step(_done(job, JobStatus.FAILED_DRIVER, now, event.reason), (), event.reason)


@TABLE.on(P.SUBMITTING, Submitted, to={P.ON_CLUSTER, P.CANCELLING})
def submitted(job: Job, event: Submitted, now: float) -> Step[Job]:
    """From here on the node's record is the truth."""
    there = replace(job, job_id=event.job_id, log_dir=event.log_dir, status=JobStatus.PENDING)
    text = f"submitted as job {event.job_id}"
    if job.cancel_asked:
        return Step(replace(there, phase=P.CANCELLING), (Cancel(),), text)
    return Step(replace(there, phase=P.ON_CLUSTER), (), text)


@TABLE.on((P.ON_CLUSTER, P.CANCELLING), Reported, to={P.ON_CLUSTER, P.CANCELLING, P.DONE})
def reported(job: Job, event: Reported, now: float) -> Step[Job]:
    """Take over what the node says; its times, not ours. Repeats and old news change nothing."""
    news = replace(
        job,
        status=event.status,
        start_at=event.start_at if event.start_at is not None else job.start_at,
        end_at=event.end_at,
        exit_codes=event.exit_codes or job.exit_codes,
        reason=event.reason or (None if event.status.is_terminal() else job.reason),
        seen=event.seen if event.seen != NOTHING_SEEN else job.seen,
        cause=event.cause or job.cause,
    )
    if news == job:
        return Step(job)
    if (news.status, news.reason, news.exit_codes) == (job.status, job.reason, job.exit_codes):
        # What is seen along the way is on record, and in the story only where somebody should look.
        return Step(news, None, _concerns(job, news))
    text = f"job {job.job_id}: {event.status.value}" + (f": {event.reason}" if event.reason else "")
    if event.status.is_terminal():
        return Step(replace(news, phase=P.DONE, end_at=event.end_at or now), (), text)
    return Step(news, None, text)


@TABLE.on(P.SYNCING, CancelAsked, to={P.DONE})
def cancelled_before_it_left(job: Job, event: CancelAsked, now: float) -> Step[Job]:
    """Nothing to tell the node."""
    return Step(_done(job, JobStatus.CANCELLED, now, "cancelled before it was submitted"), (), "cancelled")


@TABLE.on(P.SUBMITTING, CancelAsked, to={P.SUBMITTING})
def cancel_on_arrival(job: Job, event: CancelAsked, now: float) -> Step[Job]:
    """The node may have it already: let the submission end, then cancel there."""
    return Step(replace(job, cancel_asked=True), None, "to be cancelled on arrival")


@TABLE.on(P.ON_CLUSTER, CancelAsked, to={P.CANCELLING})
def cancel(job: Job, event: CancelAsked, now: float) -> Step[Job]:
    """The node ends the processes and reports."""
    return Step(replace(job, phase=P.CANCELLING, cancel_asked=True), (Cancel(),), "cancelling")


@TABLE.on(P.CANCELLING, CancelFailed, to={P.CANCELLING})
def cancel_again(job: Job, event: CancelFailed, now: float) -> Step[Job]:
    """A job that somebody wants ended is not left running because its node was out of reach for a while."""
    text = "" if job.reason == event.reason else f"not cancelled yet: {event.reason}; trying again"
    return Step(replace(job, reason=event.reason), (Cancel(event.again_in),), text)


@TABLE.on((P.SYNCING, P.SUBMITTING, P.ON_CLUSTER, P.CANCELLING), ClusterLost, to={P.DONE})
def cluster_lost(job: Job, event: ClusterLost, now: float) -> Step[Job]:
    """It cannot run on."""
    status = JobStatus.CANCELLED if job.cancel_asked else JobStatus.FAILED_DRIVER
    return Step(_done(job, status, now, event.reason), (), event.reason)


TABLE.ignore((P.SUBMITTING, P.ON_CLUSTER, P.CANCELLING, P.DONE), FilesSynced, "outcome of an order that was called off")
TABLE.ignore((P.SYNCING, P.ON_CLUSTER, P.CANCELLING, P.DONE), Submitted, "already known")
TABLE.ignore((P.ON_CLUSTER, P.CANCELLING, P.DONE), DeliveryFailed, "the node has it all the same")
TABLE.ignore(
    (P.SYNCING, P.SUBMITTING, P.DONE), Reported, "the submission's own outcome comes first, or nothing can follow"
)
TABLE.ignore((P.CANCELLING, P.DONE), CancelAsked, "under way or over")
TABLE.ignore(
    (P.SYNCING, P.SUBMITTING, P.ON_CLUSTER, P.CANCELLING, P.DONE), CancelDelivered, "the node's report decides"
)
TABLE.ignore((P.SYNCING, P.SUBMITTING, P.ON_CLUSTER, P.DONE), CancelFailed, "nothing is being cancelled")
TABLE.ignore(P.DONE, ClusterLost, "over already")


def _concerns(before: Job, after: Job) -> str:
    """What the task declared of its checkpoints and does not keep, the first time it is so."""
    fresh = [each for each in after.seen.concerns if each not in before.seen.concerns]
    declared = after.task_config.get("checkpoint")
    wanted = declared if isinstance(declared, Mapping) else {}
    said = []
    if "late" in fresh:
        said.append(f"no checkpoint for longer than {wanted.get('every')}, which checkpoint.every declares")
    if "large" in fresh and after.seen.checkpoint is not None:
        size = f"{after.seen.checkpoint.bytes / 1e9:.3g} GB"
        said.append(f"the checkpoint {after.seen.checkpoint.name} takes {size}, more than checkpoint.max_size")
    return f"job {after.job_id}: warning: {'; '.join(said)}" if said else ""


def _done(job: Job, status: JobStatus, now: float, reason: str) -> Job:
    return replace(job, phase=P.DONE, status=status, end_at=now, reason=reason)
