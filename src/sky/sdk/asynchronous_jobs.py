"""The calls of managed jobs as coroutines, with the names of the SDK; each awaits its result."""

from __future__ import annotations

import asyncio
from typing import Any

from sky.core.errors import JobExitCode
from sky.sdk import managed_jobs, pools
from sky.sdk.asynchronous import awaited, get, pieces, threaded
from sky.sdk.streams import Writer

__all__ = [
    "cancel",
    "download_logs",
    "events",
    "launch",
    "pool_apply",
    "pool_down",
    "pool_status",
    "pool_sync_down_logs",
    "pool_tail_logs",
    "queue",
    "queue_v2",
    "tail_logs",
    "wait",
]

launch = awaited(managed_jobs.launch)
queue = awaited(managed_jobs.queue)
queue_v2 = awaited(managed_jobs.queue_v2)
cancel = awaited(managed_jobs.cancel)
events = awaited(managed_jobs.events)
download_logs = threaded(managed_jobs.download_logs)
pool_apply = awaited(pools.pool_apply)
pool_down = awaited(pools.pool_down)
pool_status = awaited(pools.pool_status)
pool_sync_down_logs = threaded(pools.pool_sync_down_logs)


async def wait(
    name: str | None = None,
    job_id: int | None = None,
    timeout: float | None = None,
    poll_interval: float = 15,
    task: str | int | None = None,
) -> int:
    """Wait until a managed job has ended; its exit code as of `sky.jobs.wait`."""
    # A thread of its own: many may wait for hours, and the pool's threads are few.
    loop = asyncio.get_running_loop()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only for who waits

    pool = ThreadPoolExecutor(1, "wait for a managed job")
    try:
        made = await loop.run_in_executor(pool, managed_jobs.wait, name, job_id, timeout, poll_interval, task)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    code: int = await get(made)
    return code


async def tail_logs(
    name: str | None = None,
    job_id: Any = None,
    follow: bool = True,
    tail: int | None = None,
    output_stream: Writer | None = None,
    task: str | int | None = None,
) -> int:
    """Write a managed job's log to `output_stream`; returns the exit code as `sky.jobs.tail_logs` does."""
    followed, body = managed_jobs.job_stream(name, job_id, follow, tail, task)

    def target() -> tuple[str, object]:
        return "/jobs/logs", {**body, "offset": followed.offset}

    async for text in pieces(followed, "POST", target):
        followed.write(text, output_stream)
    return int(JobExitCode.NOT_FOUND if followed.code is None else followed.code)


async def pool_tail_logs(
    pool_name: str,
    target: Any = "controller",
    worker_id: int | None = None,
    follow: bool = True,
    output_stream: Writer | None = None,
    tail: int | None = None,
) -> None:
    """Write what was decided about a pool, or how a worker was set up, as `sky.jobs.pool_tail_logs` does."""
    followed, body = pools.pool_stream(pool_name, target, worker_id, follow, tail)

    def target_of() -> tuple[str, object]:
        return "/jobs/pool_logs", {**body, "offset": followed.offset}

    async for text in pieces(followed, "POST", target_of):
        followed.write(text, output_stream)
