"""What `infra: paperspace` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="paperspace",
    title="Paperspace",
    credentials=(
        "env:PAPERSPACE_API_KEY",
        "file:~/.paperspace/config.json",
    ),
    fix=(
        "Make an API key in the Paperspace team settings.",
        'Write {"apiKey": "KEY"} into `~/.paperspace/config.json`.',
    ),
    offered=frozenset(["autodown", "autostop", "controllers", "docker", "mounts", "multi_node", "ports", "stop"]),
)
