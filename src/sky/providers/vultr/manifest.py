"""What `infra: vultr` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="vultr",
    title="Vultr",
    credentials=(
        "env:VULTR_API_KEY",
        "file:~/.vultr-cli.yaml#api-key",
    ),
    fix=(
        "Enable the API in the Vultr customer portal, and allow the address of this machine.",
        "Set VULTR_API_KEY for the server, or write `api-key: KEY` into `~/.vultr-cli.yaml`.",
    ),
    prices="sky.providers.vultr.prices:rows",
)
