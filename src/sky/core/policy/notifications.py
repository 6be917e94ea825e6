"""What is told to whom, and when it is tried again: plain functions, called by `engine.notifications`."""

from collections.abc import Mapping

from sky.core.model.events import Entry
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.notifications import Parcel, Sink
from sky.core.model.statuses import ManagedJobStatus

#: What is told where a sink does not say: that it runs again after a loss, and how it ended.
USUAL = frozenset(
    [each.value for each in ManagedJobStatus if each.is_terminal()] + [ManagedJobStatus.RECOVERING.value, "budget"]
)
#: Seconds before something is sent again: first, and at most; and after how many times it is given up (about a day).
BACKOFF_S = (5.0, 3600.0)
TRIES = 34
#: Characters of a reason that are told.
_LONGEST = 2000


def wants(sink: Sink, word: str) -> bool:
    """Whether a sink is told of this status, or of a budget."""
    return word in (sink.on or USUAL)


def news_of(job: ManagedJob, entry: Entry) -> Mapping[str, object]:
    """A change of a managed job as it is told. Nothing of what its task is given is in it."""
    return {
        "event": "managed_job",
        "job_id": job.known_as,
        "job_name": job.name,
        "user": job.user,
        "workspace": job.workspace,
        "before": entry.before,
        "status": entry.after,
        "reason": entry.text[:_LONGEST],
        "time": entry.time,
        "recoveries": sum(each.recoveries for each in job.tasks),
        "infra": job.task.where.infra if job.task.where is not None else None,
    }


def after_failure(parcel: Parcel, now: float, said: str) -> tuple[float | None, int, str]:
    """When to try again (None: never), how often it was tried, and what is remembered of it."""
    tries = parcel.tries + 1
    if tries >= TRIES:
        return None, tries, f"given up after {tries} tries: {said}"
    first, most = BACKOFF_S
    return now + min(first * 2 ** min(tries - 1, 20), most), tries, said
