"""Steps that several rules of managed jobs share: another attempt, a pause, the end. For `managed_jobs` alone."""

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.managed_events import Close, Launch, Seen
from sky.core.lifecycle.managed_pace import kept_of, noted_pace, recovery_config
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy import recovery
from sky.kit.frozen import replace

#: Seconds before something that could not be looked at, or did not come about, is looked at again.
LOOK_AGAIN_S = 10.0


def with_task(job: ManagedJob, **changes: object) -> ManagedJob:
    """The job with its task of now changed."""
    return replace(job, tasks=placed(job, replace(job.task, **changes)))  # type: ignore[arg-type]


def placed(job: ManagedJob, task: ManagedTask) -> tuple[ManagedTask, ...]:
    """Its tasks, with this one in the place of that of now."""
    return (*job.tasks[: job.at], task, *job.tasks[job.at + 1 :])


def noted(job: ManagedJob, event: Seen, now: float) -> ManagedJob:
    """What was looked at: no look is needed before one of the rows moves on."""
    seen = replace(
        job, seen_phase=event.phase.value if event.phase else "", seen_version=event.version, job_number=event.number
    )
    seen = noted_pace(with_task(seen, **kept_of(job.task, event.noted)), event, now)
    return with_task(seen, where=event.where) if event.where is not None else seen


def attempt(job: ManagedJob, now: float, text: str) -> Step[ManagedJob]:
    """Begin another attempt: a cluster, and a job on it, of their own. One that never had a cluster goes on."""
    task = job.task
    fresh = job.cluster_id is not None or not task.attempts
    number = job.attempt + 1 if fresh else job.attempt
    begun = with_task(
        job,
        status=Status.STARTING if task.status is Status.PENDING else task.status,
        submitted_at=task.submitted_at if task.submitted_at is not None else now,
        attempts=(*task.attempts, number) if fresh else task.attempts,
    )
    begun = replace(
        begun, stage=Stage.PLACING, attempt=number, cluster_id=None, cluster_name=None, job_number=None,
        job_key=f"managed:{job.id}:{number}", wake_at=None, silent_since=None, seen_phase="", seen_version=-1,
        replacing=(), repair=0, repairs=0, fresh=None,
        look_at=None, leave_at=None,
    )  # fmt: skip
    return Step(begun, (Launch(),), text)


def rest(job: ManagedJob, now: float, reason: str, soon: float | None = None) -> Step[ManagedJob]:
    """Another try after a pause."""
    wait = recovery.backoff(job.failures) if soon is None else soon
    later = replace(with_task(job, reason=reason), stage=Stage.BACKOFF, wake_at=now + wait, reason=reason)
    return Step(later, (), f"{reason}; trying again in {wait:.0f} s")


def stopped(task: ManagedTask, at: float) -> ManagedTask:
    """The task, with what it ran until now counted."""
    if task.running_since is None:
        return task
    return replace(task, ran=task.ran + max(0.0, at - task.running_since), running_since=None)


def finished(job: ManagedJob, status: Status, at: float, reason: str | None) -> ManagedJob:
    """Its task has ended; those after it will not begin, unless it succeeded."""
    task = replace(stopped(job.task, at), status=status, ended_at=at, reason=reason)
    tasks = placed(job, task)
    if status is not Status.SUCCEEDED:
        left = tuple(
            each if each.status.is_terminal() else replace(each, status=Status.CANCELLED, ended_at=at)
            for each in tasks[job.at + 1 :]
        )
        tasks = (*tasks[: job.at + 1], *left)
    return replace(job, tasks=tasks, reason=reason)


def ending(job: ManagedJob, goal: Status, now: float, text: str) -> Step[ManagedJob]:
    """The cluster goes; then it is over."""
    return Step(replace(job, stage=Stage.ENDING, goal=goal, wake_at=now + LOOK_AGAIN_S), (Close(),), text)


def over(job: ManagedJob, now: float, text: str) -> Step[ManagedJob]:
    """Nothing of it is left."""
    return Step(replace(job, stage=Stage.DONE, ended_at=now, wake_at=None), (), text)


def limit_at(job: ManagedJob) -> float | None:
    """When the task has run for as long as it may."""
    most = recovery_config(job).get("max_run_time")
    if not isinstance(most, int | float) or job.task.running_since is None:
        return None
    return job.task.running_since + max(0.0, most - job.task.ran)


def wake_at(job: ManagedJob) -> float | None:
    """When something is to be done about one that runs, as far as that is known."""
    times = [each for each in (limit_at(job), job.look_at, job.leave_at) if each is not None]
    return min(times, default=None)
