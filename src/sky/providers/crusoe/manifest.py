"""What `infra: crusoe` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="crusoe",
    title="Crusoe Cloud",
    credentials=(
        "env:CRUSOE_ACCESS_KEY_ID",
        "file:~/.crusoe/config#access_key_id",
    ),
    fix=(
        "Make an access key in the Crusoe console.",
        "Run `crusoe config init`, or write `access_key_id` and `secret_key` under a profile of `~/.crusoe/config`.",
    ),
)
