"""What `infra: local` is; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="local",
    title="this machine",
    capabilities=("compute", "stop", "multi_node", "autostop", "autodown"),
    # A disk or a network of some tier is the machine's own, whatever it is: no reason to refuse a task.
    offered=frozenset(
        [
            "stop",
            "autostop",
            "autodown",
            "multi_node",
            "ports",
            "docker",
            "disk_tier",
            "network_tier",
            "local_disk",
            "mounts",
            "controllers",
        ]
    ),
    factory="sky.providers.local.compute:open_local",
)
