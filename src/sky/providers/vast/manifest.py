"""What `infra: vast` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="vast",
    title="Vast.ai",
    credentials=(
        "env:VAST_API_KEY",
        "file:~/.config/vastai/vast_api_key",
        "file:~/.vast_api_key",
    ),
    fix=(
        "Make an API key in the Vast.ai account page.",
        "Run `vastai set api-key KEY`, which writes `~/.config/vastai/vast_api_key`.",
    ),
    offered=frozenset(["autodown", "autostop", "controllers", "docker", "image", "ports", "spot", "stop"]),
    prices="sky.providers.vast.prices:rows",
)
