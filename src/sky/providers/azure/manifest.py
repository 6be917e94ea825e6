"""What `infra: azure` is, and how a user gets in; loaded by the registry."""

from sky.core.model.place_rules import PlaceRules
from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="azure",
    title="Microsoft Azure",
    credentials=(
        "env:AZURE_CLIENT_SECRET",
        "env:AZURE_CLIENT_CERTIFICATE_PATH",
        "file:~/.azure/msal_token_cache.json",
        "file:~/.azure/msal_token_cache.bin",
        "file:~/.azure/service_principal_entries.json",
    ),
    fix=(
        "Install the Azure command line (pip install azure-cli).",
        "Run `az login`.",
        "Choose the subscription that pays: `az account set --subscription ID`.",
    ),
    offered=frozenset(
        [
            "autodown",
            "autostop",
            "controllers",
            "disk_tier",
            "docker",
            "image",
            "mounts",
            "multi_node",
            "ports",
            "spot",
            "stop",
        ]
    ),
    prices="sky.providers.azure.prices:rows",
    rules=PlaceRules(label_key=r"[^<>%&\\?/]{1,512}", label_value=r"[^\0]{0,256}"),
)
