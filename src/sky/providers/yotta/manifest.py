"""What `infra: yotta` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="yotta",
    title="Yotta",
    credentials=("file:~/.yotta/credentials",),
    fix=(
        "Make an API key in the Yotta console.",
        "Write your user id and the key into `~/.yotta/credentials`.",
    ),
    offered=frozenset(["docker", "image", "ports"]),
)
