"""What `infra: verda` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="verda",
    title="Verda",
    credentials=(
        "env:VERDA_CLIENT_ID",
        "file:~/.verda/config.json#client_id",
    ),
    fix=(
        "Make API credentials in the Verda console.",
        "Write `client_id` and `client_secret` into `~/.verda/config.json`.",
    ),
    offered=frozenset(),
    prices="sky.providers.verda.prices:rows",
)
