"""Every call of the SDK in one module, under the name that existing programs import; re-exports only."""

from sky.sdk.clusters import (
    autostop,
    cancel,
    cluster_events,
    cost_report,
    down,
    download_logs,
    endpoints,
    exec,
    job_status,
    launch,
    queue,
    start,
    status,
    stop,
    tail_hook_logs,
    tail_logs,
    tail_provision_logs,
)
from sky.sdk.infra import check, enabled_clouds, list_accelerator_counts, list_accelerators
from sky.sdk.login import api_login, api_logout
from sky.sdk.plans import optimize, validate
from sky.sdk.requests import api_cancel, api_status, get, stream_and_get, stream_response
from sky.sdk.server import api_info, api_server_logs, api_start, api_stop, dashboard

__all__ = [
    "api_cancel",
    "api_info",
    "api_login",
    "api_logout",
    "api_server_logs",
    "api_start",
    "api_status",
    "api_stop",
    "autostop",
    "cancel",
    "check",
    "cluster_events",
    "cost_report",
    "dashboard",
    "down",
    "download_logs",
    "enabled_clouds",
    "endpoints",
    "exec",
    "get",
    "job_status",
    "launch",
    "list_accelerator_counts",
    "list_accelerators",
    "optimize",
    "queue",
    "start",
    "status",
    "stop",
    "stream_and_get",
    "stream_response",
    "tail_hook_logs",
    "tail_logs",
    "tail_provision_logs",
    "validate",
]
