"""What `infra: primeintellect` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="primeintellect",
    title="Prime Intellect",
    credentials=(
        "env:PRIME_API_KEY",
        "env:PRIME_INTELLECT_API_KEY",
        "file:~/.prime/config.json#api_key",
    ),
    fix=(
        "Make an API key in the Prime Intellect dashboard.",
        "Install the prime command line and run `prime config set-api-key`.",
    ),
    offered=frozenset(["ports"]),
    prices="sky.providers.primeintellect.prices:rows",
)
