"""What `infra: runpod` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="runpod",
    title="RunPod",
    credentials=(
        "env:RUNPOD_API_KEY",
        "file:~/.runpod/config.toml",
    ),
    fix=(
        "Make an API key in the RunPod settings.",
        "Run `runpod config`, or set RUNPOD_API_KEY for the server.",
    ),
    offered=frozenset(["autodown", "controllers", "docker", "image", "ports", "spot"]),
    prices="sky.providers.runpod.prices:rows",
)
