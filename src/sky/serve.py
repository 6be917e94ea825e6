"""``sky.serve``: services, which are not built yet; the names are there and say so when called."""

from __future__ import annotations

from sky.compat.finding import beside
from sky.sdk.later import later

__all__ = [
    "down",
    "status",
    "sync_down_logs",
    "tail_logs",
    "terminate_replica",
    "up",
    "update",
]

up = later("sky.serve.up", "services")
update = later("sky.serve.update", "services")
down = later("sky.serve.down", "services")
terminate_replica = later("sky.serve.terminate_replica", "services")
status = later("sky.serve.status", "services")
tail_logs = later("sky.serve.tail_logs", "services")
sync_down_logs = later("sky.serve.sync_down_logs", "services")

# Modules below this one, and names beside its own, that other versions of this interface have: see `sky/compat`.
__path__: list[str] = []
__getattr__ = beside("sky.serve")
