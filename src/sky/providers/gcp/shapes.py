"""What an instance type of the catalog is in Google's words: machine type, attached GPUs, disks that fit, scheduling.

The catalog writes N1 with GPUs as one type (`n1-standard-8+T4:1`); all other GPUs are a part of their machine type.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sky.core.errors import RequestInvalid
from sky.core.model.offers import Offer

#: What can be attached, by our names.
ATTACHED: Mapping[str, str] = {
    "T4": "nvidia-tesla-t4",
    "V100": "nvidia-tesla-v100",
    "P100": "nvidia-tesla-p100",
    "P4": "nvidia-tesla-p4",
    "K80": "nvidia-tesla-k80",
}
_ATTACHING = "n1"
#: Families that take Hyperdisk only.
_HYPERDISK = frozenset(["a4", "a4x", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "n4a", "n4d", "x4"])
#: Families without the slowest kind of disk.
_NO_STANDARD = frozenset(["a3", "c3", "c3d", "g2", "h3", "m3", "z3"])
#: Families with the fastest kind of disk that is no Hyperdisk.
_EXTREME = frozenset(["m1", "m2", "m3", "n2"])
#: Families whose network can be widened, from so many vCPUs on.
_WIDE = frozenset(["c2", "c2d", "c3", "c3d", "c4", "c4d", "m3", "n2", "n2d", "z3"])
_WIDE_CPUS = 30.0
_EXTREME_IOPS = 20_000
_TIERS = ("low", "medium", "high", "ultra", "best")


@dataclass(frozen=True, slots=True)
class Shape:
    """An instance type as Google names its parts. `attached` is the GPU to attach (official name) and how many."""

    machine_type: str
    family: str
    cpus: float
    arch: str
    gpu: str | None = None
    attached: tuple[str, int] | None = None
    spot: bool = False
    features: frozenset[str] = field(default_factory=frozenset)

    @property
    def hyperdisk(self) -> bool:
        """Whether the machine takes no other disks."""
        return self.family in _HYPERDISK or self.machine_type.startswith("a3-ultragpu")

    @property
    def wide(self) -> bool:
        """Whether the machine's network can be widened."""
        return self.family in _WIDE and self.cpus >= _WIDE_CPUS


def shape(offer: Offer) -> Shape:
    """Raises RequestInvalid for an accelerator that cannot be attached."""
    machine_type = offer.instance_type.partition("+")[0]
    family = machine_type.partition("-")[0]
    gpu, count = next(iter(offer.accelerators.items()), (None, 0.0))
    attached = None
    if gpu is not None and family == _ATTACHING:
        official = ATTACHED.get(gpu)
        if official is None:
            known = ", ".join(ATTACHED)
            raise RequestInvalid(
                f"{gpu} cannot be attached to {machine_type}; attachable: {known}", scope="instance_type"
            )
        attached = (official, int(count))
    return Shape(machine_type, family, offer.cpus, offer.arch, gpu, attached, offer.use_spot, offer.features)


def is_tpu(offer: Offer) -> bool:
    """Whether an offer is a TPU, which another interface of Google makes."""
    return offer.instance_type.startswith("tpu-")


def disk(made: Shape, tier: str | None, zone: str) -> dict[str, Any]:
    """The kind of boot disk for a tier of the interface, as fields of `initializeParams`. Raises RequestInvalid."""
    wanted = (tier or "medium").lower()
    if wanted not in _TIERS:
        raise RequestInvalid(f"disk tier {wanted!r} is not known; allowed: {', '.join(_TIERS)}")
    if made.hyperdisk:
        return _hyperdisk(wanted, zone)
    extreme = made.family in _EXTREME
    if wanted == "best":
        wanted = "ultra" if extreme else "high"
    if wanted == "ultra" and not extreme:
        families = ", ".join(sorted(_EXTREME))
        raise RequestInvalid(
            f"{made.machine_type} takes no disk of tier ultra (families that do: {families}); ask for high or best",
            scope="instance_type",
        )
    if wanted == "low" and made.family in _NO_STANDARD:
        wanted = "medium"
    kind = {"low": "pd-standard", "medium": "pd-balanced", "high": "pd-ssd", "ultra": "pd-extreme"}[wanted]
    more = {"provisionedIops": str(_EXTREME_IOPS)} if kind == "pd-extreme" else {}
    return {"diskType": f"zones/{zone}/diskTypes/{kind}", **more}


def _hyperdisk(tier: str, zone: str) -> dict[str, Any]:
    """One kind for all tiers, bought faster: the others cannot be booted from."""
    made: dict[str, Any] = {"diskType": f"zones/{zone}/diskTypes/hyperdisk-balanced"}
    # The first step is what comes without asking; the throughput is in MiB/s.
    bought = {"high": (15_000, 600), "ultra": (50_000, 1_200), "best": (50_000, 1_200)}.get(tier)
    if bought is not None:
        made["provisionedIops"], made["provisionedThroughput"] = str(bought[0]), str(bought[1])
    return made


def scheduling(made: Shape, *, still: bool = False) -> dict[str, Any]:
    """How Google may treat the machine. `still`: it may not be moved (in a compact group, for one).

    A machine that Google ended is not started again behind our back, without its agent. A spot machine is deleted
    when it is taken, so that its disk costs nothing; a user's own stop keeps it all the same.
    """
    rules: dict[str, Any] = {"automaticRestart": False}
    if made.spot:
        return rules | {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
        }
    moved = made.gpu is None and not still and made.family not in ("h3", "h4d", "z3")
    return rules | {"provisioningModel": "STANDARD", "onHostMaintenance": "MIGRATE" if moved else "TERMINATE"}
