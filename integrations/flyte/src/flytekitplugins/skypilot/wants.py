"""What a task asks for, in our words: its container's requests, accelerator, variables, secrets. Asked by `connector`.

Plain functions of a task's template and of what the engine tells about the execution.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from flytekit import current_context
from flytekit.configuration import DefaultImages
from flytekit.models.task import Container, TaskTemplate
from flytekit.models.task import Resources as Requested

from flytekitplugins.skypilot.config import SkyPilot

#: Flyte's names of devices that are not ours with something in front.
_DEVICES = {
    "nvidia-tesla-k80": "K80",
    "nvidia-tesla-p4": "P4",
    "nvidia-tesla-p100": "P100",
    "nvidia-tesla-t4": "T4",
    "nvidia-tesla-v100": "V100",
    "nvidia-tesla-a100": "A100",
    "nvidia-a100-80gb": "A100-80GB",
    "nvidia-a10g": "A10G",
    "nvidia-l4": "L4",
    "nvidia-l40s": "L40S",
    "nvidia-h100": "H100",
    "nvidia-h200": "H200",
    "nvidia-rtx-pro-6000": "RTXPRO6000",
    "nvidia-l4-vws": "L4",
    "tpu-v5-lite-podslice": "tpu-v5litepod",
    "tpu-v5p-slice": "tpu-v5p",
    "tpu-v6e-slice": "tpu-v6e",
}

#: How flytekit's own images are called, which stand in the template of a task for which nobody chose one. Those of
#: another flytekit or Python than the connector's are meant by it, too.
_DEFAULT_IMAGE = "cr.flyte.org/flyteorg/flytekit:"

#: Settings of flytekit's access to object stores, which a node needs as much as the connector.
_STORE = re.compile(r"FLYTE_(AWS|GCP|AZURE|AZURE_STORAGE)_[A-Z0-9_]+")
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL")

_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][0-9]+)?)\s*([A-Za-z]*)\s*")


def quantity(text: str) -> float:
    """A quantity of Kubernetes (`500m`, `2`, `4Gi`) as a number. Raises ValueError."""
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"'{text[:40]}' is no quantity; 2, 500m and 4Gi are")
    return float(found[1]) * _UNITS[found[2]]


def resources(config: SkyPilot, template: TaskTemplate) -> dict[str, Any]:
    """What stands under `resources` of the task file. What the configuration says wins. Raises ValueError."""
    wanted: dict[str, Any] = {}
    container = template.container
    if container is not None:
        wanted.update(_sizes(container))
        gpus = _entry(container, Requested.ResourceName.GPU)
        kind = _device(template)
        if kind is not None:
            wanted["accelerators"] = {kind: _plain(quantity(gpus)) if gpus else 1}
        elif gpus and not _names_accelerators(config.resources or {}):
            raise ValueError(
                f"gpu={gpus} does not say which: give @task(accelerator=…) or SkyPilot(resources={{'accelerators': …}})"
            )
    spot = config.use_spot if config.use_spot is not None else bool(template.metadata.interruptible)
    if spot:
        wanted["use_spot"] = True
    image = image_of(config, template)
    if image is not None:
        wanted["image_id"] = image if image.startswith("docker:") else f"docker:{image}"
    return {**wanted, **(config.resources or {})}


def image_of(config: SkyPilot, template: TaskTemplate) -> str | None:
    """The image that somebody chose; None for flytekit's default, which stands in every template."""
    if config.image is not None:
        return config.image
    named = template.container.image if template.container is not None else None
    if not named or named.startswith(_DEFAULT_IMAGE) or named == str(DefaultImages.default_image()):
        return None
    return str(named)


def variables(config: SkyPilot, template: TaskTemplate, execution: Any) -> dict[str, str]:
    """Variables of the task's environment, the more particular over the more general."""
    found = {name: value for name, value in os.environ.items() if _STORE.fullmatch(name) and not _SECRET.search(name)}
    found |= _identity(execution)
    container = template.container
    if container is not None:
        # An image that nobody chose must be taken for the same on the node.
        found["FLYTE_INTERNAL_IMAGE"] = container.image or ""
        found |= {str(name): str(value) for name, value in (container.env or {}).items()}
    told = getattr(execution, "environment_variables", None)
    found |= {str(name): str(value) for name, value in dict(told or {}).items()}
    return found | config.envs


def secrets(config: SkyPilot, template: TaskTemplate) -> dict[str, str]:
    """Secret variables: the store's keys, those that Flyte was asked for, and the configuration's.

    Raises ValueError for one whose value this process does not have; its name is told, no value ever.
    """
    found = {name: value for name, value in os.environ.items() if _STORE.fullmatch(name) and _SECRET.search(name)}
    context = template.security_context
    for asked in (context.secrets if context is not None else None) or ():
        manager = current_context().secrets
        try:
            value = manager.get(asked.group, asked.key, asked.group_version)
        except Exception as error:  # noqa: BLE001 - flytekit says it by an exception of none of its classes
            raise ValueError(
                f"the secret {asked.group}/{asked.key} of the task is not known where it is submitted: {error}"
            ) from None
        found[asked.env_var or manager.get_secrets_env_var(asked.group, asked.key, asked.group_version)] = value
    if isinstance(config.secrets, Mapping):
        return found | {str(name): str(value) for name, value in config.secrets.items()}
    missing = [name for name in config.secrets if name not in os.environ]
    if missing:
        raise ValueError(f"SkyPilot(secrets=…): the connector's environment does not have {', '.join(missing)}")
    return found | {name: os.environ[name] for name in config.secrets}


def _identity(execution: Any) -> dict[str, str]:
    """Who the task is, as flytekit reads it on a node."""
    told: Any = getattr(execution, "task_execution_id", None)
    node = getattr(told, "node_execution_id", None)
    ids = {
        "FLYTE_INTERNAL_EXECUTION": getattr(node, "execution_id", None),
        "FLYTE_INTERNAL_TASK": getattr(told, "task_id", None),
    }
    found: dict[str, str] = {}
    for prefix, each in ids.items():
        if each is None or not each.name:
            continue
        found |= {f"{prefix}_PROJECT": each.project, f"{prefix}_DOMAIN": each.domain}
        found[f"{prefix}_ID" if prefix.endswith("EXECUTION") else f"{prefix}_NAME"] = each.name
        if getattr(each, "version", None):
            found[f"{prefix}_VERSION"] = each.version
    if found:
        found["FLYTE_ATTEMPT_NUMBER"] = str(told.retry_attempt)
    return found


def _sizes(container: Container) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cpus = _entry(container, Requested.ResourceName.CPU)
    if cpus:
        found["cpus"] = f"{_plain(quantity(cpus))}+"
    memory = _entry(container, Requested.ResourceName.MEMORY)
    if memory:
        found["memory"] = f"{quantity(memory) / 1e9:.3g}+"
    disk = _entry(container, Requested.ResourceName.EPHEMERAL_STORAGE)
    if disk:
        found["disk_size"] = max(1, round(quantity(disk) / 1e9))
    return found


def _entry(container: Container, name: int) -> str | None:
    asked = container.resources
    for entries in (asked.requests, asked.limits) if asked is not None else ():
        for each in entries or ():
            if each.name == name and each.value:
                return str(each.value)
    return None


def _device(template: TaskTemplate) -> str | None:
    extended = template.extended_resources
    device = extended.gpu_accelerator.device if extended is not None else ""
    if not device:
        return None
    return _DEVICES.get(device, device.removeprefix("nvidia-").removeprefix("tesla-").upper())


def _names_accelerators(asked: Mapping[str, Any]) -> bool:
    return any(word in asked for word in ("accelerators", "gpus", "any_of", "ordered", "instance_type"))


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else number
