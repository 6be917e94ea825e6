"""What `infra: cudo` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="cudo",
    title="Cudo Compute",
    credentials=(
        "env:CUDO_API_KEY",
        "file:~/.config/cudo/cudo.yml",
    ),
    fix=(
        "Make an API key in the Cudo console.",
        "Install cudoctl and run `cudoctl init`; it writes `~/.config/cudo/cudo.yml`.",
    ),
    offered=frozenset(["autodown", "mounts", "multi_node", "ports"]),
    prices="sky.providers.cudo.prices:rows",
)
