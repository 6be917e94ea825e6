"""``sky.jobs``: managed jobs, which are not built yet; the names are there and say so when called."""

from __future__ import annotations

from sky.core.model.managed_jobs import ManagedJobStatus
from sky.sdk.later import later

__all__ = [
    "ManagedJobStatus",
    "cancel",
    "dashboard",
    "download_logs",
    "download_logs_streaming",
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

launch = later("sky.jobs.launch", "managed jobs")
queue = later("sky.jobs.queue", "managed jobs")
queue_v2 = later("sky.jobs.queue_v2", "managed jobs")
cancel = later("sky.jobs.cancel", "managed jobs")
tail_logs = later("sky.jobs.tail_logs", "managed jobs")
wait = later("sky.jobs.wait", "managed jobs")
download_logs = later("sky.jobs.download_logs", "managed jobs")
download_logs_streaming = later("sky.jobs.download_logs_streaming", "managed jobs")
dashboard = later("sky.jobs.dashboard", "managed jobs")
pool_apply = later("sky.jobs.pool_apply", "managed jobs")
pool_down = later("sky.jobs.pool_down", "managed jobs")
pool_status = later("sky.jobs.pool_status", "managed jobs")
pool_tail_logs = later("sky.jobs.pool_tail_logs", "managed jobs")
pool_sync_down_logs = later("sky.jobs.pool_sync_down_logs", "managed jobs")
