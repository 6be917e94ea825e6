"""How managed jobs look in a table. Free of click, as `status_view` is, which shows those that have not ended."""

from collections.abc import Sequence

from sky.cli import tables, times
from sky.cli.records import Record, number, text

_COLUMNS = (
    "ID", "TASK", "WORKSPACE", "NAME", "USER", "REQUESTED", "SUBMITTED", "TOT. DURATION", "JOB DURATION",
    "#RECOVERIES", "STATUS", "POOL",
)  # fmt: skip
_MORE_COLUMNS = ("WORKER_CLUSTER", "WORKER_JOB_ID", "STARTED", "INFRA", "RESOURCES", "SCHED. STATE", "DETAILS")


def table(records: Sequence[Record], *, verbose: bool = False, all_users: bool = False) -> str:
    """Return the queue: a row for each job, and for each task of a job of several."""
    spaces = len({text(each, "workspace") for each in records}) > 1
    pools = any(each.get("pool") for each in records)
    left_out = {
        *(() if spaces else ("WORKSPACE",)), *(() if all_users else ("USER",)), *(() if pools else ("POOL",))
    }  # fmt: skip
    columns = (*_COLUMNS, *(_MORE_COLUMNS if verbose else ()))
    shown = [at for at, name in enumerate(columns) if name not in left_out]
    rows = []
    for each in _below(records):
        if number(each, "num_tasks") > 1 and each.get("task_id") == 0:
            same = [other for other in records if other.get("job_id") == each.get("job_id")]
            rows.append(_summary(same, verbose))
        rows.append(_row(each, verbose))
    return tables.render([columns[at] for at in shown], [[row[at] for at in shown] for row in rows])


def _below(records: Sequence[Record]) -> list[Record]:
    """The records in their order, but those that were launched into a group follow its own, where these are shown."""
    there = {each.get("job_id") for each in records}
    below: dict[object, list[Record]] = {each: [] for each in there}
    own: list[Record] = []
    for each in records:
        below.get(each.get("parent_job_id"), own).append(each)
    found: list[Record] = []
    for at, each in enumerate(own):
        found.append(each)
        if at + 1 == len(own) or own[at + 1].get("job_id") != each.get("job_id"):
            found += below[each.get("job_id")]
    return found


def _row(job: Record, verbose: bool) -> list[object]:
    at = times.now()
    several = number(job, "num_tasks") > 1
    submitted, ended = number(job, "submitted_at"), number(job, "end_at")
    row: list[object] = [
        f" └ {job.get('job_id')}" if several or job.get("parent_job_id") else job.get("job_id"),
        job.get("task_id") if several else "-",
        text(job, "workspace"),
        text(job, "task_name") if several else text(job, "job_name"),
        text(job, "user_name"),
        text(job, "resources"),
        times.ago(submitted, at),
        times.duration((ended or at) - submitted),
        times.duration(job.get("job_duration")),  # type: ignore[arg-type]
        job.get("recovery_count"),
        text(job, "status"),
        job.get("pool") or "-",
    ]
    if verbose:
        row += [
            job.get("current_cluster_name") or "-",
            job.get("job_id_on_pool_cluster") or "-",
            times.ago(number(job, "start_at"), at),
            job.get("infra") or "-",
            job.get("cluster_resources_full") or "-",
            text(job, "schedule_state"),
            tables.clean(job.get("details") or "-"),
        ]
    return row


def _summary(tasks: Sequence[Record], verbose: bool) -> list[object]:
    """The row of a job of several tasks."""
    first = tasks[0]
    # Of tasks that are jobs of their own any may be the last; one that never began has no end either.
    ends = [number(each, "end_at") for each in tasks]
    ended = max(ends) if all(ends) else 0.0
    at = times.now()
    ran = [each.get("job_duration") for each in tasks]
    row: list[object] = [
        first.get("job_id"), "", text(first, "workspace"), text(first, "job_name"), text(first, "user_name"),
        f"{len(tasks)} tasks", times.ago(number(first, "submitted_at"), at),
        times.duration((ended or at) - number(first, "submitted_at")),
        times.duration(sum(each for each in ran if isinstance(each, int | float))),
        sum(int(number(each, "recovery_count")) for each in tasks), text(first, "job_status"),
        first.get("pool") or "-",
    ]  # fmt: skip
    return row + ["-"] * len(_MORE_COLUMNS) if verbose else row
