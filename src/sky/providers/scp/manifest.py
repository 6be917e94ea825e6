"""What `infra: scp` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="scp",
    title="Samsung Cloud Platform",
    credentials=("file:~/.scp/scp_credential",),
    fix=(
        "Make an access key in the console of Samsung Cloud Platform.",
        "Write `access_key`, `secret_key` and `project_id` into `~/.scp/scp_credential`.",
    ),
    offered=frozenset(["autodown", "autostop", "controllers", "mounts", "multi_node", "ports", "stop"]),
)
