"""Calls of the interface whose feature is not built yet: each is there under its name and says so when called.

The table in ``sky/__init__.py`` and the porch modules take them from here; an issue that builds a feature takes its
name out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from sky.core.errors import not_supported


def later(name: str, feature: str) -> Callable[..., Any]:
    """Return a function called ``name`` that raises ``NotSupportedError`` naming the feature."""

    def call(*_args: object, **_kwargs: object) -> NoReturn:
        raise not_supported(f"{name}() ({feature})", "this version")

    call.__name__ = call.__qualname__ = name.rpartition(".")[2]
    call.__doc__ = f"Raise ``NotSupportedError``: {feature} are not built yet."
    return call


storage_ls = later("sky.storage_ls", "object stores")
storage_delete = later("sky.storage_delete", "object stores")
reload_config = later("sky.reload_config", "changes of a running server's settings")
create_debug_dump = later("sky.create_debug_dump", "debug dumps")
download_debug_dump = later("sky.download_debug_dump", "debug dumps")
dashboard = later("sky.dashboard", "dashboards")
local_up = later("sky.local_up", "local Kubernetes clusters")
local_down = later("sky.local_down", "local Kubernetes clusters")
status_kubernetes = later("sky.status_kubernetes", "Kubernetes clusters")
kubernetes_node_info = later("sky.kubernetes_node_info", "Kubernetes clusters")
kubernetes_label_gpus = later("sky.kubernetes_label_gpus", "Kubernetes clusters")
realtime_kubernetes_gpu_availability = later("sky.realtime_kubernetes_gpu_availability", "Kubernetes clusters")
realtime_slurm_gpu_availability = later("sky.realtime_slurm_gpu_availability", "Slurm clusters")
slurm_node_info = later("sky.slurm_node_info", "Slurm clusters")
tail_autostop_logs = later("sky.tail_autostop_logs", "logs of hooks")
