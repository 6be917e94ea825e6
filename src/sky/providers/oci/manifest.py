"""What `infra: oci` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="oci",
    title="Oracle Cloud Infrastructure",
    credentials=(
        "env-file:OCI_CLI_CONFIG_FILE",
        "file:~/.oci/config",
    ),
    fix=(
        "Make an API signing key in your profile of the Oracle console.",
        "Save what the console shows as `~/.oci/config`, and the key beside it.",
        "See that `oci iam region list` answers.",
    ),
    offered=frozenset(
        [
            "autodown",
            "autostop",
            "controllers",
            "disk_tier",
            "image",
            "mounts",
            "multi_node",
            "network_tier",
            "ports",
            "spot",
            "stop",
        ]
    ),
    prices="sky.providers.oci.prices:rows",
)
