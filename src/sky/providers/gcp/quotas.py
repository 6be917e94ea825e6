"""How many machines of an offer a region's quotas leave. Asked before anything is requested; knows nothing for sure.

Google counts by metric (`CPUS`, `NVIDIA_T4_GPUS`, `PREEMPTIBLE_…`); a metric that a region does not list does not
count there, or is kept elsewhere (that is so for the newest GPUs).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sky.core.model.offers import Offer
from sky.providers.gcp.shapes import shape

#: Families that share one metric of vCPUs, and those with their own.
_OWN_CPUS: Mapping[str, str] = {
    "a2": "A2_CPUS",
    "c2": "C2_CPUS",
    "c2d": "C2D_CPUS",
    "c3": "C3_CPUS",
    "m1": "M1_CPUS",
    "m2": "M2_CPUS",
    "m3": "M3_CPUS",
    "n2": "N2_CPUS",
    "n2d": "N2D_CPUS",
    "t2a": "T2A_CPUS",
    "t2d": "T2D_CPUS",
}
_SHARED_CPUS = frozenset(["e2", "n1", "f1", "g1"])
GPUS: Mapping[str, str] = {
    "A100": "NVIDIA_A100_GPUS",
    "A100-80GB": "NVIDIA_A100_80GB_GPUS",
    "H100": "NVIDIA_H100_GPUS",
    "K80": "NVIDIA_K80_GPUS",
    "L4": "NVIDIA_L4_GPUS",
    "P100": "NVIDIA_P100_GPUS",
    "P4": "NVIDIA_P4_GPUS",
    "T4": "NVIDIA_T4_GPUS",
    "V100": "NVIDIA_V100_GPUS",
}


def room(offer: Offer, quotas: object) -> int | None:
    """Nodes of an offer that a region's quotas (`regions.get`) leave; None where none of them counts it."""
    free = dict(_free(quotas if isinstance(quotas, list) else ()))
    left: list[int] = []
    for metric, each in _needs(offer).items():
        known = free.get(metric)
        # Who never asked for a quota of spot machines has none of 0: they are counted with the others.
        if offer.use_spot and (spot := free.get(f"PREEMPTIBLE_{metric}")) is not None and spot[0] > 0:
            known = spot
        if known is not None:
            left.append(int(max(0.0, known[0] - known[1]) // each))
    return min(left) if left else None


def _needs(offer: Offer) -> Mapping[str, float]:
    """What one node counts for, by metric."""
    made = shape(offer)
    needs = {"INSTANCES": 1.0}
    metric = "CPUS" if made.family in _SHARED_CPUS else _OWN_CPUS.get(made.family)
    if metric is not None and offer.cpus > 0:
        needs[metric] = offer.cpus
    for gpu, count in offer.accelerators.items():
        if gpu in GPUS and count > 0:
            needs[GPUS[gpu]] = count
    return needs


def _free(quotas: Sequence[Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    for each in quotas:
        if isinstance(each, Mapping) and isinstance(each.get("metric"), str):
            limit, usage = each.get("limit"), each.get("usage", 0)
            if isinstance(limit, int | float) and isinstance(usage, int | float):
                yield each["metric"], (float(limit), float(usage))
