"""What `infra: shadeform` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="shadeform",
    title="Shadeform",
    credentials=(
        "env:SHADEFORM_API_KEY",
        "file:~/.shadeform/api_key",
    ),
    fix=(
        "Make an API key in the Shadeform settings.",
        "Write it into `~/.shadeform/api_key`, or set SHADEFORM_API_KEY for the server.",
    ),
    offered=frozenset(["autodown", "ports"]),
    prices="sky.providers.shadeform.prices:rows",
)
