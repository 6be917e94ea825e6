"""The life of a managed job as one table: what was seen of its cluster and its job there, and what follows.

Level-triggered: a look reads both rows and comes back as one `Seen`, from which the rules decide. Every order can be
repeated, and a change of those rows, a letter or the passing of time has the stage's own order given again: so
whoever takes a job over after a crash goes on from what is there. Orders are carried out by `engine.managed_jobs`.
"""

import math
from collections.abc import Iterable, Mapping

from sky.core.lifecycle import job_groups
from sky.core.lifecycle import managed_repair as repair
from sky.core.lifecycle import managed_steps as steps
from sky.core.lifecycle.machine import Step, Table
from sky.core.lifecycle.managed_events import (
    EVENTS,
    Admitted,
    CancelAsked,
    CancelJob,
    Changed,
    Close,
    Due,
    Launched,
    Look,
    NotPlaced,
    NotSeen,
    OpenJob,
    Postponed,
    Release,
    Repair,
    Seen,
    Warn,
    Weigh,
    Weighed,
)
from sky.core.lifecycle.managed_pace import (
    failed_there,
    recovery_config,
    resumes,
    task_config,
    terms_of,
)
from sky.core.model.clusters import Phase
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.model.statuses import JobStatus
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy import pacing, recovery
from sky.core.policy.repair import Verdict
from sky.kit.frozen import replace

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
    S.REPAIRING: Repair(),
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
    special = job_groups.opening(job, f"submitted{tasks}")
    return special or Step(replace(job, stage=S.WAITING), (), f"submitted{tasks}")


def due_at(job: ManagedJob) -> float | None:
    """When to look again without being woken."""
    return None if job.stage in (S.WAITING, S.DONE) else job.wake_at


# --- beginning -------------------------------------------------------------------------------------------------------


@TABLE.on(S.WAITING, Admitted, to={S.PLACING})
def admitted(job: ManagedJob, event: Admitted, now: float) -> Step[ManagedJob]:
    """Its turn has come."""
    return steps.attempt(job, now, "its turn has come; looking for a place")


@TABLE.on(S.PLACING, Launched, to={S.LAUNCHING})
def launched(job: ManagedJob, event: Launched, now: float) -> Step[ManagedJob]:
    """The cluster makes its own way from here."""
    there = replace(job, stage=S.LAUNCHING, cluster_id=event.cluster_id, cluster_name=event.cluster_name, wake_at=None)
    if event.look_at is not None:
        there = replace(there, pace=event.pace, look_at=event.look_at, wake_at=event.look_at)
    return Step(there, (Look(),), event.text)


@TABLE.on(S.PLACING, NotPlaced, to={S.BACKOFF, S.DONE})
def not_placed(job: ManagedJob, event: NotPlaced, now: float) -> Step[ManagedJob]:
    """One that never ran, and never can, ends here, or that asks for more than there is since it ran out of memory.

    Another that did run was fit before, and is tried again.
    """
    too_large = job.task.grown > 0 and event.hopeless
    if too_large or (job.task.started_at is None and (event.wrong or event.hopeless)):
        status = Status.FAILED_PRECHECKS if event.wrong else Status.FAILED_NO_RESOURCE
        return steps.over(steps.finished(job, status, now, event.reason), now, event.reason)
    return steps.rest(replace(job, failures=job.failures + 1), now, event.reason)


@TABLE.on(S.PLACING, Postponed, to={S.BACKOFF})
def postponed(job: ManagedJob, event: Postponed, now: float) -> Step[ManagedJob]:
    """As the strategy wants it."""
    later = replace(job, stage=S.BACKOFF, wake_at=now + event.seconds, reason=event.reason)
    later = replace(later, pace=event.pace or job.pace)
    return Step(later, (), f"{event.reason}; waiting {event.seconds:.0f} s")


@TABLE.on(S.PLACING, NotSeen, to={S.BACKOFF})
def not_looked_for(job: ManagedJob, event: NotSeen, now: float) -> Step[ManagedJob]:
    """As good as no place."""
    return steps.rest(replace(job, failures=job.failures + 1), now, event.reason)


@TABLE.on(S.BACKOFF, Due, to={S.PLACING})
def again(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """The pause is over."""
    return steps.attempt(job, now, "looking for a place again")


@TABLE.on(S.BACKOFF, Admitted, to={S.BACKOFF, S.PLACING})
def worker_free(job: ManagedJob, event: Admitted, now: float) -> Step[ManagedJob]:
    """A worker of its pool is free. For a job without one the news is old: it was told twice."""
    if job.pool_id is None:
        return Step(job)
    return steps.attempt(job, now, "a worker is free")


# --- what is seen ----------------------------------------------------------------------------------------------------


@TABLE.on(
    S.LAUNCHING, Seen,
    to={S.LAUNCHING, S.MEETING, S.SUBMITTING, S.REPAIRING, S.CLEARING, S.BACKOFF, S.ENDING, S.DONE},
)  # fmt: skip
def seen_launching(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Wait for the cluster to be up; one that is refused is looked for elsewhere."""
    job = steps.noted(job, event, now)
    if event.gone:
        return _refused(job, event, now)
    if event.phase is Phase.UP and job_groups.meets(job):
        return job_groups.meet(job, now)
    if event.phase is Phase.UP:
        return Step(replace(job, stage=S.SUBMITTING, failures=0, wake_at=None), (OpenJob(),), "its cluster is up")
    if event.phase in _LEAVING and event.ever_up:
        return _lost(job, event, now)
    if event.phase is Phase.DEGRADED:
        return _out_of_reach(job, event, now)
    return Step(job)


@TABLE.on((S.SUBMITTING, S.RUNNING), Seen, to={S.SUBMITTING, S.RUNNING, S.REPAIRING, S.CLEARING, S.ENDING, S.DONE})
def seen_running(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """What the job reports counts first, then what became of the machines."""
    job = replace(steps.noted(job, event, now), stage=S.RUNNING)
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
    return Step(replace(job, wake_at=steps.wake_at(job)))


@TABLE.on(S.RUNNING, Due, to={S.RUNNING, S.CANCELLING, S.CLEARING})
def time_passed(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """Look, or ask its policy; or its time is up, here or altogether."""
    if job.leave_at is not None and now >= job.leave_at:
        return _leave(job, now, job.reason or "it leaves")
    limit = steps.limit_at(job)
    if limit is not None and now >= limit:
        words = f"it ran for {recovery_config(job).get('max_run_time')}, which is its max_run_time"
        ending = replace(job, stage=S.CANCELLING, goal=Status.FAILED, reason=words, wake_at=now + GRACE_S)
        return Step(ending, (CancelJob(),), words)
    if job.look_at is not None and now >= job.look_at:
        return _weigh(job, now)
    return Step(job, (Look(),))


def _weigh(job: ManagedJob, now: float) -> Step[ManagedJob]:
    # Should the answer be lost, it is asked again.
    asked = replace(job, look_at=now + steps.LOOK_AGAIN_S)
    return Step(replace(asked, wake_at=asked.look_at), (Weigh(),))


@TABLE.on((S.LAUNCHING, S.RUNNING), Weighed, to={S.LAUNCHING, S.RUNNING, S.CLEARING})
def weighed(job: ManagedJob, event: Weighed, now: float) -> Step[ManagedJob]:
    """It stays; or it leaves, once its processes have had time to save what they have."""
    before = job.pace.get("reason")
    job = replace(job, pace=event.pace, look_at=event.look_at)
    if event.leave:
        if job.stage is S.RUNNING and event.notice > 0:
            leaving = replace(job, leave_at=now + event.notice, wake_at=now + event.notice, reason=event.leave)
            return Step(leaving, (Warn(event.notice, event.leave),), event.text)
        return _leave(job, now, event.text)
    text = event.text if event.pace.get("reason") != before else ""
    # Whoever is out of reach is looked at again, too: no other order may be left that does.
    silent = (Look(),) if job.silent_since is not None else ()
    return Step(replace(job, wake_at=steps.wake_at(job)), silent, text)


def _leave(job: ManagedJob, now: float, text: str) -> Step[ManagedJob]:
    return _recover(replace(job, pace=pacing.dump(pacing.left(pacing.load(job.pace, job.at)))), now, text, lost=False)


def _job_over(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The job on the cluster has ended, well or not."""
    at = event.end_at or now
    if event.job is JobStatus.SUCCEEDED:
        done = steps.finished(_began(job, event), Status.SUCCEEDED, at, None)
        if job.at + 1 < len(job.tasks):
            return Step(replace(done, stage=S.CLEARING, wake_at=now + steps.LOOK_AGAIN_S), (Close(),), "task succeeded")
        return steps.ending(done, Status.SUCCEEDED, now, "succeeded")
    reason = event.reason or "it failed"
    if event.job is JobStatus.CANCELLED:
        return steps.ending(
            steps.finished(job, Status.CANCELLED, at, reason), Status.CANCELLED, now, "its job was cancelled there"
        )
    if event.job is JobStatus.FAILED_DRIVER or event.missing or event.gone:
        return _fell(_began(job, event), event, now)
    return _failed(_began(job, event), event, now, reason)


def _failed(job: ManagedJob, event: Seen, now: float, reason: str) -> Step[ManagedJob]:
    """The job's own code failed."""
    status = Status.FAILED_SETUP if event.job is JobStatus.FAILED_SETUP else Status.FAILED
    why_not = ""
    # A worker of a pool is as large as it is.
    if event.cause is not None and job.pool_id is None:
        larger, told = recovery.grown(task_config(job), event.cause, event.memory_gb, job.task.grown)
        if larger is not None:
            asks = replace(job, task_configs={**job.task_configs, str(job.at): larger})
            counted = steps.with_task(asks, grown=job.task.grown + 1, exit_codes=event.exit_codes)
            return _recover(counted, now, f"{reason}; {told} on the next try", lost=False)
        why_not = f" ({told})" if told else ""
    verdict = recovery.after_failure(recovery_config(job), event.exit_codes, job.task.restarts)
    if verdict.restart:
        counted = steps.with_task(job, restarts=job.task.restarts + verdict.counts, exit_codes=event.exit_codes)
        return _recover(counted, now, f"{reason}; {verdict.why}", lost=False)
    words = f"{reason}{why_not}" + (f" ({verdict.why})" if verdict.why else "")
    failed = steps.finished(steps.with_task(job, exit_codes=event.exit_codes), status, event.end_at or now, words)
    if keep := recovery_config(job).get("keep_on_failure"):
        kept = f"{words}; its cluster {job.cluster_name} is kept: sky down {job.cluster_name} removes it"
        seconds = float(keep) if isinstance(keep, int | float) and not isinstance(keep, bool) else None
        return replace(steps.over(replace(failed, kept=True), now, kept), orders=(Release(seconds),))
    return steps.ending(failed, status, now, words)


def _fell(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The job ended with a machine, or could not be brought to one."""
    reason = event.reason or event.cluster_reason or "its job was lost"
    if event.start_at is None and event.phase is Phase.UP and not event.missing:
        job = replace(job, stumbles=job.stumbles + 1)
        if job.stumbles >= STUMBLES:
            words = f"its job did not begin to run in {job.stumbles} attempts: {reason}"
            return steps.ending(
                steps.finished(job, Status.FAILED_CONTROLLER, now, words), Status.FAILED_CONTROLLER, now, words
            )
    return _lost(job, replace(event, cluster_reason=reason), now)


def _runs(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """It runs: what was lost before counts no more."""
    running = steps.with_task(_began(job, event), status=Status.RUNNING, reason=None)
    running = replace(running, silent_since=None, failures=0, stumbles=0, lost=(), reason=None, repairs=0, fresh=())
    if terms_of(job) is not None:
        running = replace(running, pace=pacing.dump(pacing.works(pacing.load(job.pace, job.at))))
    return Step(replace(running, wake_at=steps.wake_at(running)), None, f"running on {job.cluster_name}")


def _began(job: ManagedJob, event: Seen) -> ManagedJob:
    """When the attempt began to run, by the node's word."""
    task = job.task
    if event.start_at is None or task.running_since is not None:
        return job
    recovered = event.start_at if task.started_at is not None else None
    started = task.started_at if task.started_at is not None else event.start_at
    return steps.with_task(job, started_at=started, running_since=event.start_at, recovered_at=recovered)


def _out_of_reach(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Contact lost is not a job lost: the node's own record decides when it is back, the lease when it is not."""
    since = job.silent_since if job.silent_since is not None else now
    if event.missing or now >= since + job.lease_s:
        words = event.cluster_reason if event.missing else f"out of reach for {now - since:.0f} s"
        return _lost(job, replace(event, cluster_reason=words), now)
    told = f"its cluster is {event.phase}: {event.cluster_reason or 'no reason given'}"
    text = "" if job.silent_since is not None else told
    # The time is up a moment after the lease has run out, never a moment before.
    wake_at = min((each for each in (job.look_at, job.leave_at) if each is not None), default=math.inf)
    return Step(replace(job, silent_since=since, wake_at=min(wake_at, since + job.lease_s + 0.01)), None, text)


def _refused(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """No place had room, or it was lost before it was up."""
    reason = event.cluster_reason or "its cluster was not launched"
    if event.where is not None:
        job = replace(job, lost=(*job.lost, event.where)[-_MOST_LOST:])
    job, soon = failed_there(job, now)
    if event.unfit and job.task.started_at is None:
        return steps.over(steps.finished(job, Status.FAILED_NO_RESOURCE, now, reason), now, reason)
    return steps.rest(replace(job, failures=job.failures + 1), now, reason, soon)


def _lost(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The machines are gone, or as good as gone."""
    job, _ = failed_there(job, now)
    reason = f"lost: {event.cluster_reason or event.reason or 'its machines are gone'}"
    if recovery.strategy_name(recovery_config(job)) == recovery.NONE:
        words = f"{reason}; it is not to be recovered"
        return steps.ending(steps.finished(job, Status.FAILED, now, words), Status.FAILED, now, words)
    # Where a job with a deadline runs, and on what, is its policy's to say.
    verdict = repair.verdict(job, event) if terms_of(job) is None else Verdict(False)
    if verdict.repair:
        return _repair(job, event, now, reason)
    reason = f"{reason}; {verdict.why}" if verdict.why else reason
    return _recover(_left(job, event), now, reason, lost=True)


def _left(job: ManagedJob, event: Seen) -> ManagedJob:
    """It was lost where it was, which a strategy may want to leave."""
    where = event.where or job.task.where
    return job if where is None else replace(job, lost=(*job.lost, where)[-_MOST_LOST:])


def _repair(job: ManagedJob, event: Seen, now: float, reason: str) -> Step[ManagedJob]:
    """Keep what is left of the gang, and replace what is gone."""
    task = replace(
        steps.stopped(job.task, now), status=Status.RECOVERING, recoveries=job.task.recoveries + 1, reason=reason
    )
    begun = repair.begun(
        replace(job, tasks=steps.placed(job, task), reason=reason, wake_at=now + steps.LOOK_AGAIN_S), event
    )
    begins = resumes(job, now)
    return Step(begun, (Repair(),), f"{reason}; {repair.in_words(begun, event)}{f'; {begins}' if begins else ''}")


@TABLE.on(S.REPAIRING, Seen, to={S.REPAIRING, S.MEETING, S.SUBMITTING, S.CLEARING})
def seen_repairing(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Once its cluster is whole the job begins anew on all of it; what cannot be repaired is launched anew."""
    job = steps.noted(job, event, now)
    if event.phase is Phase.UP and event.repairs >= job.repair:
        whole = repair.whole(steps.with_task(job, attempts=(*job.task.attempts, job.attempt + 1)))
        words = "its cluster is whole again; beginning anew on all of its nodes"
        if job_groups.meets(whole):
            # The new nodes have other addresses, and have not been told those of the others.
            return replace(job_groups.meet(whole, now), text=words)
        return Step(replace(whole, stage=S.SUBMITTING, wake_at=None), (OpenJob(),), words)
    if not event.gone and event.phase not in _LEAVING and repair.under_way(job, event):
        return Step(replace(job, wake_at=now + steps.LOOK_AGAIN_S))
    reason = event.cluster_reason or "its cluster was lost"
    lost = replace(
        steps.with_task(_left(job, event), reason=reason),
        stage=S.CLEARING,
        reason=reason,
        wake_at=now + steps.LOOK_AGAIN_S,
    )
    return Step(lost, (Close(),), f"{reason}; all of it is launched anew")


def _recover(job: ManagedJob, now: float, reason: str, *, lost: bool) -> Step[ManagedJob]:
    """End what is left of the cluster, then begin anew."""
    task = steps.stopped(job.task, now)
    if begins := resumes(job, now):
        reason = f"{reason}; {begins}"
    begun = replace(task, status=Status.RECOVERING, recoveries=task.recoveries + 1, reason=reason)
    back = replace(
        job, stage=S.CLEARING, tasks=steps.placed(job, begun), reason=reason, silent_since=None,
        wake_at=now + steps.LOOK_AGAIN_S, look_at=None, leave_at=None,
    )  # fmt: skip
    return Step(back, (Close(),), f"{reason}; recovering" if lost else reason)


# --- ending ----------------------------------------------------------------------------------------------------------


@TABLE.on(S.CLEARING, Seen, to={S.CLEARING, S.PLACING})
def cleared(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """The next attempt begins when nothing of the last is left: it never runs twice at once."""
    if not event.gone:
        return _wait_for_the_end(job, event, now)
    if job.task.status is Status.SUCCEEDED:
        following = replace(job, at=job.at + 1, failures=0, stumbles=0, lost=(), reason=None)
        return steps.attempt(following, now, f"task {job.at + 2} of {len(job.tasks)}; looking for a place")
    return steps.attempt(job, now, "looking for a place")


@TABLE.on(S.CANCELLING, Seen, to={S.CANCELLING, S.ENDING})
def seen_cancelling(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """It may end in its own time, for a while."""
    job = steps.noted(job, event, now)
    if event.job is None or event.job in _OVER or event.gone or event.phase in _LEAVING:
        return steps.ending(job, job.goal or Status.CANCELLED, now, "its processes have ended")
    return Step(job)


@TABLE.on(S.CANCELLING, Due, to={S.CANCELLING, S.ENDING})
def grace_over(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """No longer."""
    if job.wake_at is not None and now < job.wake_at:
        return Step(job, (CancelJob(),))
    return steps.ending(job, job.goal or Status.CANCELLED, now, "its time to end by itself is over")


@TABLE.on(S.ENDING, Seen, to={S.ENDING, S.DONE})
def ended(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    """Done when nothing is left that costs money."""
    if not event.gone:
        return _wait_for_the_end(job, event, now)
    goal = job.goal or job.status
    if not job.task.status.is_terminal():
        job = steps.finished(job, goal, now, job.reason)
    left = "its cluster is gone" if job.pool_id is None else "its worker is given back"
    return steps.over(job, now, f"{goal.value}: {left}")


def _wait_for_the_end(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
    return Step(replace(steps.noted(job, event, now), wake_at=now + steps.LOOK_AGAIN_S))


@TABLE.on((S.WAITING, S.BACKOFF), CancelAsked, to={S.DONE})
def cancelled_waiting(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Nothing of it exists."""
    words, goal = recovery.called_off(event.user, event.failed)
    return steps.over(steps.finished(replace(job, cancel_asked=True), goal, now, words), now, words)


@TABLE.on((S.PLACING, *_BUSY, S.REPAIRING, S.CLEARING), CancelAsked, to={S.ENDING, S.CANCELLING})
def cancel(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Whatever was under way is called off."""
    words, goal = recovery.called_off(event.user, event.failed)
    asked = steps.with_task(replace(job, cancel_asked=True, goal=goal, reason=words), status=Status.CANCELLING)
    if job.task.status is Status.SUCCEEDED:
        # Between two tasks: the one that is over stays what it is.
        asked = replace(asked, tasks=job.tasks, at=job.at + 1)
    if event.graceful and job.stage is S.RUNNING:
        wait = GRACE_S if event.timeout is None else event.timeout
        return Step(replace(asked, stage=S.CANCELLING, wake_at=now + wait), (CancelJob(),), f"{words}, gracefully")
    return steps.ending(asked, goal, now, words)


@TABLE.on(S.CANCELLING, CancelAsked, to={S.CANCELLING, S.ENDING})
def cancel_at_once(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Asked again, and not gracefully: no longer."""
    if event.graceful:
        return Step(job)
    return steps.ending(job, job.goal or Status.CANCELLED, now, "cancelled at once")


# --- looking again ---------------------------------------------------------------------------------------------------


@TABLE.on(_AGAIN, Changed, to=())
def look(job: ManagedJob, event: Changed, now: float) -> Step[ManagedJob]:
    """The stage's own order, once more."""
    return Step(job, (_AGAIN[job.stage],))


@TABLE.on((S.LAUNCHING, S.REPAIRING, S.CLEARING, S.ENDING), Due, to=())
def look_unasked(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """The same, for time has passed."""
    if job.stage is S.LAUNCHING and job.look_at is not None and now >= job.look_at:
        return _weigh(job, now)
    return Step(job, (_AGAIN[job.stage],))


@TABLE.on(S.SUBMITTING, Due, to=())
def open_again(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """What failed in an unforeseen way."""
    return Step(job, (OpenJob(),))


@TABLE.on((*_BUSY, S.REPAIRING, S.CLEARING, S.ENDING), NotSeen, to=())
def not_seen(job: ManagedJob, event: NotSeen, now: float) -> Step[ManagedJob]:
    """Say so, and look again."""
    text = "" if job.reason == event.reason else event.reason
    return Step(replace(job, reason=event.reason, wake_at=now + steps.LOOK_AGAIN_S), None, text)


# --- what means nothing ----------------------------------------------------------------------------------------------


def _ignore_rest(event: type, because: str) -> None:
    ruled = {stage for stage, name in _declared() if name == event.__name__}
    TABLE.ignore([stage for stage in S if stage.value not in ruled], event, because)


def _declared() -> Iterable[tuple[str, str]]:
    return {(before, event) for before, event, _ in TABLE.arrows()}


job_groups.register(TABLE, seen_launching, cancel)
_ignore_rest(Due, "an order under way decides, or its turn has not come, or it is over")
_ignore_rest(Changed, "an order under way decides, or there is no cluster")
_ignore_rest(Admitted, "it has begun already, or is over")
_ignore_rest(CancelAsked, "it is ending or over")
for _late in (Launched, NotPlaced, Postponed, Weighed, NotSeen, Seen):
    _ignore_rest(_late, "outcome of an order that was called off")
