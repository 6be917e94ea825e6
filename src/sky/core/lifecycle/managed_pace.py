"""What a managed job carries from one attempt to the next: its policy's pace, and what it has saved.

Parts of the table in `managed_jobs` that give no orders.
"""

from collections.abc import Mapping

from sky.core.lifecycle.managed_events import Seen
from sky.core.model.jobs import Seen as Noted
from sky.core.model.managed_jobs import ManagedJob, ManagedTask
from sky.core.policy import pacing, recovery
from sky.core.policy.budgets import recovery_of
from sky.kit.frozen import replace

#: Seconds before a job with a deadline looks elsewhere after a zone refused it spot.
REPLACE_S = 1.0


def task_config(job: ManagedJob) -> Mapping[str, object]:
    """The configuration of the task whose turn it is."""
    config = job.task_configs.get(str(job.at))
    return config if isinstance(config, Mapping) else {}


def recovery_config(job: ManagedJob) -> Mapping[str, object]:
    """What the task whose turn it is says under `job_recovery`."""
    return recovery_of(task_config(job))


def terms_of(job: ManagedJob) -> pacing.Terms | None:
    """What the task whose turn it is declares of its deadline; None where its strategy is another."""
    config = recovery_config(job)
    if recovery.strategy_name(config) != pacing.STRATEGY:
        return None
    began = job.created_at if job.at == 0 or job.task.submitted_at is None else job.task.submitted_at
    return pacing.terms(config, task_config(job), began)


def failed_there(job: ManagedJob, now: float) -> tuple[ManagedJob, float | None]:
    """The job with what its policy learns of a refusal or a loss; in how many seconds it is asked, if that is known.

    Its policy has other places to choose from, and knows itself when to wait.
    """
    terms = terms_of(job)
    if terms is None:
        return job, None
    pace = pacing.load(job.pace, job.at)
    return replace(job, pace=pacing.dump(pacing.failed(pace, terms, now))), REPLACE_S if pace.spot else None


def noted_pace(job: ManagedJob, event: Seen, now: float) -> ManagedJob:
    """The job with what is done and saved of its work, where it has a deadline."""
    terms = terms_of(job)
    if terms is None:
        return job
    since = job.task.running_since if job.task.running_since is not None else event.start_at
    seen = event.noted
    facts = pacing.Facts(since, seen.progress, seen.progress_at, seen.checkpoint.at if seen.checkpoint else None)
    # What nobody hears of is not known to make progress.
    heard = job.silent_since if job.silent_since is not None else now
    upto = event.end_at if event.end_at is not None else heard
    return replace(job, pace=pacing.dump(pacing.noted(pacing.load(job.pace, job.at), terms, facts, upto)))


def kept_of(task: ManagedTask, seen: Noted) -> dict[str, object]:
    """What is known of a task's progress and newest complete checkpoint, perhaps that of an earlier attempt."""
    kept: dict[str, object] = {}
    if seen.progress is not None:
        kept["progress"] = seen.progress
    if seen.checkpoint is not None and (task.checkpoint_at is None or seen.checkpoint.at >= task.checkpoint_at):
        kept |= {"checkpoint": seen.checkpoint.name, "checkpoint_at": seen.checkpoint.at}
    return kept


def resumes(job: ManagedJob, now: float) -> str:
    """From what a job that is begun anew goes on, in words."""
    task = job.task
    if task.started_at is None:
        return ""
    if task.checkpoint is not None and task.checkpoint_at is not None:
        age = recovery.span(now - task.checkpoint_at)
        return f"its newest complete checkpoint is {task.checkpoint}, {age} old"
    if task_config(job).get("checkpoint"):
        return "it has no complete checkpoint, so it begins from the start"
    return "it declares no checkpoint, so it begins from what it has kept itself"
