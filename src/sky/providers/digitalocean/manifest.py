"""What `infra: do` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="do",
    title="DigitalOcean",
    credentials=(
        "env:DIGITALOCEAN_ACCESS_TOKEN",
        "env:DIGITALOCEAN_TOKEN",
        "file:~/.config/doctl/config.yaml#access-token",
    ),
    fix=(
        "Make a personal access token in the DigitalOcean control panel.",
        "Install doctl and run `doctl auth init` with the token.",
    ),
    offered=frozenset(
        ["autodown", "autostop", "controllers", "docker", "image", "mounts", "multi_node", "ports", "stop"]
    ),
    prices="sky.providers.digitalocean.prices:rows",
)
