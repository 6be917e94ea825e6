"""What `infra: seeweb` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="seeweb",
    title="Seeweb",
    credentials=("file:~/.seeweb_cloud/seeweb_keys",),
    fix=(
        "Make an API token in the Seeweb cloud center.",
        "Write the line `api_key = TOKEN` under `[DEFAULT]` into `~/.seeweb_cloud/seeweb_keys`.",
    ),
    offered=frozenset(["autodown", "autostop", "docker", "ports", "stop"]),
    prices="sky.providers.seeweb.prices:rows",
)
