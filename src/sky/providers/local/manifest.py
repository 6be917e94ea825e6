"""What `infra: local` is; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="local",
    title="this machine",
    capabilities=("compute", "stop", "multi_node", "autostop", "autodown"),
    factory="sky.providers.local.compute:open_local",
)
