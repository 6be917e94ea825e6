"""Managed jobs: what `sky.jobs.launch`, `sky.jobs.queue` and the rest call.

Every function that needs the server returns a request id, whose value `sky.get` gives; those that read logs block, and
so does `wait`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, SupportsIndex

from sky.core.errors import JobExitCode, not_supported
from sky.core.model.statuses import ManagedJobStatus
from sky.sdk import settings
from sky.sdk.clusters import config_of, tasks_of
from sky.sdk.http1 import Response
from sky.sdk.ids import Answer, RequestId
from sky.sdk.records import ClusterHandle, JobIds, ManagedJobRecord, Record
from sky.sdk.requests import get, read, submit
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import stream
from sky.wire.protocol import ENV_ENDPOINT

#: The job group whose member the caller is, if it is one.
AUTO = "AUTO"
#: Seconds for which the server is asked to hold one wait.
_HOLD_S = 40.0
#: Seconds between looks at the story of a job that is followed.
_STORY_S = 1.0

Queue = tuple[list[ManagedJobRecord], int, dict[str, int], int]


def _dag_of(entrypoint: Any) -> dict[str, Any]:
    """The frozen form of a task, a DAG, a list of tasks, or of a task's configuration."""
    to_spec = getattr(entrypoint, "to_spec", None)
    if to_spec is not None and getattr(entrypoint, "tasks", None) is not None:
        found: dict[str, Any] = to_spec().to_config()
        return found
    tasks = [config_of(task) for task in tasks_of(entrypoint)]
    if any(task.get("depends_on") is not None for task in tasks):
        return {"tasks": tasks}
    return {"tasks": tasks, "edges": [[at, at + 1] for at in range(len(tasks) - 1)]}


def _allowed(dag: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tasks and the layers that travel with them, as a policy of this client's configuration wants them."""
    layers = settings.layers()
    if settings.admin_policy() is None:
        return dag, layers
    from sky.sdk import policies  # noqa: PLC0415 - only those who have a policy pay for it

    tasks = []
    for task in dag["tasks"]:
        changed, layers = policies.at_client(policies.AdminPolicyRequestName.JOBS_LAUNCH, task, layers)
        tasks.append(changed)
    return {**dag, "tasks": tasks}, layers


def _uploaded(tasks: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Bring the local files of all tasks to the server."""
    if not any("workdir" in task or "file_mounts" in task for task in tasks):
        return {}
    from sky.sdk import uploads  # noqa: PLC0415 - only tasks with local files pay for hashing

    sources = [source for task in tasks for source in uploads.local_sources(task, mounts=True)]
    return uploads.upload_sources(dict.fromkeys(sources))


def launch(
    task: Any,
    name: str | None = None,
    pool: str | None = None,
    num_jobs: int | None = None,
    job_group: Any = AUTO,
    *,
    after: Sequence[int] | None = None,
    after_any: Sequence[int] | None = None,
    strict: bool = False,
    request_id: str | None = None,
    _command: str = "",
    _need_confirmation: bool = False,
) -> RequestId[tuple[JobIds, ClusterHandle]]:
    """Run a task, or the tasks of a DAG, as a managed job. Value: `(ids of the jobs, a handle)`.

    The ids are a list that is also a number where there is one (`JobIds`). The handle is that of no cluster: the server
    itself looks after managed jobs. num_jobs: so many jobs of the same tasks, each with its own `SKYPILOT_JOB_RANK`.
    job_group: the number or name of a running group that it is launched into, to be shown below it and called off with
    it; by default that in which this program runs itself, with the server's address that such jobs are given.
    They begin when the jobs `after` have succeeded and those of `after_any` have ended. strict: refuse what would only
    be warned of, as a spot job that will hardly end. request_id: as in `sky.launch`. Uploads the tasks' local files
    first, only what the server does not have yet.
    """
    made = launch_body(task, name, num_jobs=num_jobs, pool=pool, command=_command or "sky.jobs.launch")
    made |= {"after": _numbers(after), "after_any": _numbers(after_any), **_group_of(job_group)}
    return submit("jobs/launch", {**made, "strict": strict} if strict else made, request_id)


def _group_of(asked: Any) -> dict[str, Any]:
    if asked in (None, False):
        return {}
    if asked != AUTO:
        return {"job_group": str(asked)}
    env = os.environ
    inside = env.get("SKYPILOT_JOBGROUP_NAME") and env.get(ENV_ENDPOINT) and env.get("SKYPILOT_MANAGED_JOB_ID")
    return {"job_group": inside, "job_group_lax": True} if inside else {}


def launch_body(
    task: Any,
    name: str | None,
    *,
    num_jobs: int | None = None,
    pool: str | None = None,
    command: str = "",
) -> dict[str, Any]:
    """The arguments of a launch as they travel; local files are brought to the server first."""
    dag, layers = _allowed(_dag_of(task))
    return {
        "dag": dag,
        "name": name,
        "num_jobs": num_jobs,
        "pool": pool,
        "uploads": _uploaded(dag["tasks"]),
        "config": layers,
        "command": command,
    }


def queue_v2(  # noqa: PLR0913, PLR0917 - the compatible public signature
    refresh: bool = False,
    skip_finished: bool = False,
    all_users: bool = False,
    job_ids: Sequence[int] | None = None,
    limit: int | None = None,
    fields: Sequence[str] | None = None,
    sort_by: str | None = None,
    sort_order: str | None = None,
    statuses: Sequence[Any] | None = None,
    submitted_after: float | None = None,
    submitted_before: float | None = None,
    infra_match: str | None = None,
    name_match: str | None = None,
    *,
    why: bool = False,
) -> RequestId[Queue]:
    """Managed jobs. Value: `(records, total, counts by status, total without filter)`.

    There is one record per task; those of the newest job come first, unless `sort_by` names a field (`sort_order`:
    asc or desc). `limit` is of jobs, times are seconds since the epoch. `refresh` makes no difference: what is told is
    what is so. why: `details` say why each job is as it is.
    """
    asked = {
        "refresh": refresh,
        "skip_finished": skip_finished,
        "all_users": all_users,
        "job_ids": _numbers(job_ids),
        "limit": limit,
        "fields": None if fields is None else list(fields),
        "statuses": None if statuses is None else [str(getattr(each, "value", each)) for each in statuses],
        "submitted_after": submitted_after,
        "submitted_before": submitted_before,
        "infra_match": infra_match,
        "name_match": name_match,
        "why": why,
    }
    made: RequestId[Queue] = read("jobs/queue", {key: value for key, value in asked.items() if value is not None})
    told = made.answer.result if made.answer is not None else None
    if sort_by is not None and isinstance(told, dict):
        told["jobs"].sort(
            key=lambda each: (each.get(sort_by) is None, each.get(sort_by)),
            reverse=str(sort_order or "asc").lower().startswith("desc"),
        )
    return made


def queue(
    refresh: bool = False,
    skip_finished: bool = False,
    all_users: bool = False,
    job_ids: Sequence[int] | None = None,
    version: Literal[1, 2] = 1,
) -> RequestId[Any]:
    """Managed jobs. Value: a list of records (one per task, newest job first), or with `version=2` as of `queue_v2`."""
    made = queue_v2(refresh, skip_finished, all_users, job_ids)
    if version == 1:
        made.name = "jobs/queue/1"
    return made


def cancel(  # noqa: PLR0917 - the compatible public signature
    name: str | None = None,
    job_ids: Sequence[int] | None = None,
    all: bool = False,
    all_users: bool = False,
    pool: str | None = None,
    graceful: bool = False,
    graceful_timeout: float | None = None,
    task: str | int | None = None,
) -> RequestId[None]:
    """End managed jobs: those of the ids, those under way of a name, `all` of one's own, or everybody's.

    graceful: their processes are told first, and have `graceful_timeout` seconds (60) to end by themselves.
    """
    body = {
        "name": name,
        "job_ids": _numbers(job_ids),
        "all": all,
        "all_users": all_users,
        "pool": pool,
        "graceful": graceful,
        "graceful_timeout": graceful_timeout,
        "task": task,
    }
    return submit("jobs/cancel", body)


def _numbers(job_ids: Any) -> list[int] | None:
    if job_ids is None:
        return None
    return [int(job_ids)] if isinstance(job_ids, int | str) else [int(each) for each in job_ids]


def _number(job_id: SupportsIndex | str | None) -> int | None:
    return None if job_id is None else int(job_id)


def job_stream(
    name: str | None, job_id: Any, follow: bool, tail: int | None, task: str | int | None
) -> tuple[Followed, dict[str, Any]]:
    """A managed job's log to be read, and the arguments of the call, which name the job once it is known."""
    asked: dict[str, Any] = {
        "name": name, "job_id": _number(job_id), "follow": follow, "tail": tail or 0, "task": task,
    }  # fmt: skip

    def pin(frame: dict[str, Any]) -> None:
        if "job" in frame:
            asked["job_id"] = frame["job"]

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        return stream("POST", "/jobs/logs", {**asked, "offset": offset})

    return Followed(open_at, pin), asked


def tail_logs(  # noqa: PLR0917 - the compatible public signature
    name: str | None = None,
    job_id: int | None = None,
    follow: bool = True,
    controller: bool = False,
    refresh: bool = False,
    tail: int | None = None,
    tail_offset: int | None = None,
    output_stream: Writer | None = None,
    task: str | int | None = None,
    *,
    preload_content: bool = True,
) -> int | Iterator[str]:
    """Write a managed job's log to `output_stream`, by default standard output; it outlives the job's clusters.

    Without name and id, the newest job's. controller: what is decided about the job, instead of its log. tail: last
    lines only. Returns 0, 100 (failed), 101 (not finished), 102 (no such job) or 103 (cancelled); with
    `preload_content=False`, an iterator over lines instead.
    """
    if tail_offset:
        raise not_supported("Leaving out the last lines of a log (tail_offset)")
    if controller:
        return _decisions(name, job_id, output_stream, follow=follow, preload_content=preload_content)
    followed, _ = job_stream(name, job_id, follow, tail, task)
    if not preload_content:
        return followed.lines()
    followed.copy_to(output_stream)
    return int(JobExitCode.NOT_FOUND if followed.code is None else followed.code)


def _decisions(
    name: str | None, job_id: Any, output_stream: Writer | None, *, follow: bool, preload_content: bool
) -> int | Iterator[str]:
    found = _find(name, job_id)
    if found is None:
        return int(JobExitCode.NOT_FOUND) if preload_content else iter(())
    lines = _decided(found["job_id"], follow=follow)
    if not preload_content:
        return lines
    for line in lines:
        Followed.write(line, output_stream)
    ended = _find(None, found["job_id"]) or found
    return int(JobExitCode.from_job_status(ended["job_status"]))


def _decided(number: int, *, follow: bool) -> Iterator[str]:
    """Lines of a job's story; following, until the job has ended."""
    seen = 0
    while True:
        pause = _STORY_S if follow else 0.0
        over = not follow or get(wait(job_id=number, timeout=pause)) != JobExitCode.NOT_FINISHED
        for each in get(events(number)):
            if each["seq"] > seen:
                seen = each["seq"]
                at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["time"]))
                yield f"{at}  {each['text'] or each['after']}\n"
        if over:
            return


def _find(name: str | None, job_id: Any) -> ManagedJobRecord | None:
    """The first task of the job that is meant."""
    ids = None if job_id is None else [int(job_id)]
    records, _, _, _ = get(queue_v2(job_ids=ids, name_match=name, limit=None if name else 1))
    return next((each for each in records if name is None or each["job_name"] == name), None)


def events(job_id: int) -> RequestId[list[Record]]:
    """Everything that was decided about a managed job, oldest first, with its reasons."""
    return read("jobs/events", {"job_id": int(job_id)})


def wait(
    name: str | None = None,
    job_id: int | None = None,
    timeout: float | None = None,
    poll_interval: float = 15,
    task: str | int | None = None,
) -> RequestId[int]:
    """Wait until a managed job (or one `task` of it) has ended; blocks. Value: its exit code as of `tail_logs`.

    101 if it has not ended after `timeout` seconds. `poll_interval` makes no difference: the end is told at once.
    """
    begun = time.monotonic()
    asked = {"name": name, "job_id": _number(job_id), "task": task}
    while True:
        left = _HOLD_S if timeout is None else max(0.0, timeout - (time.monotonic() - begun))
        made: RequestId[int] = read("jobs/wait", {**asked, "timeout": min(left, _HOLD_S)})
        told: Any = get(made)
        over = timeout is not None and time.monotonic() - begun >= timeout
        if told["code"] != JobExitCode.NOT_FINISHED or over:
            return RequestId(str(made), "jobs/wait/code", Answer(told["code"]))
        asked["job_id"] = told["job_id"]


def download_logs(
    name: str | None = None,
    job_id: int | None = None,
    refresh: bool = False,
    controller: bool = False,
    local_dir: str = "~/sky_logs",
) -> dict[int, str]:
    """Write the log of a job (of the newest, without name and id) below `local_dir`. Returns `{job id: folder}`."""
    found = _find(name, job_id)
    if found is None:
        return {}
    number = int(found["job_id"])
    word = re.sub(r"[^A-Za-z0-9._-]+", "_", found["job_name"])
    folder = Path(local_dir).expanduser() / f"managed-{number}-{word}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ("controller.log" if controller else "run.log")).open("w", encoding="utf-8") as out:
        tail_logs(job_id=number, follow=False, controller=controller, output_stream=out)
    return {number: str(folder)}


def is_over(status: object) -> bool:
    """Whether a status as it is told is one that nothing follows."""
    return ManagedJobStatus(str(status)).is_terminal()
