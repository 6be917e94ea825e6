"""``sky.jobs``: managed jobs and pools of workers for them. The public names."""

from __future__ import annotations

from sky.compat.finding import beside
from sky.core.model.statuses import ManagedJobStatus
from sky.sdk.later import later
from sky.sdk.managed_jobs import cancel, download_logs, events, launch, queue, queue_v2, tail_logs, wait
from sky.sdk.pools import pool_apply, pool_down, pool_status, pool_sync_down_logs, pool_tail_logs
from sky.sdk.schedules import receipt, schedule_add, schedule_list, schedule_pause, schedule_remove

__all__ = [
    "ManagedJobStatus",
    "cancel",
    "dashboard",
    "download_logs",
    "download_logs_streaming",
    "events",
    "launch",
    "pool_apply",
    "pool_down",
    "pool_status",
    "pool_sync_down_logs",
    "pool_tail_logs",
    "queue",
    "queue_v2",
    "receipt",
    "schedule_add",
    "schedule_list",
    "schedule_pause",
    "schedule_remove",
    "tail_logs",
    "wait",
]

download_logs_streaming = download_logs
dashboard = later("sky.jobs.dashboard", "dashboards")

# Modules below this one that other versions of this interface have: see `sky/compat`.
__getattr__ = beside("sky.jobs")
