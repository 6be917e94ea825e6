"""How settings are laid over one another, and which of them a client or a task may lay over the server's own.

`wire.config` merges files with it, the engine the layers that travel with a request.
"""

import copy
from collections.abc import Mapping
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError

#: Settings that are the server's alone: a client's do not reach it.
SERVER_ONLY = frozenset(
    ["api_server", "allowed_clouds", "workspaces", "workspace_config", "rbac", "db", "daemons", "metrics", "catalog",
     "dashboard", "plugins", "admin_policy"]
)  # fmt: skip
#: The same for single keys of a section.
SERVER_ONLY_KEYS = {
    "slurm": frozenset(["cluster_configs", "submit_as_user", "username_map"]),
    "jobs": frozenset(["consolidation_mode"]),
    "serve": frozenset(["consolidation_mode"]),
}
#: What a task's own `config` may say, by section.
OF_TASKS: Mapping[str, frozenset[str]] = {
    "docker": frozenset(["run_options"]),
    "nvidia_gpus": frozenset(["disable_ecc"]),
    "ssh": frozenset(["custom_metadata", "pod_config", "provision_timeout"]),
    "kubernetes": frozenset(
        ["custom_metadata", "pod_config", "provision_timeout", "dws", "kueue", "quota", "remote_identity",
         "enable_docker", "set_pod_resource_limits"]
    ),
    "azure": frozenset(["remote_identity", "vpc_name"]),
    "gcp": frozenset(
        ["vpc_name", "subnet_names", "managed_instance_group", "enable_gvnic", "enable_gpu_direct", "placement_policy"]
    ),
    "vast": frozenset(["datacenter_only", "create_instance_kwargs"]),
    "slurm": frozenset(["sbatch_options", "quota", "cpu_partition"]),
}  # fmt: skip
#: What may stand in a task's `config` beside those sections.
BESIDE = frozenset(["active_workspace", "hooks"])


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another: mappings merge, lists and scalars replace, null says nothing."""
    merged = dict(low)
    for key, value in high.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        elif value is not None:
            merged[key] = copy.deepcopy(value)
    return merged


def for_launch(client: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """What client and task lay over the server's settings, the task over the client.

    Raises InvalidSkyPilotConfigError for what a task may not say. What is the server's alone is left out of the
    client's: its files say it for its own server.
    """
    layers = {}
    for section, said in client.items():
        if section not in SERVER_ONLY and isinstance(said, Mapping):
            kept = SERVER_ONLY_KEYS.get(section, frozenset())
            layers[section] = {key: value for key, value in said.items() if key not in kept}
    return merge(layers, _of_task(task))


def _of_task(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for section, said in config.items():
        if section in BESIDE:
            continue
        allowed = OF_TASKS.get(section, frozenset())
        for key in said if isinstance(said, Mapping) else [None]:
            if key not in allowed:
                where = f"config.{section}" + (f".{key}" if key else "")
                may = ", ".join(sorted(allowed)) or f"sections {', '.join(sorted(OF_TASKS))}"
                raise InvalidSkyPilotConfigError(f"{where}: a task may not set this; allowed: {may}")
        found[section] = said
    return found
