"""What `infra: ovhcloud` is, and how a user gets in; loaded by the registry."""

from sky.providers.registry import Manifest

MANIFEST = Manifest(
    name="ovhcloud",
    title="OVHcloud",
    credentials=(
        "env:OVH_APPLICATION_KEY",
        "env:OVH_CLIENT_ID",
        "file:~/.ovh.conf",
    ),
    fix=(
        "Make an application key for the OVHcloud API.",
        "Write `application_key`, `application_secret` and `consumer_key` into `~/.ovh.conf`.",
    ),
    prices="sky.providers.ovhcloud.prices:rows",
)
