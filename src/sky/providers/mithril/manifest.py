"""What `infra: mithril` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="mithril",
    title="Mithril",
    credentials=(
        "env:MITHRIL_API_KEY",
        "file:~/.config/mithril/config.yaml",
    ),
    fix=(
        "Make an API key in the Mithril console.",
        "Set MITHRIL_API_KEY for the server, or write it into `~/.config/mithril/config.yaml`.",
    ),
    offered=frozenset(["autodown", "autostop", "docker", "mounts", "multi_node", "spot", "stop"]),
    prices="sky.providers.mithril.prices:rows",
)
