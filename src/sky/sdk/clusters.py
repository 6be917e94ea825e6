"""Clusters and the jobs on them: what `sky.launch`, `sky.status`, `sky.tail_logs` and the rest call.

Every function that needs the server returns a request id, whose value `sky.get` gives; those that read logs block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, overload

from sky.core.errors import JobExitCode, not_supported
from sky.core.model.statuses import JobStatus
from sky.sdk import settings
from sky.sdk.http1 import Response
from sky.sdk.ids import RequestId
from sky.sdk.records import (
    ByNumber,
    ClusterHandle,
    ClusterJobRecord,
    CostRecord,
    EventRecord,
    LedgerRecord,
    StatusResponse,
)
from sky.sdk.requests import get, read, submit
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import stream


class _Spec(Protocol):
    def to_config(self) -> dict[str, Any]: ...


class TaskLike(Protocol):
    """What is needed of a task: its frozen form. `sky.Task` is one."""

    def to_spec(self) -> Any: ...


Launched = tuple[int | None, ClusterHandle | None]


def tasks_of(entrypoint: Any) -> list[Any]:
    """The tasks of a task, a DAG, or a list of tasks."""
    inner = getattr(entrypoint, "tasks", None)
    if inner is not None:
        return list(inner)
    return list(entrypoint) if isinstance(entrypoint, list | tuple) else [entrypoint]


def config_of(task: Any) -> dict[str, Any]:
    if isinstance(task, Mapping):
        return dict(task)
    spec: _Spec = task.to_spec()
    return spec.to_config()


def _only(entrypoint: Any, call: str) -> dict[str, Any]:
    tasks = tasks_of(entrypoint)
    if len(tasks) != 1:
        raise ValueError(f"sky.{call} takes one task, found a DAG of {len(tasks)}; pipelines go to sky.jobs.launch.")
    return config_of(tasks[0])


def blocked_of(task: Any) -> list[dict[str, Any]]:
    """What a task must not get, as it travels."""
    return [each.to_yaml_config() for each in getattr(task, "blocked_resources", None) or ()]


def word_of(value: Any) -> str:
    """An enum or text as the word that travels."""
    return str(getattr(value, "value", value)).upper()


#: Keywords of older interfaces, and what took their place.
_FORMER = {
    "stream_logs": "the call returns at once; sky.stream_and_get(request_id) relays what it says",
    "detach_setup": "the call returns at once; sky.tail_logs(cluster_name, job_id) follows setup and run",
    "detach_run": "the call returns at once; sky.tail_logs(cluster_name, job_id) follows the job",
}


def _refuse_unknown(call: str, known: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse keywords that nobody reads, as a plain signature would. Names with `_` are internals of other versions."""
    for name in given:
        if name.startswith("_"):
            continue
        if name in _FORMER:
            raise TypeError(f"sky.{call}() has no {name!r} any more: {_FORMER[name]}.")
        from difflib import get_close_matches  # noqa: PLC0415 - only for those who misspell
        from inspect import signature  # noqa: PLC0415

        close = get_close_matches(name, [word for word in signature(known).parameters if word[0] != "_"], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"sky.{call}() has no parameter {name!r}{hint}")


def _allowed(call: str, config: dict[str, Any], **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task and the layers that travel with it, as a policy of this client's configuration wants them."""
    if settings.admin_policy() is None:
        return config, settings.layers()
    from sky.sdk import policies  # noqa: PLC0415 - only those who have a policy pay for it

    name = policies.AdminPolicyRequestName(f"cluster.{call}")
    return policies.at_client(name, config, settings.layers(), options)


def _uploaded(config: Mapping[str, Any], dryrun: bool, *, mounts: bool) -> dict[str, str]:
    if dryrun or not ("workdir" in config or (mounts and "file_mounts" in config)):
        return {}
    from sky.sdk import uploads  # noqa: PLC0415 - only tasks with local files pay for hashing

    return uploads.upload_sources(uploads.local_sources(config, mounts=mounts))


def launch(  # noqa: PLR0913, PLR0917 - the compatible public signature
    task: TaskLike | Any,
    cluster_name: str | None = None,
    retry_until_up: bool = False,
    idle_minutes_to_autostop: float | None = None,
    wait_for: str | None = None,
    dryrun: bool = False,
    down: bool = False,
    backend: Any = None,
    optimize_target: Any = "COST",
    no_setup: bool = False,
    clone_disk_from: str | None = None,
    fast: bool = False,
    resize: bool = False,
    _need_confirmation: bool = False,
    *,
    request_id: str | None = None,
    _command: str = "",
    **_internal: Any,
) -> RequestId[Launched]:
    """Run a task on a cluster, which is brought up if need be. Value: `(job id or None, handle or None)`.

    Uploads the task's local files first, only what the server does not have yet. `backend` is accepted and makes no
    difference: there is one way to run a task. request_id: an id of the caller's own (8 to 128 letters, digits and
    hyphens): who was cut off calls again with the same one, and has the same request, not a second launch. Raises
    NotSupportedError for arguments that cannot be obeyed yet.
    """
    _refuse_unknown("launch", launch, _internal)
    config, layers = _allowed(
        "launch", _only(task, "launch"), cluster_name=cluster_name, down=down, dryrun=dryrun,
        idle_minutes_to_autostop=idle_minutes_to_autostop,
    )  # fmt: skip
    body = {
        "task": config,
        "cluster_name": cluster_name,
        "retry_until_up": retry_until_up,
        "idle_minutes_to_autostop": idle_minutes_to_autostop,
        "wait_for": _wait_for(wait_for),
        "dryrun": dryrun,
        "down": down,
        "optimize_target": word_of(optimize_target),
        "no_setup": no_setup,
        "clone_disk_from": clone_disk_from,
        "fast": fast,
        "resize": resize,
        "uploads": _uploaded(config, dryrun, mounts=True),
        "config": layers,
        "command": _command or "sky.launch",
        "blocked_resources": blocked_of(tasks_of(task)[0]),
    }
    return submit("launch", body, request_id)


def exec(
    task: TaskLike | Any,
    cluster_name: str | None = None,
    dryrun: bool = False,
    down: bool = False,
    backend: Any = None,
    *,
    request_id: str | None = None,
    _command: str = "",
    **_internal: Any,
) -> RequestId[Launched]:
    """Run a task on a cluster that is up: no setup, no file mounts; the workdir is synced.

    `backend` and `request_id` as in `launch`.
    """
    _refuse_unknown("exec", exec, _internal)
    if cluster_name is None:
        raise ValueError("sky.exec needs a cluster_name; sky.launch brings a new cluster up.")
    config, layers = _allowed("exec", _only(task, "exec"), cluster_name=cluster_name, down=down, dryrun=dryrun)
    body = {
        "task": config,
        "cluster_name": cluster_name,
        "dryrun": dryrun,
        "down": down,
        "uploads": _uploaded(config, dryrun, mounts=False),
        "config": layers,
        "command": _command or "sky.exec",
    }
    return submit("exec", body, request_id)


def _wait_for(value: Any) -> str | None:
    return None if value is None else str(getattr(value, "value", value)).lower()


def status(
    cluster_names: Sequence[str] | str | None = None,
    refresh: Any = "NONE",
    all_users: bool = False,
    *,
    _include_credentials: bool = False,
    _summary_response: bool = False,
) -> RequestId[list[StatusResponse]]:
    """Clusters of these names or globs (None: all). `refresh` of AUTO or FORCE (or True) asks the clouds first.

    One's own, unless `all_users` asks for everybody's that one may see; a plain name is that cluster, whose ever it is.
    """
    names = [cluster_names] if isinstance(cluster_names, str) else cluster_names
    body = {
        "cluster_names": None if names is None else list(names),
        "refresh": ("FORCE" if refresh else "NONE") if isinstance(refresh, bool | None) else word_of(refresh),
        "all_users": all_users,
        "include_credentials": _include_credentials,
        "summary": _summary_response,
    }
    return read("status", body)


def start(
    cluster_name: str,
    idle_minutes_to_autostop: float | None = None,
    wait_for: str | None = None,
    retry_until_up: bool = False,
    down: bool = False,
    force: bool = False,
) -> RequestId[ClusterHandle]:
    """Start a stopped cluster; with `force`, bring the runtime of an UP one up anew. Value: its handle."""
    body = {
        "cluster_name": cluster_name,
        "idle_minutes_to_autostop": idle_minutes_to_autostop,
        "wait_for": _wait_for(wait_for),
        "retry_until_up": retry_until_up,
        "down": down,
        "force": force,
    }
    return submit("start", body)


def stop(
    cluster_name: str, purge: bool = False, graceful: bool = False, graceful_timeout: float | None = None
) -> RequestId[None]:
    """Stop a cluster; its disks are kept."""
    if purge:
        raise not_supported(
            "Calling a cluster stopped that its cloud fails to stop (purge)", instead="sky.down purges."
        )
    return submit("stop", _ending(cluster_name, purge, graceful, graceful_timeout))


def down(
    cluster_name: str, purge: bool = False, graceful: bool = False, graceful_timeout: float | None = None
) -> RequestId[None]:
    """End a cluster with all that is on it; with `purge`, drop its record even if the cloud refuses."""
    return submit("down", _ending(cluster_name, purge, graceful, graceful_timeout))


def _ending(cluster_name: str, purge: bool, graceful: bool, graceful_timeout: float | None) -> dict[str, Any]:
    return {
        "cluster_name": cluster_name,
        "purge": purge,
        "graceful": graceful,
        "graceful_timeout": graceful_timeout,
    }


def autostop(
    cluster_name: str,
    idle_minutes: float,
    wait_for: str | None = None,
    down: bool = False,
    hook: str | None = None,
    hook_timeout: float | None = None,
) -> RequestId[None]:
    """Have a cluster stop (or end, with `down`) after `idle_minutes`; below zero switches that off."""
    body = {
        "cluster_name": cluster_name,
        "idle_minutes": idle_minutes,
        "wait_for": _wait_for(wait_for),
        "down": down,
        "hook": hook,
        "hook_timeout": hook_timeout,
    }
    return submit("autostop", body)


def queue(cluster_name: str, skip_finished: bool = False, all_users: bool = False) -> RequestId[list[ClusterJobRecord]]:
    """One's own jobs of a cluster, newest first; everybody's with `all_users`."""
    return read("queue", {"cluster_name": cluster_name, "skip_finished": skip_finished, "all_users": all_users})


def job_status(cluster_name: str, job_ids: Sequence[int] | None = None) -> RequestId[dict[int, JobStatus | None]]:
    """Statuses of jobs by id, None for those that are not there; without ids, the newest job."""
    return read("job_status", {"cluster_name": cluster_name, "job_ids": _ids(job_ids)})


def cancel(
    cluster_name: str,
    all: bool = False,
    all_users: bool = False,
    job_ids: Sequence[int] | None = None,
    _try_cancel_if_cluster_is_init: bool = False,
) -> RequestId[None]:
    """Cancel jobs of a cluster: those of the ids, `all` of one's own, everybody's; else one's newest that runs."""
    body = {
        "cluster_name": cluster_name,
        "all": all,
        "all_users": all_users,
        "job_ids": _ids(job_ids),
        "try_cancel_if_cluster_is_init": _try_cancel_if_cluster_is_init,
    }
    return submit("cancel", body)


def _ids(job_ids: Sequence[int | str] | None) -> list[int] | None:
    return None if job_ids is None else [int(id) for id in job_ids]


def job_stream(
    cluster_name: str, job_id: int | None, follow: bool, tail: int = 0, worker: int | None = None
) -> tuple[Followed, dict[str, Any]]:
    """A job's log to be read, and the arguments of the call, which name the job once it is known."""
    asked: dict[str, Any] = {
        "cluster_name": cluster_name,
        "job_id": job_id,
        "follow": follow,
        "tail": tail,
        "which": "run" if worker is None else "node",
        "rank": worker,
    }

    def pin(frame: dict[str, Any]) -> None:
        # "The newest job" may be another one by the time an interrupted stream goes on.
        if "job" in frame:
            asked["job_id"] = frame["job"]

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        return stream("POST", "/logs", {**asked, "offset": offset})

    return Followed(open_at, pin), asked


@overload
def tail_logs(
    cluster_name: str,
    job_id: int | None = None,
    follow: bool = True,
    tail: int = 0,
    output_stream: Writer | None = None,
    *,
    preload_content: Literal[True] = True,
    _worker: int | None = None,
) -> int: ...
@overload
def tail_logs(
    cluster_name: str,
    job_id: int | None = None,
    follow: bool = True,
    tail: int = 0,
    output_stream: Writer | None = None,
    *,
    preload_content: Literal[False],
    _worker: int | None = None,
) -> Iterator[str]: ...
def tail_logs(
    cluster_name: str,
    job_id: int | None = None,
    follow: bool = True,
    tail: int = 0,
    output_stream: Writer | None = None,
    *,
    preload_content: bool = True,
    _worker: int | None = None,
) -> int | Iterator[str]:
    """Write a job's log (None: the newest job) to `output_stream`, by default standard output.

    tail: last lines only, 0 for all. Returns the exit code 0, 100 (failed), 101 (not finished), 102 (no such job) or
    103 (cancelled); with `preload_content=False`, an iterator over lines instead.
    """
    followed, _ = job_stream(cluster_name, job_id, follow, tail, _worker)
    if not preload_content:
        return followed.lines()
    followed.copy_to(output_stream)
    return int(JobExitCode.NOT_FOUND if followed.code is None else followed.code)


def tail_provision_logs(
    cluster_name: str,
    worker: int | None = None,
    follow: bool = True,
    tail: int = 0,
    output_stream: Writer | None = None,
) -> int:
    """Write what was said while the cluster was brought up to `output_stream`; 0, or 1 if that failed."""
    if worker is not None:
        raise not_supported("A provision log per worker")

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        body = {"cluster_name": cluster_name, "follow": follow, "tail": tail, "offset": offset or 0}
        return stream("POST", "/provision_logs", body)

    followed = Followed(open_at)
    followed.copy_to(output_stream)
    return 0 if followed.status != "FAILED" else 1


def tail_hook_logs(cluster_name: str, event: str | None = None, follow: bool = True, tail: int = 0) -> int:
    """Logs of lifecycle hooks: not yet."""
    raise not_supported("Reading the logs of lifecycle hooks")


def download_logs(cluster_name: str, job_ids: Sequence[int | str] | None) -> dict[int, str]:
    """Fetch logs of jobs (None: the newest) below `~/sky_logs`. Returns `{job id: local directory}`.

    The directory holds `run.log`, the log of all nodes, and below `tasks` that of each node.
    """
    jobs = {job.job_id: job for job in get(queue(cluster_name))}
    wanted = _ids(job_ids)
    kept = ByNumber()
    for id in sorted(jobs.keys() & set(wanted)) if wanted else sorted(jobs)[-1:]:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", jobs[id].job_name or "job")
        folder = Path("~/sky_logs").expanduser() / f"{cluster_name}-{id}-{name}"
        (folder / "tasks").mkdir(parents=True, exist_ok=True)
        _fetch(folder / "run.log", cluster_name, id)
        for rank in range(jobs[id].metadata["num_nodes"]):
            _fetch(folder / "tasks" / f"{rank}-{f'worker{rank}' if rank else 'head'}.log", cluster_name, id, rank)
        kept[id] = str(folder)
    return kept


def _fetch(path: Path, cluster_name: str, job_id: int, rank: int | None = None) -> None:
    with path.open("w", encoding="utf-8") as out:
        job_stream(cluster_name, job_id, follow=False, worker=rank)[0].copy_to(out)


def cost_report(days: int | None = None) -> RequestId[list[CostRecord]]:
    """What clusters have cost, those that ended within `days` included (None: all on record)."""
    return read("cost_report", {"days": days})


def ledger(
    cluster_name: str | None = None,
    all: bool = False,
    user: str | None = None,
    cloud: str | None = None,
    days: int | None = None,
) -> RequestId[list[LedgerRecord]]:
    """Everything that is billed now, line by line; with `all` also what has ended, `days` ago at most (None: ever)."""
    return read("ledger", {"all": all, "cluster": cluster_name, "user": user, "cloud": cloud, "days": days})


def endpoints(cluster: str, port: int | str | None = None) -> RequestId[dict[int, str]]:
    """Where a cluster's ports can be reached: `{port: URL}`."""
    return read("endpoints", {"cluster": cluster, "port": None if port is None else int(port)})


def cluster_events(cluster_name: str) -> RequestId[list[EventRecord]]:
    """The story of a cluster, oldest line first."""
    return read("cluster_events", {"cluster_name": cluster_name})
