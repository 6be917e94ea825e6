"""Schedules and receipts of managed jobs: what `sky.jobs.schedule_add` and the rest call. They are ours.

What they return are records: mappings whose fields are attributes as well. Errors are raised as by every call.
"""

from __future__ import annotations

from typing import Any

from sky.sdk.managed_jobs import launch_body
from sky.sdk.records import Record
from sky.sdk.requests import get, read
from sky.sdk.transport import call


def schedule_add(
    name: str,
    task: Any,
    cron: str,
    *,
    timezone: str = "UTC",
    missed: str = "skip",
    overlap: str = "skip",
    job_name: str | None = None,
    num_jobs: int | None = None,
    _command: str = "",
) -> Record:
    """Launch `task` as a managed job at the times of a cron expression, read in a time zone.

    missed: times that passed while no server ran are left out (skip), or become one launch (once). overlap: while the
    job of the last time runs, the next is left out (skip), waits (queue) or is launched all the same (allow). Local
    files travel now, as they are. Raises ValueError.
    """
    launch = launch_body(task, job_name, num_jobs=num_jobs, command=_command or "sky.jobs.schedule_add")
    body = {
        "name": name, "cron": cron, "zone": timezone, "missed": missed, "overlap": overlap, "launch": launch
    }  # fmt: skip
    return Record(call("POST", "/jobs/schedule/add", body).json())


def schedule_list(all_users: bool = False) -> list[Record]:
    """Schedules by name: `cron`, `zone`, `next_at`, `last_at`, `paused`, `said` …"""
    return [Record(each) for each in get(read("jobs/schedule/list", {"all_users": all_users}))]


def schedule_remove(name: str) -> None:
    """Forget a schedule, by its name or id; what it launched goes on. Raises ValueError."""
    call("POST", "/jobs/schedule/remove", {"name": name})


def schedule_pause(name: str, paused: bool = True) -> Record:
    """Launch nothing more for a schedule, or (`paused=False`) go on with its next time."""
    return Record(call("POST", "/jobs/schedule/pause", {"name": name, "paused": paused}).json())


def receipt(job_id: int | None = None, *, cluster: str | None = None) -> Record:
    """What a managed job, or a cluster (living or gone), has cost: `total`, `intervals`, `recoveries`, `lines` …"""
    asked = {"job_id": None if job_id is None else int(job_id), "cluster": cluster}
    return Record(get(read("receipt", {key: value for key, value in asked.items() if value is not None})))
