"""What to ask for after a job had too little memory: a plain function of what was asked, what was seen, and the tries.

Called by whoever runs a job again (managed jobs); the wish is the task's ``on_oom``. Nothing is asked of a catalog
here: `sold` are the accelerators that it has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sky.core.model.accelerator_names import ACCELERATORS
from sky.core.model.accelerators import AcceleratorRequest
from sky.core.model.jobs import FailureCause
from sky.core.model.quantities import plain
from sky.core.model.resources import Resources
from sky.core.model.safeguards import OnOom

#: However a task wishes it, it grows no more often than this.
MOST_TRIES = 8
#: Memory of devices is told rounded by some and exactly by others.
_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Grown:
    """Run it again with these resources."""

    resources: Resources
    reason: str


@dataclass(frozen=True, slots=True)
class NoMore:
    """It would fail again: let it be."""

    reason: str


def after_oom(
    asked: Resources,
    wish: OnOom | None,
    cause: FailureCause,
    *,
    had_gb: float | None = None,
    tries: int = 0,
    sold: Collection[str] | None = None,
) -> Grown | NoMore:
    """What to ask for next.

    had_gb: memory (GiB) of the node that it ran on, where that is known. tries: how often it has grown already.
    sold: names of accelerators that can be had; None for all that are known.
    """
    if wish is None:
        return NoMore(f"{cause.value}: the task has no 'on_oom', so it is not tried with more")
    if tries >= MOST_TRIES:
        return NoMore(f"{cause.value}: it has grown {tries} times already")
    if asked.instance_type is not None:
        return NoMore(f"{cause.value}: the task asks for the type {asked.instance_type}, which has what it has")
    if cause is FailureCause.CUDA_OUT_OF_MEMORY:
        return _larger_device(asked, wish, sold)
    return _more_memory(asked, wish, had_gb)


def _more_memory(asked: Resources, wish: OnOom, had_gb: float | None) -> Grown | NoMore:
    if wish.grow is None:
        return NoMore("out_of_memory: on_oom says nothing of memory (grow)")
    before = max(_asked_gb(asked) or 0.0, had_gb or 0.0)
    if before <= 0:
        return NoMore("out_of_memory: neither the task nor the node tells how much memory there was; name 'memory'")
    after = before * wish.grow
    capped = wish.max_gb is not None and after > wish.max_gb
    if wish.max_gb is not None:
        after = min(after, wish.max_gb)
    if after <= before:
        return NoMore(f"out_of_memory: {before:g} GB were not enough, and on_oom.max allows {after:g} GB")
    text = f"out_of_memory with {before:g} GB: {after:g} GB" + (
        ", which is all that on_oom.max allows" if capped else ""
    )
    return Grown(asked.copy(memory=f"{plain(round(after, 3))}+"), text)


def _asked_gb(asked: Resources) -> float | None:
    """The memory that a node has at least; None where the request leaves it open."""
    memory = asked.memory
    if memory is None:
        return None
    if memory.endswith("x"):
        return float(memory[:-1]) * float(asked.cpus.rstrip("+")) if asked.cpus is not None else None
    return float(memory.rstrip("+"))


def _larger_device(asked: Resources, wish: OnOom, sold: Collection[str] | None) -> Grown | NoMore:
    if wish.gpu is None:
        return NoMore("cuda_out_of_memory: on_oom says nothing of the device (gpu: next)")
    request = asked.accelerator_request
    if request is None:
        return NoMore("cuda_out_of_memory: the task asks for no accelerator")
    vendor, memory = _device(request)
    if memory is None:
        return NoMore(f"cuda_out_of_memory: how much memory {request.name} has is not known")
    larger = sorted(
        each.memory_gib
        for each in ACCELERATORS.values()
        if each.memory_gib is not None
        and each.memory_gib > memory * (1 + _TOLERANCE)
        and (vendor is None or each.vendor == vendor)
        and (sold is None or each.name in sold)
    )
    if not larger:
        return NoMore(f"cuda_out_of_memory: no device with more than {memory:g} GB is known")
    wanted = f"{vendor + ':' if vendor else ''}{int(larger[0])}GB+:{plain(request.count)}"
    text = f"cuda_out_of_memory with {request.name} ({memory:g} GB): a device of {larger[0]:g} GB or more"
    return Grown(asked.copy(accelerators=wanted), text)


def _device(request: AcceleratorRequest) -> tuple[str | None, float | None]:
    """Vendor and memory (GiB) of one device that was asked for."""
    if request.is_filter:
        return request.vendor, request.min_memory_gb
    known = ACCELERATORS.get(request.name)
    return (known.vendor, known.memory_gib) if known is not None else (None, None)
