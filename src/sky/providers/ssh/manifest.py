"""What `infra: ssh` is; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="ssh",
    title="pools of machines reached by SSH",
    capabilities=("compute", "multi_node", "autodown"),
    factory="sky.providers.ssh.compute:open_ssh",
    credentials=("file:~/.sky/ssh_node_pools.yaml",),
    fix=(
        "Name your machines in ~/.sky/ssh_node_pools.yaml, as `my-pool: {hosts: [host1, host2], user: me}`.",
        "See what they have: sky ssh up.",
    ),
    offered=frozenset(["autodown", "multi_node", "ports", "docker", "mounts", "controllers"]),
)
