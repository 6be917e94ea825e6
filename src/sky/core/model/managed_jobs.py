"""A managed job: tasks that get clusters of their own, one after another, and are brought back from every loss.

Driven by `core.lifecycle.managed_jobs`. What is on its cluster is an ordinary job there (`core.model.jobs`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.job_groups import Attached, Awaited, Group, Membership
from sky.core.model.statuses import ManagedJobScheduleState, ManagedJobStatus

__all__ = ["ManagedJob", "ManagedJobScheduleState", "ManagedJobStatus", "ManagedTask", "Stage", "Where"]

#: Seconds that a cluster which cannot be reached, while its machines run, may be so before the job is begun anew.
CONTACT_LEASE_S = 300.0
#: Seconds without work after which a cluster of a managed job goes by itself: no server has ended it.
ORPHAN_AFTER_S = 86400.0
#: Seconds of waiting that are worth one point of priority: so nobody waits for ever behind those who matter more.
AGING_S = 36.0
#: How the owner of a cluster begins that belongs to a managed job; its id follows.
OWNED = "managed:"


class Stage(StrEnum):
    """What is really going on; finer than the status shown, and the key of the lifecycle table."""

    HELD = "HELD"
    LEADING = "LEADING"
    WAITING = "WAITING"
    PLACING = "PLACING"
    LAUNCHING = "LAUNCHING"
    MEETING = "MEETING"
    SUBMITTING = "SUBMITTING"
    RUNNING = "RUNNING"
    REPAIRING = "REPAIRING"
    CANCELLING = "CANCELLING"
    CLEARING = "CLEARING"
    BACKOFF = "BACKOFF"
    ENDING = "ENDING"
    DONE = "DONE"


#: Stages in which there may be a cluster whose changes matter.
WATCHING = (
    Stage.LAUNCHING, Stage.MEETING, Stage.SUBMITTING, Stage.RUNNING, Stage.REPAIRING, Stage.CANCELLING, Stage.CLEARING,
    Stage.ENDING,
)  # fmt: skip

_SCHEDULED: Mapping[Stage, ManagedJobScheduleState] = {
    Stage.HELD: ManagedJobScheduleState.WAITING,
    Stage.WAITING: ManagedJobScheduleState.WAITING,
    Stage.PLACING: ManagedJobScheduleState.LAUNCHING,
    Stage.LAUNCHING: ManagedJobScheduleState.LAUNCHING,
    Stage.BACKOFF: ManagedJobScheduleState.ALIVE_BACKOFF,
    Stage.DONE: ManagedJobScheduleState.DONE,
}


@dataclass(frozen=True, slots=True)
class Where:
    """A place that a task had, or has. `price_hourly` in USD for all nodes."""

    cloud: str
    region: str
    zone: str | None
    instance_type: str
    use_spot: bool
    price_hourly: float
    resources: str = "-"

    @property
    def infra(self) -> str:
        """`cloud/region/zone`, as far as each is known and says something."""
        parts = [self.cloud]
        if self.region and self.region != self.cloud:
            parts.append(self.region)
            if self.zone:
                parts.append(self.zone)
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class ManagedTask:
    """One task of a managed job, as far as it has come.

    `resources` is what was asked for, `where` what it has or had last. `attempts` are the numbers of its attempts,
    which name their logs. `ran` are the seconds that it ran in attempts that are over, `running_since` is when the
    one under way began to run. `recoveries` counts how often it was begun anew, `restarts` those of them that its own
    errors made necessary and that count against `max_restarts_on_errors`, `grown` how often it asked for more memory.
    `progress` is between 0 and 1, `checkpoint` the newest complete one, written at `checkpoint_at`. Times are seconds
    since the epoch.
    """

    name: str | None
    status: ManagedJobStatus = ManagedJobStatus.PENDING
    resources: str = "-"
    submitted_at: float | None = None
    started_at: float | None = None
    running_since: float | None = None
    ended_at: float | None = None
    recovered_at: float | None = None
    ran: float = 0.0
    recoveries: int = 0
    restarts: int = 0
    attempts: tuple[int, ...] = ()
    reason: str | None = None
    exit_codes: tuple[int, ...] = ()
    where: Where | None = None
    grown: int = 0
    progress: float | None = None
    checkpoint: str | None = None
    checkpoint_at: float | None = None

    def duration(self, now: float) -> float | None:
        """Seconds that it has run, in all attempts; None before the first."""
        if self.started_at is None:
            return None
        return self.ran + (now - self.running_since if self.running_since is not None else 0.0)


@dataclass(frozen=True, slots=True)
class ManagedJob:
    """A managed job as recorded.

    `number` is what people know it by, given by the store. `tasks` run one after another; `at` is the one whose turn
    it is, `task_configs` has what is to be run, by the position as text. `attempt` counts clusters that were ordered,
    over all tasks; `cluster_id`, `cluster_name` and `job_key` (the `request_id` of the job on it) are those of the
    newest attempt. `wake_at` is when to look again unasked. `silent_since` is when its cluster could be reached last.
    `goal` is how the job ends once its cluster is gone. `failures` are launches that failed in a row, `stumbles` jobs
    that never ran although their cluster was well. `lost` are the places that were lost or refused of late, newest
    last. `pace` is what a job with a deadline carries along (`core.policy.pacing`), `look_at` when its policy is asked
    next, `leave_at` when it leaves what it runs on. `seen_phase` and `seen_version` are of cluster and job as they were
    looked at last. `kept`: its cluster is left to its user. `pool` and `pool_id`: it takes workers of that pool instead
    of clusters of its own; `cluster_id` is then the worker's. `replacing` are the ranks of nodes that are replaced,
    `repair` is the number that this repair of the cluster has, `repairs` counts those in a row after which it has not
    run yet. `fresh` are the ranks whose setup is still to be run in the attempt; None: all. `uploads` maps sources as
    written in the tasks to the manifests of their content. `after` are the jobs that it still waits for. A parent has
    `group` and shows its members as its tasks; a member has `member`, and a number below zero, by which nobody knows
    it. `attached` is the group that a job was launched into.
    """

    id: str
    number: int
    key: str
    name: str
    user: str
    workspace: str
    stage: Stage
    version: int
    created_at: float
    tasks: tuple[ManagedTask, ...]
    task_configs: Mapping[str, object] = field(default_factory=dict)
    layers: Mapping[str, object] = field(default_factory=dict)
    uploads: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    reach: str = "all"
    command: str = ""
    at: int = 0
    attempt: int = 0
    cluster_id: str | None = None
    cluster_name: str | None = None
    job_key: str | None = None
    job_number: int | None = None
    wake_at: float | None = None
    silent_since: float | None = None
    goal: ManagedJobStatus | None = None
    cancel_asked: bool = False
    priority: int = 0
    rank: int | None = None
    num_jobs: int | None = None
    failures: int = 0
    stumbles: int = 0
    lost: tuple[Where, ...] = ()
    seen_phase: str = ""
    seen_version: int = -1
    lease_s: float = CONTACT_LEASE_S
    ended_at: float | None = None
    reason: str | None = None
    kept: bool = False
    pace: Mapping[str, object] = field(default_factory=dict)
    look_at: float | None = None
    leave_at: float | None = None
    replacing: tuple[int, ...] = ()
    repair: int = 0
    repairs: int = 0
    fresh: tuple[int, ...] | None = None
    after: tuple[Awaited, ...] = ()
    group: Group | None = None
    member: Membership | None = None
    attached: Attached | None = None
    pool: str | None = None
    pool_id: str | None = None

    @property
    def known_as(self) -> int:
        """The number by which people know it: of a member that of its parent."""
        return self.number if self.member is None else self.member.number

    @property
    def task(self) -> ManagedTask:
        """The task whose turn it is, or was last."""
        return self.tasks[self.at]

    @property
    def notifies(self) -> bool:
        """Whether any of its tasks names who is to be told of changes."""
        return any(isinstance(each, Mapping) and each.get("notify") for each in self.task_configs.values())

    @property
    def status(self) -> ManagedJobStatus:
        """The status shown: that of the first task that has not succeeded; of a parent what its members make of it."""
        if self.group is not None:
            return self.group.status
        unfinished = (each.status for each in self.tasks if each.status is not ManagedJobStatus.SUCCEEDED)
        return next(unfinished, ManagedJobStatus.SUCCEEDED)

    @property
    def schedule_state(self) -> ManagedJobScheduleState:
        """The schedule state shown."""
        return _SCHEDULED.get(self.stage, ManagedJobScheduleState.ALIVE)

    @property
    def turn(self) -> float:
        """Whose is least is admitted first: priority, and time of waiting."""
        return self.created_at - self.priority * AGING_S

    @property
    def owner(self) -> str:
        """The owner of its clusters."""
        return f"{OWNED}{self.id}"
