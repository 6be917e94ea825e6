"""What machines of a placement are to have, out of the task that they are for. The engine asks when it provisions."""

from collections.abc import Mapping
from dataclasses import replace

from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Placement
from sky.core.model.recorded import recorded_task
from sky.core.model.resources import Resources
from sky.core.optimizer.shortfall import shortfall

CONTAINER = "docker:"


def answered(alternatives: tuple[Resources, ...], placement: Placement) -> Resources:
    """Which of a task's alternatives a placement answers: the first that it meets."""
    if len(alternatives) == 1:
        return alternatives[0]
    lent = replace(
        placement.offer, cpus=placement.cpus, memory_gb=placement.memory_gb, accelerators=dict(placement.accelerators)
    )
    return next((each for each in alternatives if shortfall(each, lent) is None), alternatives[0])


def image_in(resources: Resources, region: str) -> str | None:
    """The image asked for in a region, of whatever kind; None where the task leaves it open."""
    images = resources.image_id or {}
    return images.get(region, images.get(None))


def container(resources: Resources, region: str) -> str | None:
    """The container image that jobs are to run in, without its prefix."""
    image = image_in(resources, region)
    return image.removeprefix(CONTAINER) if image is not None and image.startswith(CONTAINER) else None


def equipment(task_config: Mapping[str, object], placement: Placement, clone_of: str | None = None) -> MachineSpec:
    """The machines' equipment; all defaults where the task says nothing of it."""
    asked = answered(recorded_task(task_config).resources, placement)
    image = image_in(asked, placement.offer.region)
    return MachineSpec(
        disk_size_gb=asked.disk_size,
        disk_tier=asked.disk_tier.value if asked.disk_tier else None,
        network_tier=asked.network_tier.value if asked.network_tier else None,
        image=None if image is None or image.startswith(CONTAINER) else image,
        clone_of=clone_of,
        ports=tuple(asked.ports or ()),
        labels=dict(asked.labels or {}),
    )
