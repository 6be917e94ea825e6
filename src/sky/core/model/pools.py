"""A pool: workers that are set up once and run one managed job after another.

Driven by `core.lifecycle.pools`. A worker is a cluster; which job has it is a claim on record (`core.ports.PoolRows`),
made and given back by the jobs themselves, never by the pool.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.model.managed_jobs import CONTACT_LEASE_S, Where
from sky.core.model.services import ReplicaPolicy
from sky.core.model.statuses import ReplicaStatus, ServiceStatus
from sky.core.model.tasks import TaskSpec
from sky.kit.derived_ids import derived_id

__all__ = ["Pool", "PoolStage", "ReplicaStatus", "ServiceStatus", "Standing", "UpdateMode", "Worker", "WorkerState"]

#: How the owner of a cluster begins that is a worker; `<id of the pool>:<revision>:<number>` follows.
OWNED = "pool:"
#: The most workers that a pool can be asked to have.
MOST_WORKERS = 1000
_NAME = re.compile(r"[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
_LONGEST = 60


def check_pool_name(name: str) -> str:
    """The name, if a pool can have it: the names of its workers' clusters begin with it. Raises ValueError."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"pool: found the name {name[:80]!r}; allowed: a letter, then letters, digits, '-', '_' and '.', "
            f"{_LONGEST} characters at most"
        )
    return name


def worker_id(pool_id: str, number: int) -> str:
    """The id of a worker and of its cluster, of the usual form and the same each time."""
    return derived_id(pool_id, number)


class PoolStage(StrEnum):
    """What is going on; the key of the lifecycle table."""

    ACTIVE = "ACTIVE"
    ENDING = "ENDING"
    DONE = "DONE"


class UpdateMode(StrEnum):
    """How workers of an older revision are replaced: one after another, or all once the new ones are ready."""

    ROLLING = "rolling"
    BLUE_GREEN = "blue_green"


class WorkerState(StrEnum):
    """How far a worker is. Only one that is READY can be claimed; one that is LEAVING was, and may still be."""

    PLACING = "PLACING"
    STARTING = "STARTING"
    SETTING_UP = "SETTING_UP"
    READY = "READY"
    UNREACHABLE = "UNREACHABLE"
    LEAVING = "LEAVING"
    ENDING = "ENDING"


#: States in which a worker is, or will be, one that jobs can have.
SERVING = (
    WorkerState.PLACING, WorkerState.STARTING, WorkerState.SETTING_UP, WorkerState.READY, WorkerState.UNREACHABLE
)  # fmt: skip

_SHOWN: Mapping[WorkerState, ReplicaStatus] = {
    WorkerState.PLACING: ReplicaStatus.PENDING,
    WorkerState.STARTING: ReplicaStatus.PROVISIONING,
    WorkerState.SETTING_UP: ReplicaStatus.STARTING,
    WorkerState.READY: ReplicaStatus.READY,
    WorkerState.UNREACHABLE: ReplicaStatus.NOT_READY,
    WorkerState.LEAVING: ReplicaStatus.SHUTTING_DOWN,
    WorkerState.ENDING: ReplicaStatus.SHUTTING_DOWN,
}


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as recorded. `cluster_id` is its own id, too; times are seconds since the epoch.

    `silent_since` is when it could be reached last. `reason` says why it goes, or does not answer.
    """

    number: int
    revision: int
    cluster_id: str
    state: WorkerState = WorkerState.PLACING
    cluster_name: str = ""
    created_at: float = 0.0
    ready_at: float | None = None
    silent_since: float | None = None
    where: Where | None = None
    reason: str | None = None

    @property
    def status(self) -> ReplicaStatus:
        """The status shown."""
        return _SHOWN[self.state]

    @property
    def serving(self) -> bool:
        """Whether it counts as one of those that are wanted."""
        return self.state in SERVING


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as recorded.

    `tasks` are what workers are made from and `uploads` the manifests of their files, both by revision as text; kept
    are those that some worker has. `target` is how many workers are wanted now, `made` how many were ever numbered.
    `pressed_since` and `idle_since` are since when more, or fewer, would do. `failures` are workers in a row that did
    not come up, `misfits` those in a row whose setup failed; after such, none is begun before `retry_at`. `tending`:
    an order to look is under way; `dirty`: something changed since it was given.
    """

    id: str
    name: str
    user: str
    workspace: str
    stage: PoolStage
    version: int
    created_at: float
    tasks: Mapping[str, object] = field(default_factory=dict)
    uploads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    layers: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""
    reach: str = "all"
    command: str = ""
    revision: int = 1
    mode: UpdateMode = UpdateMode.ROLLING
    workers: tuple[Worker, ...] = ()
    target: int = 1
    made: int = 0
    pressed_since: float | None = None
    idle_since: float | None = None
    failures: int = 0
    misfits: int = 0
    retry_at: float | None = None
    wake_at: float | None = None
    tending: bool = False
    dirty: bool = False
    lease_s: float = CONTACT_LEASE_S
    reason: str | None = None
    ended_at: float | None = None

    @property
    def task(self) -> TaskSpec:
        """The task of the newest revision."""
        return self.task_of(self.revision)

    def task_of(self, revision: int) -> TaskSpec:
        """The task that workers of a revision are made from."""
        config = self.tasks[str(revision)]
        return TaskSpec.from_config(config if isinstance(config, Mapping) else {})

    @property
    def policy(self) -> ReplicaPolicy:
        """How many workers, and when that changes."""
        service = self.task.service
        assert service is not None
        return service.replica_policy

    def owner(self, worker: Worker) -> str:
        """The owner of a worker's cluster."""
        return f"{OWNED}{self.id}:{worker.revision}:{worker.number}"

    def setup_key(self, worker: Worker) -> str:
        """What the job is called by that sets a worker up."""
        return f"{OWNED}{self.id}:{worker.number}"

    @property
    def ready(self) -> int:
        """Workers that jobs can have, or have."""
        return sum(each.state is WorkerState.READY for each in self.workers)

    @property
    def status(self) -> ServiceStatus:
        """The status shown."""
        if self.stage is not PoolStage.ACTIVE:
            return ServiceStatus.SHUTTING_DOWN
        if self.ready:
            return ServiceStatus.READY
        if self.gave_up:
            return ServiceStatus.FAILED
        return ServiceStatus.REPLICA_INIT if any(each.serving for each in self.workers) else ServiceStatus.NO_REPLICA

    @property
    def gave_up(self) -> bool:
        """Whether the setup of its newest revision failed so often that no more workers of it are begun."""
        return self.misfits >= MISFITS


#: Setups of one revision in a row that fail before no more workers of it are begun: each costs money.
MISFITS = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What is on record beside a pool: which job has which of its workers, and who waits.

    `claims` maps clusters of workers to the keys of the jobs that have them; `condemned` are clusters that a job gave
    up; `waiting` counts jobs that wait for a worker, `unfinished` those that have not ended.
    """

    claims: Mapping[str, str] = field(default_factory=dict)
    condemned: frozenset[str] = frozenset()
    waiting: int = 0
    unfinished: int = 0
