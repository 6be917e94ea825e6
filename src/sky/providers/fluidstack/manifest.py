"""What `infra: fluidstack` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="fluidstack",
    title="Fluidstack",
    credentials=(
        "env:FLUIDSTACK_API_KEY",
        "file:~/.fluidstack/api_key",
    ),
    fix=(
        "Make an API key in the Fluidstack dashboard.",
        "Write it into `~/.fluidstack/api_key`, or set FLUIDSTACK_API_KEY for the server.",
    ),
    offered=frozenset(["autodown", "docker", "mounts", "multi_node", "ports"]),
    prices="sky.providers.fluidstack.prices:rows",
)
