"""Messages about jobs on a cluster, and the frames in which logs travel. Used by the server's routes."""

import base64
from typing import Any

from sky.core.model.jobs import Job
from sky.wire.clusters import user_hash
from sky.wire.codec import Body, Record, encode, field


class QueueBody(Body):
    """Arguments of `/queue`."""

    cluster_name: str
    skip_finished: bool = False
    all_users: bool = False


class JobStatusBody(Body):
    """Arguments of `/job_status`; without ids, the newest job."""

    cluster_name: str
    job_ids: list[int] | None = None


class CancelBody(Body):
    """Arguments of `/cancel`; without ids and `all`, the newest running job."""

    cluster_name: str
    job_ids: list[int] | None = None
    all: bool = False
    all_users: bool = False
    try_cancel_if_cluster_is_init: bool = False


class LogsBody(Body):
    """Arguments of `/logs`.

    `tail`: last lines only, 0 for all. `offset`: byte to go on from after an interruption. `which`: `run` for the
    combined log or `node` with `rank` for one node's.
    """

    cluster_name: str
    job_id: int | None = None
    follow: bool = True
    tail: int = 0
    offset: int | None = None
    which: str = "run"
    rank: int | None = None


class ProvisionLogsBody(Body):
    """Arguments of `/provision_logs`: the talk of the request that brought the cluster up."""

    cluster_name: str
    follow: bool = True
    tail: int = 0
    offset: int = 0


class DownloadLogsBody(Body):
    """Arguments of `/download_logs`; without ids, the newest job."""

    cluster_name: str
    job_ids: list[int] | None = None


class ClusterJobRecord(Record):
    """A job of a cluster. Times are seconds since the epoch."""

    job_id: int | None
    job_name: str | None
    username: str
    user_hash: str
    submitted_at: float
    start_at: float | None
    end_at: float | None
    resources: str
    status: str
    log_path: str | None
    metadata: dict[str, Any]
    links: dict[str, str] = field(default_factory=dict)


class Frame(Record, omit_defaults=True):
    """One line of a stream: text or bytes up to offset `o`, a sign of life, or the end.

    `t` is text, `b` the same in base64 where it is not UTF-8. `job`, sent first, says which job's log it is. The last
    frame has `end` (a status) and, for jobs, `code`; or `error`; or `again`, which asks the reader to come back with
    the last offset.
    """

    t: str | None = None
    b: str | None = None
    o: int | None = None
    job: int | None = None
    h: int | None = None
    end: str | None = None
    code: int | None = None
    error: dict[str, Any] | None = None
    again: bool | None = None


def job_record(job: Job, now: float) -> ClusterJobRecord:
    """A job as it is told at `now`, in seconds since the epoch."""
    nodes = job.task_config.get("num_nodes")
    return ClusterJobRecord(
        job_id=job.job_id,
        job_name=job.name,
        username=job.user,
        user_hash=user_hash(job.user),
        submitted_at=job.created_at,
        start_at=job.start_at,
        end_at=job.end_at,
        resources=job.resources,
        status=job.status.value,
        log_path=job.log_dir,
        metadata={
            "reason": job.reason,
            "exit_codes": list(job.exit_codes),
            "task_id": job.task_id,
            "num_nodes": nodes if isinstance(nodes, int) else 1,
            "git_commit": job.git_commit,
            "progress": job.progress(now),
            "checkpoint": checkpoint_record(job, now),
            "cause": job.cause.value if job.cause is not None else None,
        },
    )


def checkpoint_record(job: Job, now: float) -> dict[str, Any] | None:
    """The newest complete checkpoint of a job as it is told; None while there is none. Its age is in seconds."""
    found = job.seen.checkpoint
    if found is None:
        return None
    told = {"name": found.name, "at": found.at, "bytes": found.bytes, "whole": found.whole}
    return {**told, "age": max(0.0, now - found.at), "warnings": list(job.seen.concerns)}


def frame(data: bytes, offset: int) -> bytes:
    """The line that carries `data`, which ends at byte `offset` of its source."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return line(Frame(b=base64.b64encode(data).decode(), o=offset))
    return line(Frame(t=text, o=offset))


def line(content: Frame) -> bytes:
    """A frame as a line."""
    return encode(content) + b"\n"


HEARTBEAT = line(Frame(h=1))
AGAIN = line(Frame(again=True))
