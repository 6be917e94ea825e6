"""What places can do, as programs ask for it: `cloud.check_features_are_supported` and `sky.clouds.CloudCapability`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from importlib.metadata import entry_points

from sky.core.errors import not_supported


class CloudCapability(Enum):
    """What credentials are good for."""

    COMPUTE = "compute"
    STORAGE = "storage"


class CloudImplementationFeatures(Enum):
    """What a place may have or lack; the value is the word of the provider's manifest."""

    STOP = "stop"
    AUTOSTOP = "autostop"
    AUTO_TERMINATE = "autodown"
    MULTI_NODE = "multi_node"
    CLONE_DISK_FROM_CLUSTER = "clone_disk"
    IMAGE_ID = "image"
    DOCKER_IMAGE = "docker"
    SPOT_INSTANCE = "spot"
    CUSTOM_DISK_TIER = "disk_tier"
    CUSTOM_NETWORK_TIER = "network_tier"
    OPEN_PORTS = "ports"
    STORAGE_MOUNTING = "mounts"
    HOST_CONTROLLERS = "controllers"
    LOCAL_DISK = "local_disk"


def check(cloud: str, requested: Iterable[object]) -> None:
    """Return if the provider of that name can do all that is asked; raises NotSupportedError with what it cannot.

    What it can is what this version does there (`capabilities` of its manifest) and, of what nobody has to do anything
    for, what the place itself has (`offered`).
    """
    for entry in entry_points(group="sky.providers", name=cloud):
        manifest = entry.load()
        does, has = set(manifest.capabilities), set(manifest.offered or ())
        break
    else:
        does, has = set(), set()
    words = {str(getattr(each, "value", each)) for each in requested}
    can = does | (has - {"stop", "autostop", "autodown", "multi_node", "spot"} if "compute" in does else set())
    missing = sorted(words - can)
    if missing:
        raise not_supported(", ".join(missing), cloud)
