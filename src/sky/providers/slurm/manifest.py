"""What `infra: slurm` is; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="slurm",
    title="Slurm clusters",
    capabilities=("compute", "multi_node", "autodown"),
    factory="sky.providers.slurm.compute:open_slurm",
    credentials=("file:~/.slurm/config",),
    fix=(
        "Name the login node of your cluster in ~/.slurm/config, in the syntax of ~/.ssh/config: `Host my-cluster`, "
        "then `HostName`, `User` and `IdentityFile`.",
        "See that it answers: sky check slurm.",
    ),
    offered=frozenset(["autodown", "multi_node"]),
)
