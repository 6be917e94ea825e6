"""Messages about managed jobs. Used by the server's routes."""

from collections.abc import Sequence
from typing import Any

from sky.core.model.dags import DagSpec
from sky.core.model.job_groups import Kind
from sky.core.model.managed_jobs import ManagedJob, ManagedTask
from sky.core.model.statuses import ManagedJobStatus
from sky.wire.clusters import EventRecord, user_hash
from sky.wire.codec import Body, Record, field

#: The highest number that a job can have, and the most of them that one call names.
MOST_NUMBER, MOST_NAMED = 2**31 - 1, 10_000


def _check_numbers(job_ids: Sequence[int] | None) -> None:
    if job_ids is not None and len(job_ids) > MOST_NAMED:
        raise ValueError(f"job_ids: found {len(job_ids)}; allowed: {MOST_NAMED} at most")
    wrong = next((each for each in job_ids or () if not 0 <= each <= MOST_NUMBER), None)
    if wrong is not None:
        raise ValueError(f"job_ids: found {str(wrong)[:40]}, which is no number of a managed job")


class JobsLaunchBody(Body):
    """Arguments of `/jobs/launch`. `dag` holds the tasks as `DagSpec.to_config` gives them.

    `num_jobs` opens so many jobs of the same tasks, each with a rank. They begin when the jobs of the numbers `after`
    have succeeded, and those of `after_any` ended. `job_group` is the number or name of a running group that it is
    launched into; with `job_group_lax` one that is over does not matter. `strict` refuses what is only warned of
    otherwise. `uploads`, `config`, `command` as of `/launch`.
    """

    dag: dict[str, Any]
    name: str | None = None
    num_jobs: int | None = None
    after: list[int] | None = None
    after_any: list[int] | None = None
    pool: str | None = None
    job_group: str | None = None
    job_group_lax: bool = False
    uploads: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse before anything is on record what would fail at once."""
        DagSpec.from_config(self.dag)
        _check_numbers(self.after)
        _check_numbers(self.after_any)
        if self.job_group is not None and not 0 < len(self.job_group) <= 200:
            raise ValueError(f"job_group: found {len(self.job_group)} characters; allowed: 1 to 200")
        if self.name is not None and not 0 < len(self.name) <= 200:
            raise ValueError(f"name: found {len(self.name)} characters; allowed: 1 to 200")


class JobsQueueBody(Body):
    """Arguments of `/jobs/queue`. Times in seconds since the epoch; `infra_match` and `name_match` are parts of them.

    `why` asks for each job's situation in words.
    """

    refresh: bool = False
    skip_finished: bool = False
    all_users: bool = False
    job_ids: list[int] | None = None
    limit: int | None = None
    fields: list[str] | None = None
    statuses: list[str] | None = None
    submitted_after: float | None = None
    submitted_before: float | None = None
    infra_match: str | None = None
    name_match: str | None = None
    why: bool = False

    def __post_init__(self) -> None:
        """Refuse a status that there is not, and a limit below zero."""
        for word in self.statuses or ():
            if word not in ManagedJobStatus.__members__:
                raise ValueError(f"statuses: found {word[:40]!r}; allowed: {', '.join(ManagedJobStatus.__members__)}")
        if self.limit is not None and not 0 <= self.limit <= MOST_NUMBER:
            raise ValueError(f"limit: found {self.limit}; allowed: 0 to {MOST_NUMBER}")
        _check_numbers(self.job_ids)


class JobsCancelBody(Body):
    """Arguments of `/jobs/cancel`: `job_ids`, or those under way of a `name`, `all` of one's own, everybody's."""

    job_ids: list[int] | None = None
    name: str | None = None
    all: bool = False
    all_users: bool = False
    pool: str | None = None
    graceful: bool = False
    graceful_timeout: float | None = None
    task: str | int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not built, and numbers that are none of a job's."""
        _check_numbers(self.job_ids)


class JobsLogsBody(Body):
    """Arguments of `/jobs/logs`: of a job (by `job_id`, or the newest of `name`, or the newest), of one `task`.

    `task` is a task's position or name; without one, all tasks one after another from the first on when following,
    else the one whose turn it is. `tail`: last lines only, 0 for all; `offset`: byte to go on from.
    """

    job_id: int | None = None
    name: str | None = None
    task: str | int | None = None
    follow: bool = True
    tail: int = 0
    offset: int | None = None
    controller: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that are none of a job's."""
        _check_numbers([] if self.job_id is None else [self.job_id])


class JobsEventsBody(Body):
    """Arguments of `/jobs/events`."""

    job_id: int

    def __post_init__(self) -> None:
        """Refuse numbers that are none of a job's."""
        _check_numbers([self.job_id])


class JobsWaitBody(Body):
    """Arguments of `/jobs/wait`: as of `/jobs/logs`, and for how many seconds the answer may be held."""

    job_id: int | None = None
    name: str | None = None
    task: str | int | None = None
    timeout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that are none of a job's."""
        _check_numbers([] if self.job_id is None else [self.job_id])


class JobsWaited(Record):
    """How a job stands: `code` as commands that follow it end with."""

    job_id: int | None
    status: str | None
    code: int


class ManagedJobRecord(Record):
    """A task of a managed job; one without several tasks has one record. Times in seconds since the epoch."""

    task_job_id: int
    job_id: int
    task_id: int
    job_name: str
    task_name: str | None
    job_duration: float | None
    workspace: str
    status: str
    schedule_state: str
    resources: str
    cluster_resources: str | None
    cluster_resources_full: str | None
    cloud: str | None
    region: str | None
    zone: str | None
    infra: str | None
    recovery_count: int
    details: str | None
    failure_reason: str | None
    user_name: str
    user_hash: str
    submitted_at: float
    start_at: float | None
    end_at: float | None
    last_recovered_at: float | None
    entrypoint: str
    metadata: dict[str, Any]
    current_cluster_name: str | None
    job_id_on_pool_cluster: int | None
    accelerators: dict[str, float] | None
    priority: int
    use_spot: bool | None
    price_hourly: float | None
    restarts_on_errors: int
    exit_codes: list[int]
    job_status: str
    num_tasks: int
    rank: int | None = None
    num_jobs: int | None = None
    pool: str | None = None
    pool_hash: str | None = None
    labels: dict[str, str] | None = None
    links: dict[str, str] | None = None
    node_names: list[str] | None = None
    execution: str | None = None
    is_job_group: bool = False
    is_primary_in_job_group: bool | None = None
    root_job_id: int | None = None
    parent_job_id: int | None = None
    parent_task_id: int | None = None
    dynamic_task_index: int | None = None
    is_batch: bool = False
    controller_pid: int | None = None
    user_yaml: str | None = None
    progress: float | None = None
    checkpoint: str | None = None
    checkpoint_at: float | None = None


class JobsQueueAnswer(Record):
    """Records of the jobs that were asked for, newest job first.

    `total`: how many jobs match, `status_counts` of them by status, `total_no_filter`: how many there are that the
    caller may see.
    """

    jobs: list[dict[str, Any]]
    total: int
    status_counts: dict[str, int]
    total_no_filter: int


class JobsLaunched(Record):
    """The value of a `/jobs/launch`."""

    job_ids: list[int]


__all__ = [
    "EventRecord",
    "JobsCancelBody",
    "JobsEventsBody",
    "JobsLaunchBody",
    "JobsLaunched",
    "JobsLogsBody",
    "JobsQueueAnswer",
    "JobsQueueBody",
    "JobsWaitBody",
    "JobsWaited",
    "ManagedJobRecord",
    "managed_job_records",
]


def managed_job_records(job: ManagedJob, now: float, why: Sequence[str] | None = None) -> list[ManagedJobRecord]:
    """A job as it is told: one record per task; `why` says of each in words why it is as it is."""
    return [_record(job, at, task, now, None if why is None else why[at]) for at, task in enumerate(job.tasks)]


def _execution(job: ManagedJob) -> str | None:
    if job.group is not None:
        return job.group.kind.value
    return "serial" if len(job.tasks) > 1 else None


def _record(job: ManagedJob, at: int, task: ManagedTask, now: float, why: str | None) -> ManagedJobRecord:
    where = task.where
    member = job.group.members[at] if job.group is not None else None
    kind = job.group.kind if job.group is not None else None
    current = at == job.at and member is None
    cluster_name = job.cluster_name if current else None
    return ManagedJobRecord(
        task_job_id=job.number,
        job_id=job.number,
        task_id=at,
        job_name=job.name,
        task_name=task.name,
        job_duration=task.duration(now),
        workspace=job.workspace,
        status=task.status.value,
        schedule_state=member.schedule if member is not None else job.schedule_state.value,
        resources=task.resources,
        cluster_resources=where.resources if where else None,
        cluster_resources_full=f"{where.instance_type}{where.resources}" if where else None,
        cloud=where.cloud if where else None,
        region=where.region if where else None,
        zone=where.zone if where else None,
        infra=where.infra if where else None,
        recovery_count=task.recoveries,
        details=why or task.reason,
        failure_reason=task.reason if task.status.is_failed() else None,
        user_name=job.user,
        user_hash=user_hash(job.user),
        submitted_at=job.created_at,
        start_at=task.started_at,
        end_at=task.ended_at,
        last_recovered_at=task.recovered_at,
        entrypoint=job.command,
        metadata={},
        current_cluster_name=member.cluster_name if member is not None else cluster_name,
        job_id_on_pool_cluster=job.job_number if current else None,
        accelerators=None,
        priority=job.priority,
        use_spot=where.use_spot if where else None,
        price_hourly=where.price_hourly if where else None,
        restarts_on_errors=task.restarts,
        progress=task.progress,
        checkpoint=task.checkpoint,
        checkpoint_at=task.checkpoint_at,
        exit_codes=list(task.exit_codes),
        job_status=job.status.value,
        num_tasks=len(job.tasks),
        rank=at if kind is Kind.SWEEP else job.rank,
        num_jobs=len(job.tasks) if kind is Kind.SWEEP else job.num_jobs,
        execution=_execution(job),
        is_job_group=kind is Kind.GROUP,
        is_primary_in_job_group=job.group.is_primary(at) if job.group is not None and kind is Kind.GROUP else None,
        root_job_id=job.number if job.attached is None else job.attached.number,
        parent_job_id=job.attached.number if job.attached is not None else None,
        pool=job.pool,
    )
