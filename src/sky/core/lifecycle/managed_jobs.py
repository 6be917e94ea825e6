"""The life of a managed job as one table: what was seen of its cluster and its job there, and what follows.

Level-triggered: a look reads both rows and comes back as one `Seen`, from which the rules decide. Every order can be
repeated, and a change of those rows, a letter or the passing of time has the stage's own order given again: so
whoever takes a job over after a crash goes on from what is there. Orders are carried out by `engine.managed_jobs`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sky.core.lifecycle.machine import Step, Table
from sky.core.lifecycle.managed_events import (
    EVENTS,
    Admitted,
    CancelAsked,
    CancelJob,
    Changed,
    Close,
    Due,
    Launch,
    Launched,
    Look,
    NotPlaced,
    NotSeen,
    OpenJob,
    Postponed,
    Release,
    Seen,
)
from sky.core.model.clusters import Phase
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.statuses import JobStatus
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy import recovery

#: Seconds before something that could not be looked at, or did not come about, is looked at again.
LOOK_AGAIN_S = 10.0
#: Seconds that a job is given to end by itself when it is cancelled gracefully and no other time was said.
GRACE_S = 60.0
#: Jobs in a row that never began to run on clusters that were well, before the job counts as one that cannot run.
STUMBLES = 3
#: Places that are remembered as lost, the newest.
_MOST_LOST = 20

TABLE: Table[ManagedJob] = Table("managed_job", Stage, EVENTS, lambda job: job.stage)
S = Stage

#: What is given again in a stage when something has changed; stages that are not named wait for their order's outcome.
_AGAIN: Mapping[Stage, object] = {
    S.LAUNCHING: Look(),
    S.RUNNING: Look(),
    S.CANCELLING: CancelJob(),
    S.CLEARING: Close(),
    S.ENDING: Close(),
}
#: Phases of a cluster in which its machines are stopped or ended, or about to be.
_LEAVING = (Phase.STOPPING, Phase.STOPPED, Phase.TERMINATING, Phase.AUTOSTOPPING)
_OVER = (
    JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.FAILED_SETUP, JobStatus.FAILED_DRIVER, JobStatus.CANCELLED
)  # fmt: skip
_BUSY = (S.LAUNCHING, S.SUBMITTING, S.RUNNING)


def opening(job: ManagedJob) -> Step[ManagedJob]:
    """The first step of a new record: it waits for its turn."""
    tasks = f", {len(job.tasks)} tasks" if len(job.tasks) > 1 else ""
    return Step(replace(job, stage=S.WAITING), (), f"submitted{tasks}")


def due_at(job: ManagedJob) -> float | None:
    """When to look again without being woken."""
    return None if job.stage in (S.WAITING, S.DONE) else job.wake_at


def recovery_config(job: ManagedJob) -> Mapping[str, object]:
    """What the task whose turn it is says under `job_recovery`."""
    config = job.task_configs.get(str(job.at))
    resources = config.get("resources") if isinstance(config, Mapping) else None
    if isinstance(resources, Mapping):
        several = resources.get("any_of") or resources.get("ordered")
        first = several[0] if isinstance(several, list | tuple) and several else resources
        found = first.get("job_recovery") or resources.get("job_recovery")
        if isinstance(found, Mapping):
            return found
    return {}


# --- beginning -------------------------------------------------------------------------------------------------------


@TABLE.on(S.WAITING, Admitted, to={S.PLACING})
def admitted(job: ManagedJob, event: Admitted, now: float) -> Step[ManagedJob]:
    """Its turn has come."""
    return _attempt(job, now, "its turn has come; looking for a place")


@TABLE.on(S.PLACING, Launched, to={S.LAUNCHING})
def launched(job: ManagedJob, event: Launched, now: float) -> Step[ManagedJob]:
    """The cluster makes its own way from here."""
    there = replace(job, stage=S.LAUNCHING, cluster_id=event.cluster_id, cluster_name=event.cluster_name, wake_at=None)
    return Step(there, (Look(),), event.text)


@TABLE.on(S.PLACING, NotPlaced, to={S.BACKOFF, S.DONE})
def not_placed(job: ManagedJob, event: NotPlaced, now: float) -> Step[ManagedJob]:
    """One that never ran, and never can, ends here; one that did run was fit before, and is tried again."""
    if job.task.started_at is None and (event.wrong or event.hopeless):
        status = Status.FAILED_PRECHECKS if event.wrong else Status.FAILED_NO_RESOURCE
        return _over(_finish(job, status, now, event.reason), now, event.reason)
    return _rest(replace(job, failures=job.failures + 1), now, event.reason)


@TABLE.on(S.PLACING, Postponed, to={S.BACKOFF})
def postponed(job: ManagedJob, event: Postponed, now: float) -> Step[ManagedJob]:
    """As the strategy wants it."""
    later = replace(job, stage=S.BACKOFF, wake_at=now + event.seconds, reason=event.reason)
    return Step(later, (), f"{event.reason}; waiting {event.seconds:.0f} s")


@TABLE.on(S.PLACING, NotSeen, to={S.BACKOFF})
def not_looked_for(job: ManagedJob, event: NotSeen, now: float) -> Step[ManagedJob]:
    """As good as no place."""
    return _rest(replace(job, failures=job.failures + 1), now, event.reason)


@TABLE.on(S.BACKOFF, Due, to={S.PLACING})
def again(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """The pause is over."""
    return _attempt(job, now, "looking for a place again")


@TABLE.on(S.BACKOFF, Admitted, to={S.BACKOFF, S.PLACING})
def worker_free(job: ManagedJob, event: Admitted, now: float) -> Step[ManagedJob]:
    """A worker of its pool is free. For a job without one the news is old: it was told twice."""
    if job.pool_id is None:
        return Step(job)
    return _attempt(job, now, "a worker is free")


# --- what is seen ----------------------------------------------------------------------------------------------------


@TABLE.on(S.LAUNCHING, Seen, to={S.LAUNCHING, S.SUBMITTING, S.CLEARING, S.BACKOFF, S.ENDING, S.DONE})
def seen_launching(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Wait for the cluster to be up; one that is refused is looked for elsewhere."""
    job = _noted(job, event)
    if event.gone:
        return _refused(job, event, now)
    if event.phase is Phase.UP:
        return Step(replace(job, stage=S.SUBMITTING, failures=0, wake_at=None), (OpenJob(),), "its cluster is up")
    if event.phase in _LEAVING and event.ever_up:
        return _lost(job, event, now)
    if event.phase is Phase.DEGRADED:
        return _out_of_reach(job, event, now)
    return Step(job)


@TABLE.on((S.SUBMITTING, S.RUNNING), Seen, to={S.SUBMITTING, S.RUNNING, S.CLEARING, S.ENDING, S.DONE})
def seen_running(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """What the job reports counts first, then what became of the machines."""
    job = replace(_noted(job, event), stage=S.RUNNING)
    if event.job in _OVER:
        return _job_over(job, event, now)
    if event.gone or event.phase in _LEAVING or (event.missing and event.phase is Phase.DEGRADED):
        return _lost(job, event, now)
    if event.phase is not Phase.UP:
        return _out_of_reach(job, event, now)
    if event.job is None:
        # Its cluster left before it could be given the job, and is back.
        return Step(replace(job, stage=S.SUBMITTING, silent_since=None, wake_at=None), (OpenJob(),))
    if event.job is JobStatus.RUNNING and job.task.running_since is None:
        return _runs(job, event, now)
    job = replace(job, silent_since=None)
    return Step(replace(job, wake_at=_limit_at(job)))


@TABLE.on(S.RUNNING, Due, to={S.RUNNING, S.CANCELLING})
def time_passed(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """Look; or its time is up."""
    limit = _limit_at(job)
    if limit is not None and now >= limit:
        words = f"it ran for {recovery_config(job).get('max_run_time')}, which is its max_run_time"
        ending = replace(job, stage=S.CANCELLING, goal=Status.FAILED, reason=words, wake_at=now + GRACE_S)
        return Step(ending, (CancelJob(),), words)
    return Step(job, (Look(),))


def _job_over(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The job on the cluster has ended, well or not."""
    at = event.end_at or now
    if event.job is JobStatus.SUCCEEDED:
        done = _finish(_began(job, event), Status.SUCCEEDED, at, None)
        if job.at + 1 < len(job.tasks):
            return Step(replace(done, stage=S.CLEARING, wake_at=now + LOOK_AGAIN_S), (Close(),), "task succeeded")
        return _end(done, Status.SUCCEEDED, now, "succeeded")
    reason = event.reason or "it failed"
    if event.job is JobStatus.CANCELLED:
        return _end(_finish(job, Status.CANCELLED, at, reason), Status.CANCELLED, now, "its job was cancelled there")
    if event.job is JobStatus.FAILED_DRIVER or event.missing or event.gone:
        return _fell(_began(job, event), event, now)
    return _failed(_began(job, event), event, now, reason)


def _failed(job: ManagedJob, event: Seen, now: float, reason: str) -> Step[ManagedJob]:
    """The job's own code failed."""
    status = Status.FAILED_SETUP if event.job is JobStatus.FAILED_SETUP else Status.FAILED
    verdict = recovery.after_failure(recovery_config(job), event.exit_codes, job.task.restarts)
    if verdict.restart:
        counted = _with(job, restarts=job.task.restarts + verdict.counts, exit_codes=event.exit_codes)
        return _recover(counted, now, f"{reason}; {verdict.why}", lost=False)
    words = f"{reason} ({verdict.why})" if verdict.why else reason
    failed = _finish(_with(job, exit_codes=event.exit_codes), status, event.end_at or now, words)
    if keep := recovery_config(job).get("keep_on_failure"):
        kept = f"{words}; its cluster {job.cluster_name} is kept: sky down {job.cluster_name} removes it"
        seconds = float(keep) if isinstance(keep, int | float) and not isinstance(keep, bool) else None
        return replace(_over(replace(failed, kept=True), now, kept), orders=(Release(seconds),))
    return _end(failed, status, now, words)


def _fell(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The job ended with a machine, or could not be brought to one."""
    reason = event.reason or event.cluster_reason or "its job was lost"
    if event.start_at is None and event.phase is Phase.UP and not event.missing:
        job = replace(job, stumbles=job.stumbles + 1)
        if job.stumbles >= STUMBLES:
            words = f"its job did not begin to run in {job.stumbles} attempts: {reason}"
            return _end(_finish(job, Status.FAILED_CONTROLLER, now, words), Status.FAILED_CONTROLLER, now, words)
    return _lost(job, replace(event, cluster_reason=reason), now)


def _runs(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """It runs: what was lost before counts no more."""
    running = _with(_began(job, event), status=Status.RUNNING, reason=None)
    running = replace(running, silent_since=None, failures=0, stumbles=0, lost=(), reason=None)
    return Step(replace(running, wake_at=_limit_at(running)), None, f"running on {job.cluster_name}")


def _began(job: ManagedJob, event: Seen) -> ManagedJob:
    """When the attempt began to run, by the node's word."""
    task = job.task
    if event.start_at is None or task.running_since is not None:
        return job
    recovered = event.start_at if task.started_at is not None else None
    started = task.started_at if task.started_at is not None else event.start_at
    return _with(job, started_at=started, running_since=event.start_at, recovered_at=recovered)


def _out_of_reach(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Contact lost is not a job lost: the node's own record decides when it is back, the lease when it is not."""
    since = job.silent_since if job.silent_since is not None else now
    if event.missing or now >= since + job.lease_s:
        words = event.cluster_reason if event.missing else f"out of reach for {now - since:.0f} s"
        return _lost(job, replace(event, cluster_reason=words), now)
    told = f"its cluster is {event.phase}: {event.cluster_reason or 'no reason given'}"
    text = "" if job.silent_since is not None else told
    # The time is up a moment after the lease has run out, never a moment before.
    return Step(replace(job, silent_since=since, wake_at=since + job.lease_s + 0.01), None, text)


def _refused(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """No place had room, or it was lost before it was up."""
    reason = event.cluster_reason or "its cluster was not launched"
    if event.where is not None:
        job = replace(job, lost=(*job.lost, event.where)[-_MOST_LOST:])
    if event.unfit and job.task.started_at is None:
        return _over(_finish(job, Status.FAILED_NO_RESOURCE, now, reason), now, reason)
    return _rest(replace(job, failures=job.failures + 1), now, reason)


def _lost(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The machines are gone, or as good as gone."""
    where = event.where or job.task.where
    if where is not None:
        job = replace(job, lost=(*job.lost, where)[-_MOST_LOST:])
    reason = f"lost: {event.cluster_reason or event.reason or 'its machines are gone'}"
    if recovery.strategy_name(recovery_config(job)) == recovery.NONE:
        words = f"{reason}; it is not to be recovered"
        return _end(_finish(job, Status.FAILED, now, words), Status.FAILED, now, words)
    return _recover(job, now, reason, lost=True)


def _recover(job: ManagedJob, now: float, reason: str, *, lost: bool) -> Step[ManagedJob]:
    """End what is left of the cluster, then begin anew."""
    task = _stopped(job.task, now)
    begun = replace(task, status=Status.RECOVERING, recoveries=task.recoveries + 1, reason=reason)
    back = replace(
        job, stage=S.CLEARING, tasks=_placed(job, begun), reason=reason, silent_since=None, wake_at=now + LOOK_AGAIN_S
    )
    return Step(back, (Close(),), f"{reason}; recovering" if lost else reason)


# --- ending ----------------------------------------------------------------------------------------------------------


@TABLE.on(S.CLEARING, Seen, to={S.CLEARING, S.PLACING})
def cleared(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The next attempt begins when nothing of the last is left: it never runs twice at once."""
    if not event.gone:
        return _wait_for_the_end(job, event, now)
    if job.task.status is Status.SUCCEEDED:
        following = replace(job, at=job.at + 1, failures=0, stumbles=0, lost=(), reason=None)
        return _attempt(following, now, f"task {job.at + 2} of {len(job.tasks)}; looking for a place")
    return _attempt(job, now, "looking for a place")


@TABLE.on(S.CANCELLING, Seen, to={S.CANCELLING, S.ENDING})
def seen_cancelling(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """It may end in its own time, for a while."""
    job = _noted(job, event)
    if event.job is None or event.job in _OVER or event.gone or event.phase in _LEAVING:
        return _end(job, job.goal or Status.CANCELLED, now, "its processes have ended")
    return Step(job)


@TABLE.on(S.CANCELLING, Due, to={S.CANCELLING, S.ENDING})
def grace_over(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """No longer."""
    if job.wake_at is not None and now < job.wake_at:
        return Step(job, (CancelJob(),))
    return _end(job, job.goal or Status.CANCELLED, now, "its time to end by itself is over")


@TABLE.on(S.ENDING, Seen, to={S.ENDING, S.DONE})
def ended(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Done when nothing is left that costs money."""
    if not event.gone:
        return _wait_for_the_end(job, event, now)
    goal = job.goal or job.status
    if not job.task.status.is_terminal():
        job = _finish(job, goal, now, job.reason)
    left = "its cluster is gone" if job.pool_id is None else "its worker is given back"
    return _over(job, now, f"{goal.value}: {left}")


def _wait_for_the_end(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    return Step(replace(_noted(job, event), wake_at=now + LOOK_AGAIN_S))


@TABLE.on((S.WAITING, S.BACKOFF), CancelAsked, to={S.DONE})
def cancelled_waiting(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Nothing of it exists."""
    words, goal = recovery.called_off(event.user, event.failed)
    return _over(_finish(replace(job, cancel_asked=True), goal, now, words), now, words)


@TABLE.on((S.PLACING, *_BUSY, S.CLEARING), CancelAsked, to={S.ENDING, S.CANCELLING})
def cancel(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Whatever was under way is called off."""
    words, goal = recovery.called_off(event.user, event.failed)
    asked = _with(replace(job, cancel_asked=True, goal=goal, reason=words), status=Status.CANCELLING)
    if job.task.status is Status.SUCCEEDED:
        # Between two tasks: the one that is over stays what it is.
        asked = replace(asked, tasks=job.tasks, at=job.at + 1)
    if event.graceful and job.stage is S.RUNNING:
        wait = GRACE_S if event.timeout is None else event.timeout
        return Step(replace(asked, stage=S.CANCELLING, wake_at=now + wait), (CancelJob(),), f"{words}, gracefully")
    return _end(asked, goal, now, words)


@TABLE.on(S.CANCELLING, CancelAsked, to={S.CANCELLING, S.ENDING})
def cancel_at_once(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Asked again, and not gracefully: no longer."""
    if event.graceful:
        return Step(job)
    return _end(job, job.goal or Status.CANCELLED, now, "cancelled at once")


# --- looking again ---------------------------------------------------------------------------------------------------


@TABLE.on(_AGAIN, Changed, to=())
def look(job: ManagedJob, event: Changed, now: float) -> Step[ManagedJob]:
    """The stage's own order, once more."""
    return Step(job, (_AGAIN[job.stage],))


@TABLE.on((S.LAUNCHING, S.CLEARING, S.ENDING), Due, to=())
def look_unasked(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """The same, for time has passed."""
    return Step(job, (_AGAIN[job.stage],))


@TABLE.on(S.SUBMITTING, Due, to=())
def open_again(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """What failed in an unforeseen way."""
    return Step(job, (OpenJob(),))


@TABLE.on((*_BUSY, S.CLEARING, S.ENDING), NotSeen, to=())
def not_seen(job: ManagedJob, event: NotSeen, now: float) -> Step[ManagedJob]:
    """Say so, and look again."""
    text = "" if job.reason == event.reason else event.reason
    return Step(replace(job, reason=event.reason, wake_at=now + LOOK_AGAIN_S), None, text)


# --- parts -----------------------------------------------------------------------------------------------------------


def _with(job: ManagedJob, **changes: object) -> ManagedJob:
    """The job with its task of now changed."""
    return replace(job, tasks=_placed(job, replace(job.task, **changes)))  # type: ignore[arg-type]


def _placed(job: ManagedJob, task: ManagedTask) -> tuple[ManagedTask, ...]:
    return (*job.tasks[: job.at], task, *job.tasks[job.at + 1 :])


def _noted(job: ManagedJob, event: Seen) -> ManagedJob:
    """What was looked at: no look is needed before one of the rows moves on."""
    seen = replace(
        job, seen_phase=event.phase.value if event.phase else "", seen_version=event.version, job_number=event.number
    )
    return _with(seen, where=event.where) if event.where is not None else seen


def _attempt(job: ManagedJob, now: float, text: str) -> Step[ManagedJob]:
    """Begin another attempt: a cluster, and a job on it, of their own. One that never had a cluster goes on."""
    task = job.task
    fresh = job.cluster_id is not None or not task.attempts
    number = job.attempt + 1 if fresh else job.attempt
    begun = _with(
        job,
        status=Status.STARTING if task.status is Status.PENDING else task.status,
        submitted_at=task.submitted_at if task.submitted_at is not None else now,
        attempts=(*task.attempts, number) if fresh else task.attempts,
    )
    begun = replace(
        begun, stage=S.PLACING, attempt=number, cluster_id=None, cluster_name=None, job_number=None,
        job_key=f"managed:{job.id}:{number}", wake_at=None, silent_since=None, seen_phase="", seen_version=-1,
    )  # fmt: skip
    return Step(begun, (Launch(),), text)


def _rest(job: ManagedJob, now: float, reason: str) -> Step[ManagedJob]:
    wait = recovery.backoff(job.failures)
    later = replace(_with(job, reason=reason), stage=S.BACKOFF, wake_at=now + wait, reason=reason)
    return Step(later, (), f"{reason}; trying again in {wait:.0f} s")


def _stopped(task: ManagedTask, at: float) -> ManagedTask:
    if task.running_since is None:
        return task
    return replace(task, ran=task.ran + max(0.0, at - task.running_since), running_since=None)


def _finish(job: ManagedJob, status: Status, at: float, reason: str | None) -> ManagedJob:
    """Its task has ended; those after it will not begin, unless it succeeded."""
    task = replace(_stopped(job.task, at), status=status, ended_at=at, reason=reason)
    tasks = _placed(job, task)
    if status is not Status.SUCCEEDED:
        left = tuple(
            each if each.status.is_terminal() else replace(each, status=Status.CANCELLED, ended_at=at)
            for each in tasks[job.at + 1 :]
        )
        tasks = (*tasks[: job.at + 1], *left)
    return replace(job, tasks=tasks, reason=reason)


def _end(job: ManagedJob, goal: Status, now: float, text: str) -> Step[ManagedJob]:
    """The cluster goes; then it is over."""
    return Step(replace(job, stage=S.ENDING, goal=goal, wake_at=now + LOOK_AGAIN_S), (Close(),), text)


def _over(job: ManagedJob, now: float, text: str) -> Step[ManagedJob]:
    return Step(replace(job, stage=S.DONE, ended_at=now, wake_at=None), (), text)


def _limit_at(job: ManagedJob) -> float | None:
    """When the task has run for as long as it may."""
    most = recovery_config(job).get("max_run_time")
    if not isinstance(most, int | float) or job.task.running_since is None:
        return None
    return job.task.running_since + max(0.0, most - job.task.ran)


# --- what means nothing ----------------------------------------------------------------------------------------------


def _ignore_rest(event: type, because: str) -> None:
    ruled = {stage for stage, name in _declared() if name == event.__name__}
    TABLE.ignore([stage for stage in S if stage.value not in ruled], event, because)


def _declared() -> Iterable[tuple[str, str]]:
    return {(before, event) for before, event, _ in TABLE.arrows()}


_ignore_rest(Due, "an order under way decides, or its turn has not come, or it is over")
_ignore_rest(Changed, "an order under way decides, or there is no cluster")
_ignore_rest(Admitted, "it has begun already, or is over")
_ignore_rest(CancelAsked, "it is ending or over")
for _late in (Launched, NotPlaced, Postponed, NotSeen, Seen):
    _ignore_rest(_late, "outcome of an order that was called off")
