"""What `infra: gcp` is, and how a user gets in; loaded by the registry."""

from sky.core.model.place_rules import PlaceRules
from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="gcp",
    title="Google Cloud",
    capabilities=("compute",),
    factory="sky.providers.gcp.compute:open_gcp",
    credentials=(
        "env-file:GOOGLE_APPLICATION_CREDENTIALS",
        "file:~/.config/gcloud/application_default_credentials.json",
    ),
    fix=(
        "Install the Google Cloud command line.",
        "Run `gcloud auth application-default login`.",
        "Choose the project that pays: `gcloud config set project ID`.",
        "Enable the Compute Engine API of that project.",
    ),
    offered=frozenset(
        [
            "autodown",
            "autostop",
            "clone_disk",
            "controllers",
            "disk_tier",
            "docker",
            "image",
            "mounts",
            "multi_node",
            "network_tier",
            "ports",
            "spot",
            "stop",
        ]
    ),
    prices="sky.providers.gcp.prices:rows",
    rules=PlaceRules(label_key=r"[a-z][a-z0-9_-]{0,62}", label_value=r"[a-z0-9_-]{0,63}"),
)
