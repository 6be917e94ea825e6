"""How settings are laid over one another, and which of them a client or a task may lay over the server's own.

`wire.config` merges files with it, the engine the layers that travel with a request.
"""

import copy
from collections.abc import Mapping
from typing import Any

#: Settings that are the server's alone: a client's do not reach it.
SERVER_ONLY = frozenset(
    ["api_server", "allowed_clouds", "workspaces", "workspace_config", "rbac", "db", "daemons", "metrics", "catalog",
     "dashboard", "plugins", "admin_policy", "encryption", "telemetry"]
)  # fmt: skip
#: The same for single keys of a section.
SERVER_ONLY_KEYS = {
    "slurm": frozenset(["cluster_configs", "submit_as_user", "username_map"]),
    "jobs": frozenset(
        [
            "consolidation_mode",
            "launches_at_once",
            "running_at_once",
            "running_per_user",
            "running_per_workspace",
            "contact_lease",
            "orphan_after",
        ]
    ),
    "serve": frozenset(["consolidation_mode"]),
}
#: Sections about the server's machine and its catalog: plans are made of what its own file says of them.
PLANNED_BY_SERVER = ("local", "catalog")
#: Of the settings of places, what users may lay over the server's who are no admins: what their own machines are like.
#: Under whose account they are made, which role they get, by what command they are reached from the server: not these.
FOR_USERS = {
    "aws": frozenset(
        ["vpc_name", "vpc_names", "subnet_names", "use_internal_ips", "disk_encrypted", "prioritize_reservations",
         "specific_reservations", "labels", "post_provision_runcmd"]
    ),
    "gcp": frozenset(
        ["vpc_name", "subnet_names", "use_internal_ips", "prioritize_reservations", "specific_reservations",
         "managed_instance_group", "placement_policy", "enable_gvnic", "enable_gpu_direct", "labels"]
    ),
    "azure": frozenset(["vpc_name"]),
    "vast": frozenset(["datacenter_only"]),
    "slurm": frozenset(["provision_timeout", "sbatch_options", "quota", "cpu_partition"]),
    "ssh": frozenset(["provision_timeout"]),
    "kubernetes": frozenset(["provision_timeout", "dws", "kueue", "quota"]),
    "provision": frozenset(["hedge", "ssh_timeout"]),
    "docker": frozenset(["run_options"]),
    "nvidia_gpus": frozenset(["disable_ecc"]),
}  # fmt: skip
#: What stands in a task's `config` beside sections of the configuration.
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


def for_launch(client: Mapping[str, Any], task: Mapping[str, Any], *, everything: bool = True) -> dict[str, Any]:
    """What client and task lay over the server's settings, the task over the client.

    What is the server's alone is left out of the client's: its files say it for its own server. What a task may say
    is held to `core.model.fields` when the task is read. Without `everything`, no more is left of either than users may
    say who are no admins.
    """
    layers = {}
    for section, said in client.items():
        if section not in SERVER_ONLY and isinstance(said, Mapping):
            kept = SERVER_ONLY_KEYS.get(section, frozenset())
            layers[section] = {key: value for key, value in said.items() if key not in kept}
    merged = merge(layers, {section: said for section, said in task.items() if section not in BESIDE})
    if everything:
        return merged
    return {
        section: {key: value for key, value in said.items() if key in FOR_USERS[section]}
        for section, said in merged.items()
        if section in FOR_USERS and isinstance(said, Mapping)
    }
