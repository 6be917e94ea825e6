"""Messages about pools. Used by the server's routes."""

from collections.abc import Mapping
from typing import Any

from sky.core.model.pools import MOST_WORKERS, Pool, Standing, UpdateMode, Worker, check_pool_name
from sky.core.model.tasks import TaskSpec
from sky.wire.codec import Body, Record, field

#: The most workers whose logs one call reads, and names that one call has.
_MOST = 1000
_TARGETS = ("controller", "worker")


class PoolApplyBody(Body):
    """Arguments of `/jobs/pool_apply`: make a pool from a task, or give one another version.

    `task` is the task's canonical configuration, with `pool`; without it, only `workers` of the pool changes. `mode` is
    how older workers are replaced. `uploads`, `config`, `command` as of `/launch`.
    """

    pool_name: str
    task: dict[str, Any] | None = None
    mode: str = "rolling"
    workers: int | None = None
    uploads: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse before anything is on record what would fail at once."""
        check_pool_name(self.pool_name)
        if self.mode not in tuple(UpdateMode):
            raise ValueError(f"mode: found {self.mode[:40]!r}; allowed: {', '.join(UpdateMode)}")
        if self.workers is not None and not 0 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"workers: found {self.workers}; allowed: 0 to {MOST_WORKERS}")
        if self.task is not None:
            TaskSpec.from_config(self.task)
        elif self.workers is None:
            raise ValueError("task: found none, and no workers either; allowed: one of them")


class PoolDownBody(Body):
    """Arguments of `/jobs/pool_down`: by `names`, which may hold shell globs, or `all` of one's own.

    `purge` ends the jobs that are under way, too; without it a pool that has such stays.
    """

    names: list[str] | None = None
    all: bool = False
    purge: bool = False

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        if not self.names and not self.all:
            raise ValueError("names: found none; allowed: names of pools, or all")
        if len(self.names or ()) > _MOST:
            raise ValueError(f"names: found {len(self.names or ())}; allowed: {_MOST} at most")


class PoolStatusBody(Body):
    """Arguments of `/jobs/pool_status`: those of `names`, which may hold shell globs; without any, all."""

    names: list[str] | None = None


class PoolLogsBody(Body):
    """Arguments of `/jobs/pool_logs`: what was decided about a pool (`controller`), or how a `worker` was set up."""

    pool_name: str
    target: str = "controller"
    worker_id: int | None = None
    follow: bool = True
    tail: int = 0
    offset: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.target.lower() not in _TARGETS:
            raise ValueError(f"target: found {self.target[:40]!r}; allowed: {', '.join(_TARGETS)}")
        if self.target.lower() == "worker" and self.worker_id is None:
            raise ValueError("worker_id: found none; allowed: the number of a worker")
        if self.tail < 0 or (self.offset or 0) < 0:
            raise ValueError("tail and offset are not negative")


class WorkerRecord(Record):
    """A worker. `used_by` is the managed job that has it. Times in seconds since the epoch."""

    replica_id: int
    name: str
    status: str
    version: int
    launched_at: float
    ready_at: float | None
    used_by: int | None
    cloud: str | None
    region: str | None
    zone: str | None
    infra: str | None
    resources_str: str
    price_hourly: float | None
    reason: str | None
    endpoint: str | None = None


class PoolRecord(Record):
    """A pool. `uptime` is when it was made; `target_workers` how many are wanted now."""

    name: str
    version: int
    status: str
    uptime: float
    user_name: str
    workspace: str
    ready_workers: int
    workers: int
    target_workers: int
    min_workers: int
    max_workers: int | None
    update_mode: str
    policy: str
    requested_resources_str: str
    waiting_jobs: int
    unfinished_jobs: int
    reason: str | None
    replica_info: list[WorkerRecord]
    pool: bool = True
    endpoint: str | None = None


def pool_record(pool: Pool, standing: Standing, users: Mapping[str, int]) -> PoolRecord:
    """A pool as it is told."""
    policy, task = pool.policy, pool.task
    follows = policy.max_replicas is not None and policy.max_replicas != policy.min_replicas
    words = f"Fixed size ({policy.min_replicas})"
    if follows:
        words = f"Queue length ({policy.min_replicas} to {policy.max_replicas} workers)"
    asked = task.resources[0]
    what = f"CPU:{asked.cpus or '1+'}"
    return PoolRecord(
        name=pool.name,
        version=pool.revision,
        status=pool.status.value,
        uptime=pool.created_at,
        user_name=pool.user,
        workspace=pool.workspace,
        ready_workers=pool.ready,
        workers=sum(each.serving for each in pool.workers),
        target_workers=pool.target,
        min_workers=policy.min_replicas,
        max_workers=policy.max_replicas,
        update_mode=pool.mode.value,
        policy=words,
        requested_resources_str=f"{task.num_nodes}x [{asked.accelerator_request or what}]",
        waiting_jobs=standing.waiting,
        unfinished_jobs=standing.unfinished,
        reason=pool.reason,
        replica_info=[_worker(each, users.get(each.cluster_id)) for each in pool.workers],
    )


def _worker(worker: Worker, user: int | None) -> WorkerRecord:
    where = worker.where
    return WorkerRecord(
        replica_id=worker.number,
        name=worker.cluster_name,
        status=worker.status.value,
        version=worker.revision,
        launched_at=worker.created_at,
        ready_at=worker.ready_at,
        used_by=user,
        cloud=where.cloud if where else None,
        region=where.region if where else None,
        zone=where.zone if where else None,
        infra=where.infra if where else None,
        resources_str=where.resources if where else "-",
        price_hourly=where.price_hourly if where else None,
        reason=worker.reason,
    )
