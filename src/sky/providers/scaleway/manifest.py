"""What `infra: scaleway` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="scaleway",
    title="Scaleway",
    credentials=(
        "env:SCW_SECRET_KEY",
        "file:~/.config/scw/config.yaml#secret_key",
    ),
    fix=(
        "Make an API key in the Scaleway console.",
        "Install the scw command line and run `scw init`.",
    ),
    prices="sky.providers.scaleway.prices:rows",
)
