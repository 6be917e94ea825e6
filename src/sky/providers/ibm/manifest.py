"""What `infra: ibm` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="ibm",
    title="IBM Cloud",
    credentials=(
        "env:IBMCLOUD_API_KEY",
        "file:~/.ibm/credentials.yaml",
    ),
    fix=(
        "Make an API key under Manage, Access (IAM).",
        "Write `iam_api_key` and `resource_group_id` into `~/.ibm/credentials.yaml`.",
    ),
    offered=frozenset(["autodown", "autostop", "controllers", "image", "mounts", "multi_node", "stop"]),
)
