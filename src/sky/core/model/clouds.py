"""The names of all places with compute, as small values: ``sky.AWS()``, ``Resources(cloud=...)``.

These are names only: what a place can do and sells is known in its provider's folder. ``infra.py`` reads them from
texts, ``resources.py`` hands them out, and the porch shows them as ``sky.clouds``.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import ClassVar

from sky.core.model.schema import nearest


class Cloud:
    """A place with compute. Two of the same class are equal; ``str()`` gives the name that people read."""

    #: The name in ``infra:`` and in records.
    NAME: ClassVar[str] = ""
    #: The name in tables and messages.
    _REPR: ClassVar[str] = "Cloud"

    @classmethod
    def canonical_name(cls) -> str:
        """Return the name in ``infra:`` and in records, e.g. ``aws``."""
        return cls.NAME

    @classmethod
    def check_features_are_supported(cls, resources: object, requested_features: Iterable[object]) -> None:
        """Raise NotSupportedError for a feature that cannot be had there; programs of other versions ask this.

        `resources` makes no difference.
        """
        # What a place can do is known in its provider's folder, which this room does not know: found when asked for.
        import_module("sky.compat.features").check(cls.NAME, requested_features)

    def is_same_cloud(self, other: object) -> bool:
        """Say whether ``other`` names the same place."""
        return self == other

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(self.NAME)

    def __repr__(self) -> str:
        return self._REPR


class AWS(Cloud):
    """The cloud that ``infra: aws`` names."""

    NAME = "aws"
    _REPR = "AWS"


class Azure(Cloud):
    """The cloud that ``infra: azure`` names."""

    NAME = "azure"
    _REPR = "Azure"


class CoreWeave(Cloud):
    """The cloud that ``infra: coreweave`` names."""

    NAME = "coreweave"
    _REPR = "CoreWeave"


class Crusoe(Cloud):
    """The cloud that ``infra: crusoe`` names."""

    NAME = "crusoe"
    _REPR = "Crusoe"


class Cudo(Cloud):
    """The cloud that ``infra: cudo`` names."""

    NAME = "cudo"
    _REPR = "Cudo"


class DO(Cloud):
    """The cloud that ``infra: do`` names."""

    NAME = "do"
    _REPR = "DO"


class Fluidstack(Cloud):
    """The cloud that ``infra: fluidstack`` names."""

    NAME = "fluidstack"
    _REPR = "Fluidstack"


class GCP(Cloud):
    """The cloud that ``infra: gcp`` names."""

    NAME = "gcp"
    _REPR = "GCP"


class Hetzner(Cloud):
    """The cloud that ``infra: hetzner`` names."""

    NAME = "hetzner"
    _REPR = "Hetzner"


class Hyperbolic(Cloud):
    """The cloud that ``infra: hyperbolic`` names."""

    NAME = "hyperbolic"
    _REPR = "Hyperbolic"


class IBM(Cloud):
    """The cloud that ``infra: ibm`` names."""

    NAME = "ibm"
    _REPR = "IBM"


class Kubernetes(Cloud):
    """Kubernetes clusters: ``infra: k8s/context``."""

    NAME = "kubernetes"
    _REPR = "Kubernetes"


class Lambda(Cloud):
    """The cloud that ``infra: lambda`` names."""

    NAME = "lambda"
    _REPR = "Lambda"


class Local(Cloud):
    """This very machine."""

    NAME = "local"
    _REPR = "Local"


class Mithril(Cloud):
    """The cloud that ``infra: mithril`` names."""

    NAME = "mithril"
    _REPR = "Mithril"


class Nebius(Cloud):
    """The cloud that ``infra: nebius`` names."""

    NAME = "nebius"
    _REPR = "Nebius"


class OCI(Cloud):
    """The cloud that ``infra: oci`` names."""

    NAME = "oci"
    _REPR = "OCI"


class OVHcloud(Cloud):
    """The cloud that ``infra: ovhcloud`` names."""

    NAME = "ovhcloud"
    _REPR = "OVHcloud"


class Paperspace(Cloud):
    """The cloud that ``infra: paperspace`` names."""

    NAME = "paperspace"
    _REPR = "Paperspace"


class PrimeIntellect(Cloud):
    """The cloud that ``infra: primeintellect`` names."""

    NAME = "primeintellect"
    _REPR = "PrimeIntellect"


class RunPod(Cloud):
    """The cloud that ``infra: runpod`` names."""

    NAME = "runpod"
    _REPR = "RunPod"


class SCP(Cloud):
    """The cloud that ``infra: scp`` names."""

    NAME = "scp"
    _REPR = "SCP"


class SSH(Cloud):
    """Pools of machines reached by SSH: ``infra: ssh/pool``."""

    NAME = "ssh"
    _REPR = "SSH"


class Scaleway(Cloud):
    """The cloud that ``infra: scaleway`` names."""

    NAME = "scaleway"
    _REPR = "Scaleway"


class Seeweb(Cloud):
    """The cloud that ``infra: seeweb`` names."""

    NAME = "seeweb"
    _REPR = "Seeweb"


class Shadeform(Cloud):
    """The cloud that ``infra: shadeform`` names."""

    NAME = "shadeform"
    _REPR = "Shadeform"


class Slurm(Cloud):
    """Slurm clusters: ``infra: slurm/cluster/partition``."""

    NAME = "slurm"
    _REPR = "Slurm"


class Vast(Cloud):
    """The cloud that ``infra: vast`` names."""

    NAME = "vast"
    _REPR = "Vast"


class Verda(Cloud):
    """The cloud that ``infra: verda`` names."""

    NAME = "verda"
    _REPR = "Verda"


class Vsphere(Cloud):
    """The cloud that ``infra: vsphere`` names."""

    NAME = "vsphere"
    _REPR = "vSphere"


class Vultr(Cloud):
    """The cloud that ``infra: vultr`` names."""

    NAME = "vultr"
    _REPR = "Vultr"


class Yotta(Cloud):
    """The cloud that ``infra: yotta`` names."""

    NAME = "yotta"
    _REPR = "Yotta"


K8s = Kubernetes

#: Other words under which a place is known.
_ALIASES = {
    "k8s": "kubernetes",
    "google": "gcp",
    "amazon": "aws",
    "digitalocean": "do",
    "prime": "primeintellect",
    "ovh": "ovhcloud",
}

_BY_NAME: dict[str, type[Cloud]] = {cls.NAME: cls for cls in Cloud.__subclasses__()}

#: Every known name, sorted.
CLOUD_NAMES: tuple[str, ...] = tuple(sorted(_BY_NAME))


def cloud_named(name: str) -> Cloud:
    """Return the cloud of a name, whatever its case, or raise ``ValueError`` with the nearest name."""
    key = name.strip().lower()
    key = _ALIASES.get(key, key)
    if key not in _BY_NAME:
        hint = nearest(key, [*CLOUD_NAMES, *_ALIASES])
        ask = f"did you mean '{hint}'? " if hint else ""
        raise ValueError(f"found the cloud '{name[:60]}'; {ask}allowed: {', '.join(CLOUD_NAMES)}")
    return _BY_NAME[key]()


class CloudRegistry:
    """Finds clouds by name; shown as ``sky.CLOUD_REGISTRY``."""

    def from_str(self, name: str | None) -> Cloud | None:
        """Return the cloud of a name (``None`` for ``None``) or raise ``ValueError``."""
        return None if name is None else cloud_named(name)

    def values(self) -> list[Cloud]:
        """Return one of each known cloud."""
        return [_BY_NAME[name]() for name in CLOUD_NAMES]


CLOUD_REGISTRY = CloudRegistry()
