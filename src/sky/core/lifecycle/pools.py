"""The life of a pool as one table: what was seen of its workers and of who waits, and which workers follow from it.

Level-triggered: one order, `Tend`, does for every worker what its recorded state calls for and reads how all of them
are; its outcome, `Tended`, moves the workers on. A worker that is to go first takes no more jobs (LEAVING); it is ended
only once a look that began after that finds nobody who has it: so no job loses its worker to the pool. Orders are
carried out by `engine.pools`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sky.core.lifecycle.machine import Step, Table
from sky.core.model.clusters import Phase
from sky.core.model.managed_jobs import Where
from sky.core.model.pools import Pool, PoolStage, Standing, UpdateMode, Worker, worker_id
from sky.core.model.pools import WorkerState as W
from sky.core.model.statuses import JobStatus
from sky.core.policy import recovery
from sky.core.policy.pool_scaling import Aim, Load, aimed, next_look
from sky.kit.frozen import replace

#: Seconds between looks at a pool that nothing woke, and at one whose size follows its queue.
LOOK_S, LOOK_AT_QUEUE_S = 10.0, 5.0
#: Phases of a cluster in which its machines are stopped or ended, or about to be.
_GOING = (Phase.STOPPING, Phase.STOPPED, Phase.TERMINATING, Phase.AUTOSTOPPING)

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """It is time to look."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A worker's cluster or its setup has moved on, or a job came or gave a worker back."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Somebody wants the pool to be so from now on."""

    task: Mapping[str, object]
    uploads: Mapping[str, str] = field(default_factory=dict)
    mode: UpdateMode = UpdateMode.ROLLING
    user: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class DownAsked:
    """Somebody wants the pool to end."""

    user: str = ""


@dataclass(frozen=True, slots=True)
class NotSeen:
    """Looking failed in an unforeseen way."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """The rows of a worker's cluster and of the job that sets it up, as they are.

    `phase` None: the cluster is not on record; `failed` says why it could not be put there. `missing`: machines of it
    that do not exist any more or do not run. `setup` None: no such job on record.
    """

    number: int
    phase: Phase | None = None
    name: str = ""
    missing: int = 0
    reason: str | None = None
    where: Where | None = None
    setup: JobStatus | None = None
    setup_reason: str | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Tended:
    """What was seen of all workers, and what is on record beside them."""

    workers: tuple[WorkerSeen, ...]
    standing: Standing


# --- orders ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tend:
    """Do for each worker what its state calls for, and read how all of them are."""


EVENTS: tuple[type, ...] = (Due, Changed, Applied, DownAsked, NotSeen, Tended)
ORDERS: tuple[type, ...] = (Tend,)
TABLE: Table[Pool] = Table("pool", PoolStage, EVENTS, lambda pool: pool.stage)
S = PoolStage


def opening(pool: Pool) -> Step[Pool]:
    """The first step of a new record."""
    first = replace(pool, stage=S.ACTIVE, target=pool.policy.min_replicas, tending=True)
    return Step(first, (Tend(),), f"applied: {first.target} workers are wanted")


def due_at(pool: Pool) -> float | None:
    """When to look again without being woken."""
    return None if pool.stage is S.DONE else pool.wake_at


@TABLE.on((S.ACTIVE, S.ENDING), Due, to=())
def look(pool: Pool, event: Due, now: float) -> Step[Pool]:
    """Time has passed, and no order stands."""
    return _tend(pool)


@TABLE.on((S.ACTIVE, S.ENDING), Changed, to=())
def changed(pool: Pool, event: Changed, now: float) -> Step[Pool]:
    """Look, or look once more after the look that is under way."""
    return _poked(pool)


@TABLE.on(S.ACTIVE, Applied, to={S.ACTIVE})
def applied(pool: Pool, event: Applied, now: float) -> Step[Pool]:
    """Another revision. Workers stay what they are where the task itself is the same."""
    revision = pool.revision + 1
    before = pool.tasks[str(pool.revision)]
    same = _bare(before) == _bare(event.task) and pool.uploads.get(str(pool.revision), {}) == event.uploads
    workers = pool.workers
    if same:
        workers = tuple(
            replace(each, revision=revision) if each.revision == pool.revision else each for each in workers
        )
    after = replace(
        pool,
        revision=revision,
        tasks={**pool.tasks, str(revision): event.task},
        uploads={**pool.uploads, str(revision): event.uploads},
        mode=event.mode,
        workers=workers,
        request_id=event.request_id or pool.request_id,
        failures=0,
        misfits=0,
        retry_at=None,
        reason=None,
    )
    policy = after.policy
    most = policy.min_replicas if policy.max_replicas is None else policy.max_replicas
    after = replace(after, target=min(max(after.target, policy.min_replicas), most))
    how = "its workers stay" if same else f"its workers are replaced ({event.mode.value.replace('_', '-')})"
    poked = _poked(after)
    return replace(poked, text=f"version {revision}, applied by {event.user or 'somebody'}: {how}")


@TABLE.on(S.ACTIVE, DownAsked, to={S.ENDING})
def down_asked(pool: Pool, event: DownAsked, now: float) -> Step[Pool]:
    """All workers go, each once nobody has it."""
    words = f"taken down by {event.user or 'somebody'}"
    return replace(_poked(replace(pool, stage=S.ENDING, reason=words)), text=words)


@TABLE.on((S.ACTIVE, S.ENDING), NotSeen, to=())
def not_seen(pool: Pool, event: NotSeen, now: float) -> Step[Pool]:
    """Say so, and look again."""
    text = "" if pool.reason == event.reason else event.reason
    return Step(replace(pool, tending=False, reason=event.reason, wake_at=now + LOOK_S), None, text)


@TABLE.on((S.ACTIVE, S.ENDING), Tended, to={S.ACTIVE, S.ENDING, S.DONE})
def tended(pool: Pool, event: Tended, now: float) -> Step[Pool]:
    """Move every worker on, then say how many there should be."""
    after, said = _followed(pool, event, now)
    after = _ending(after) if pool.stage is S.ENDING else _sized(after, event.standing, now)
    said += [f"worker {each.number} is wanted" for each in after.workers[len(after.workers) - after.made + pool.made :]]
    if after.stage is S.ENDING and not after.workers and not event.standing.unfinished:
        over = replace(after, stage=S.DONE, ended_at=now, tending=False, wake_at=None)
        return Step(over, (), "; ".join([*said, "nothing is left of it"]))
    needed = set(_states(after.workers)) - set(_states(pool.workers))
    text = "; ".join(said)
    if after.dirty or any(state in _CALLING for _, state in needed):
        return replace(_tend(_kept(after)), text=text)
    return Step(replace(_kept(after), tending=False, wake_at=_wake_at(after, now)), None, text)


#: States of a worker that was never ready.
_RISING = (W.PLACING, W.STARTING, W.SETTING_UP)
#: States in which something is to be done for a worker once it comes into them.
_CALLING = (W.PLACING, W.SETTING_UP, W.LEAVING, W.ENDING)


def _states(workers: Iterable[Worker]) -> list[tuple[int, W]]:
    return [(each.number, each.state) for each in workers]


def _tend(pool: Pool) -> Step[Pool]:
    return Step(replace(pool, tending=True, dirty=False), (Tend(),))


def _poked(pool: Pool) -> Step[Pool]:
    """A look that is under way goes on: calling it off for each piece of news would mean that none ever ends."""
    return Step(replace(pool, dirty=True), None) if pool.tending else _tend(pool)


# --- what became of workers ------------------------------------------------------------------------------------------


def _followed(pool: Pool, event: Tended, now: float) -> tuple[Pool, list[str]]:
    """The pool with its workers moved on, and what is worth telling."""
    seen = {each.number: each for each in event.workers}
    workers: list[Worker] = []
    said: list[str] = []
    refused = misfit = came = None
    for before in pool.workers:
        here = seen.get(before.number)
        # One that was numbered after the look began was not looked at.
        after = before if here is None else _moved(pool, before, here, event.standing, now)
        if after is None or after.state is not before.state:
            reason = (here and (here.failed or here.setup_reason or here.reason)) or (after and after.reason) or ""
            said += _told(before, after, reason)
            newest = before.revision == pool.revision and before.state is W.SETTING_UP
            misfit = reason if newest and here is not None and _failed(here.setup) else misfit
            # However it ends before it was ever ready: the next must not follow at once, and again, and again.
            early = before.state in _RISING and (after is None or after.state is W.ENDING)
            refused = reason if early else refused
            came = before.number if after is not None and after.state is W.READY and newest else came
        if after is not None:
            workers.append(after)
    pool = replace(pool, workers=tuple(workers))
    if came is not None:
        pool = replace(pool, failures=0, misfits=0, retry_at=None, reason=None)
    if misfit is not None or refused is not None:
        failures = pool.failures + 1
        pool = replace(
            pool,
            failures=failures,
            misfits=pool.misfits + (misfit is not None),
            retry_at=now + recovery.backoff(failures),
            reason=misfit if misfit is not None else refused,
        )
        if pool.gave_up:
            said.append(f"its setup failed {pool.misfits} times in a row: no more workers before it is applied anew")
    return pool, said


def _told(before: Worker, after: Worker | None, reason: str) -> list[str]:
    """The words about a worker that has moved on; its way up is told by its end alone."""
    name = f"worker {before.number}"
    why = f": {reason}" if reason else ""
    if after is None:
        return [f"{name} is gone{why if before.serving else ''}"]
    words = {W.READY: f"{name} is ready", W.UNREACHABLE: f"{name} is out of reach{why}", W.ENDING: f"{name} ends{why}"}
    return [words[after.state]] if after.state in words else []


def _failed(setup: JobStatus | None) -> bool:
    return setup in (JobStatus.FAILED, JobStatus.FAILED_SETUP, JobStatus.CANCELLED)


def _moved(pool: Pool, worker: Worker, seen: WorkerSeen, standing: Standing, now: float) -> Worker | None:
    """A worker as it is by now; None once nothing is left of it."""
    if worker.state is W.PLACING:
        return _placed(worker, seen)
    if seen.phase in (None, Phase.TERMINATED):
        return None
    worker = replace(worker, where=seen.where or worker.where, cluster_name=seen.name or worker.cluster_name)
    if worker.state is W.ENDING:
        return worker
    if worker.state is W.LEAVING and worker.cluster_id not in standing.claims:
        return replace(worker, state=W.ENDING)
    if worker.cluster_id in standing.condemned:
        return replace(worker, state=W.ENDING, reason="a job could not be ended on it")
    if seen.phase in _GOING or (seen.missing and seen.phase is Phase.DEGRADED):
        return replace(worker, state=W.ENDING, reason=seen.reason or "its machines are gone")
    if worker.state is W.LEAVING:
        return _silent(pool, worker, seen, now)
    if worker.state is W.STARTING:
        return _started(pool, worker, seen, now)
    if worker.state is W.SETTING_UP:
        return _set_up(pool, worker, seen, now)
    return _reached(pool, worker, seen, now)


def _placed(worker: Worker, seen: WorkerSeen) -> Worker | None:
    if seen.failed is not None:
        return None
    return worker if seen.phase is None else replace(worker, state=W.STARTING, cluster_name=seen.name, where=seen.where)


def _started(pool: Pool, worker: Worker, seen: WorkerSeen, now: float) -> Worker:
    if seen.phase is not Phase.UP:
        return _silent(pool, worker, seen, now)
    if needs_setup(pool, worker):
        return replace(worker, state=W.SETTING_UP, silent_since=None)
    return replace(worker, state=W.READY, ready_at=now, silent_since=None)


def _set_up(pool: Pool, worker: Worker, seen: WorkerSeen, now: float) -> Worker:
    if seen.setup is JobStatus.SUCCEEDED:
        return replace(worker, state=W.READY, ready_at=now, silent_since=None)
    if seen.setup is not None and seen.setup.is_terminal():
        return replace(worker, state=W.ENDING, reason=seen.setup_reason or "its setup failed")
    return _silent(pool, worker, seen, now)


def _reached(pool: Pool, worker: Worker, seen: WorkerSeen, now: float) -> Worker:
    """One that is ready, or was."""
    if seen.phase is Phase.UP:
        return replace(worker, state=W.READY, silent_since=None, reason=None)
    after = _silent(pool, worker, seen, now)
    return after if after.state is W.ENDING else replace(after, state=W.UNREACHABLE, reason=seen.reason)


def _silent(pool: Pool, worker: Worker, seen: WorkerSeen, now: float) -> Worker:
    """One that does not answer is waited for, as jobs wait for their clusters: as long as the lease says."""
    if seen.phase is not Phase.DEGRADED:
        return replace(worker, silent_since=None)
    since = now if worker.silent_since is None else worker.silent_since
    if now >= since + pool.lease_s:
        return replace(worker, state=W.ENDING, reason=f"out of reach for {now - since:.0f} s")
    return replace(worker, silent_since=since)


def needs_setup(pool: Pool, worker: Worker) -> bool:
    """Whether something is to be brought to a worker, or run on it, before jobs can have it."""
    task = pool.task_of(worker.revision)
    return bool(task.setup or task.workdir or task.file_mounts)


# --- how many there should be ----------------------------------------------------------------------------------------


def _ending(pool: Pool) -> Pool:
    return replace(pool, workers=tuple(_leaving(each) if each.serving else each for each in pool.workers))


def _leaving(worker: Worker, reason: str | None = None) -> Worker:
    return replace(worker, state=W.LEAVING, reason=reason or worker.reason)


def _sized(pool: Pool, standing: Standing, now: float) -> Pool:
    """The pool with as many workers as are wanted: the others leave, and those that are not there yet are numbered."""
    busy = sum(each.cluster_id in standing.claims for each in pool.workers)
    aim = aimed(Aim(pool.target, pool.pressed_since, pool.idle_since), Load(standing.waiting, busy), pool.policy, now)
    pool = replace(pool, target=aim.target, pressed_since=aim.pressed_since, idle_since=aim.idle_since)
    gone = leaves(pool, standing)
    workers = tuple(_leaving(each, gone[each.number]) if each.number in gone else each for each in pool.workers)
    pool = replace(pool, workers=workers)
    more = wanted(pool)
    if not more or pool.gave_up or (pool.retry_at is not None and now < pool.retry_at):
        return pool
    fresh = tuple(
        Worker(number, pool.revision, worker_id(pool.id, number), created_at=now)
        for number in range(pool.made + 1, pool.made + 1 + more)
    )
    return replace(pool, workers=(*pool.workers, *fresh), made=pool.made + more, retry_at=None)


def wanted(pool: Pool) -> int:
    """How many workers of the newest revision are to be begun now."""
    serving = [each for each in pool.workers if each.serving]
    fresh = sum(each.revision == pool.revision for each in serving)
    lacking = max(0, pool.target - fresh)
    if pool.mode is UpdateMode.BLUE_GREEN or fresh == len(serving):
        return lacking
    # One above the size at a time, so that there are never fewer than wanted that can work.
    return min(lacking, max(0, pool.target + 1 - len(serving)))


def leaves(pool: Pool, standing: Standing) -> dict[int, str]:
    """Numbers of the workers that are to leave, with the reason."""
    serving = [each for each in pool.workers if each.serving]
    fresh = [each for each in serving if each.revision == pool.revision]
    old = [each for each in serving if each.revision != pool.revision]
    ready = sum(each.state is W.READY for each in fresh)
    # Those of an older version that cannot work yet would come up only to go.
    rising = [each for each in old if each.state in _RISING]
    old = [each for each in old if each.state not in _RISING]
    if pool.mode is UpdateMode.BLUE_GREEN:
        stay = 0 if ready >= pool.target else len(old)
    else:
        stay = max(0, pool.target - ready)
    replaced = [*rising, *_last(old, stay, standing)]
    gone = {each.number: f"version {pool.revision} takes its place" for each in replaced}
    gone |= {each.number: "fewer are wanted" for each in _last(fresh, pool.target, standing)}
    return gone


def _last(workers: Sequence[Worker], stay: int, standing: Standing) -> Sequence[Worker]:
    """Those above a number, whom it costs least to lose: first those that cannot work yet, then those nobody has."""

    def worth(worker: Worker) -> tuple[bool, bool, int]:
        return (worker.cluster_id in standing.claims, worker.state is W.READY, -worker.number)

    return sorted(workers, key=worth)[: max(0, len(workers) - stay)]


def _kept(pool: Pool) -> Pool:
    """Without tasks that no worker has."""
    used = {str(pool.revision), *(str(each.revision) for each in pool.workers)}
    return replace(
        pool,
        tasks={key: value for key, value in pool.tasks.items() if key in used},
        uploads={key: value for key, value in pool.uploads.items() if key in used},
    )


def _wake_at(pool: Pool, now: float) -> float:
    policy = pool.policy
    follows = policy.max_replicas is not None and policy.max_replicas != policy.min_replicas
    times = [
        now + (LOOK_AT_QUEUE_S if follows else LOOK_S),
        pool.retry_at,
        next_look(Aim(pool.target, pool.pressed_since, pool.idle_since), policy),
        *(each.silent_since + pool.lease_s for each in pool.workers if each.silent_since is not None),
    ]
    return min(each + 0.01 for each in times if each is not None and each > now)


def _bare(task: object) -> object:
    """A task without what only says how many workers there are."""
    return {key: value for key, value in task.items() if key != "pool"} if isinstance(task, Mapping) else task


TABLE.ignore((S.ENDING, S.DONE), Applied, "it is going; a pool of the name can be made once it is gone")
TABLE.ignore((S.ENDING, S.DONE), DownAsked, "under way or over")
for _late in (Due, Changed, NotSeen, Tended):
    TABLE.ignore(S.DONE, _late, "it is over")
