"""What `infra: nebius` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="nebius",
    title="Nebius",
    credentials=(
        "env:NEBIUS_IAM_TOKEN",
        "file:~/.nebius/NEBIUS_IAM_TOKEN.txt",
        "file:~/.nebius/credentials.json",
    ),
    fix=(
        "Install the Nebius command line and run `nebius profile create`.",
        "Make a service account with an authorized key and save it as `~/.nebius/credentials.json`.",
        "Write the id of your tenant into `~/.nebius/NEBIUS_TENANT_ID.txt`.",
    ),
    offered=frozenset(
        [
            "autodown",
            "autostop",
            "controllers",
            "disk_tier",
            "docker",
            "image",
            "mounts",
            "multi_node",
            "network_tier",
            "ports",
            "spot",
            "stop",
        ]
    ),
)
