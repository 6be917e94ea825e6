"""What `infra: hetzner` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="hetzner",
    title="Hetzner Cloud",
    credentials=(
        "env:HCLOUD_TOKEN",
        "file:~/.config/hcloud/cli.toml#token",
    ),
    fix=(
        "Make an API token in the project's security settings of the Hetzner console.",
        "Run `hcloud context create NAME` with it, or set HCLOUD_TOKEN for the server.",
    ),
    prices="sky.providers.hetzner.prices:rows",
)
