"""What `infra: hyperbolic` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="hyperbolic",
    title="Hyperbolic",
    credentials=(
        "env:HYPERBOLIC_API_KEY",
        "file:~/.hyperbolic/api_key",
    ),
    fix=(
        "Make an API key in the Hyperbolic settings.",
        "Write it into `~/.hyperbolic/api_key`.",
    ),
    offered=frozenset(),
    prices="sky.providers.hyperbolic.prices:rows",
)
