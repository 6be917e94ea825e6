"""``sky.volumes``: volumes, which are not built yet; the names are there and say so when called."""

from __future__ import annotations

from sky.compat.finding import beside
from sky.core.model.volumes import VolumeStatus
from sky.sdk.later import later

__all__ = [
    "VolumeStatus",
    "apply",
    "delete",
    "ls",
    "validate",
]

apply = later("sky.volumes.apply", "volumes")
validate = later("sky.volumes.validate", "volumes")
ls = later("sky.volumes.ls", "volumes")
delete = later("sky.volumes.delete", "volumes")

# Modules below this one, and names beside its own, that other versions of this interface have: see `sky/compat`.
__path__: list[str] = []
__getattr__ = beside("sky.volumes")
