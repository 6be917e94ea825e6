"""Pools of workers for managed jobs: what `sky.jobs.pool_apply` and the rest call.

Every function that needs the server returns a request id, whose value `sky.get` gives; those that read logs block.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError
from sky.sdk import settings
from sky.sdk.clusters import config_of, tasks_of
from sky.sdk.http1 import Response
from sky.sdk.ids import RequestId
from sky.sdk.records import Record
from sky.sdk.requests import get, read, submit
from sky.sdk.streams import Followed, Writer
from sky.sdk.transport import stream


def pool_apply(
    task: Any,
    pool_name: str,
    mode: Any = "rolling",
    workers: int | None = None,
    *,
    _command: str = "",
) -> RequestId[None]:
    """Make a pool from a task with a `pool` section, or give the pool of this name another version.

    mode: older workers are replaced one after another (rolling), or once all new ones are ready (blue_green). workers:
    so many, whatever the task says; without a task, only the number changes. Uploads the task's local files first.
    """
    config, layers, uploads = _parts(task, workers)
    return submit(
        "jobs/pool_apply",
        {
            "pool_name": pool_name,
            "task": config,
            "mode": str(getattr(mode, "value", mode)).lower(),
            "workers": workers,
            "uploads": uploads,
            "config": layers,
            "command": _command or "sky.jobs.pool_apply",
        },
    )


def _parts(task: Any, workers: int | None) -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, str]]:
    """The task as it travels, the layers that go with it, and its local files, which are brought to the server."""
    layers = settings.layers()
    if task is None:
        return None, layers, {}
    found = tasks_of(task)
    if len(found) != 1:
        raise InvalidSkyPilotConfigError(f"A pool is made from one task; these are {len(found)}.")
    config = config_of(found[0])
    if workers is not None:
        config = {**config, "pool": {"workers": workers}}
    if settings.admin_policy() is not None:
        from sky.sdk import policies  # noqa: PLC0415 - only those who have a policy pay for it

        config, layers = policies.at_client(policies.AdminPolicyRequestName.JOBS_POOL_APPLY, config, layers)
    if "workdir" not in config and "file_mounts" not in config:
        return config, layers, {}
    from sky.sdk import uploads  # noqa: PLC0415 - only tasks with local files pay for hashing

    return config, layers, uploads.upload_sources(dict.fromkeys(uploads.local_sources(config, mounts=True)))


def pool_down(pool_names: str | Sequence[str] | None = None, all: bool = False, purge: bool = False) -> RequestId[None]:
    """Take pools down: those of the names, which may hold shell globs, or `all` of one's own.

    A pool with jobs that have not ended stays, unless `purge`, which ends them, too.
    """
    names = [pool_names] if isinstance(pool_names, str) else pool_names
    return submit("jobs/pool_down", {"names": None if names is None else list(names), "all": all, "purge": purge})


def pool_status(pool_names: str | Sequence[str] | None = None) -> RequestId[list[Record]]:
    """Pools. Value: a list of records with `name`, `version`, `status`, `replica_info` (one per worker) …"""
    names = [pool_names] if isinstance(pool_names, str) else pool_names
    return read("jobs/pool_status", {"names": None if names is None else list(names)})


def pool_stream(
    pool_name: str, target: Any, worker_id: int | None, follow: bool, tail: int | None
) -> tuple[Followed, dict[str, Any]]:
    """A pool's log to be read, and the arguments of the call."""
    word = str(getattr(target, "value", target)).lower()
    asked = {
        "pool_name": pool_name,
        # A worker that is named is meant; `replica` is what workers are called where a service has them.
        "target": "worker" if worker_id is not None or word == "replica" else word,
        "worker_id": worker_id,
        "follow": follow,
        "tail": tail or 0,
    }

    def open_at(offset: int | None) -> AbstractContextManager[Response]:
        return stream("POST", "/jobs/pool_logs", {**asked, "offset": offset})

    return Followed(open_at), asked


def pool_tail_logs(
    pool_name: str,
    target: Any = "controller",
    worker_id: int | None = None,
    follow: bool = True,
    output_stream: Writer | None = None,
    tail: int | None = None,
) -> None:
    """Write what was decided about a pool (`controller`), or how a `worker` was set up, by default to standard output.

    tail: last lines only.
    """
    followed, _ = pool_stream(pool_name, target, worker_id, follow, tail)
    followed.copy_to(output_stream)


def pool_sync_down_logs(
    pool_name: str,
    local_dir: str,
    *,
    targets: Any = None,
    worker_ids: Sequence[int] | None = None,
    tail: int | None = None,
) -> str:
    """Write the logs of a pool below `local_dir`, one file each; returns the folder.

    targets: `controller`, `worker` or both (the default); worker_ids: of these workers only.
    """
    several = targets if isinstance(targets, list | tuple | set | frozenset) else [targets] if targets else []
    wanted = {str(getattr(each, "value", each)).lower() for each in several} or {"controller", "worker"}
    folder = Path(local_dir).expanduser() / pool_name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if "controller" in wanted and not worker_ids:
        with (folder / "controller.log").open("w", encoding="utf-8") as out:
            pool_tail_logs(pool_name, follow=False, output_stream=out, tail=tail)
    if wanted & {"worker", "replica"}:
        for number in worker_ids if worker_ids is not None else workers_of(pool_name):
            with (folder / f"worker-{int(number)}.log").open("w", encoding="utf-8") as out:
                pool_tail_logs(pool_name, "worker", int(number), follow=False, output_stream=out, tail=tail)
    return str(folder)


def workers_of(pool_name: str) -> list[int]:
    """Numbers of a pool's workers."""
    found = get(pool_status([pool_name]))
    return [int(each["replica_id"]) for pool in found for each in pool["replica_info"]]
