"""The canonical form of one ``resources`` mapping: every value read, checked and written one way.

``resources.py`` wraps the result; ``candidates.py`` calls it once for each alternative. Canonical means: JSON-safe,
keys that were not given are absent, and reading the result again changes nothing.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sky.core.model.accelerators import parse_accelerators
from sky.core.model.autostop import AutostopConfig
from sky.core.model.fields import CANDIDATE
from sky.core.model.infra import Infra
from sky.core.model.quantities import (
    parse_cpus,
    parse_duration_seconds,
    parse_memory,
    parse_ports,
    parse_size_gb,
)
from sky.core.model.schema import Path, Problems, check_section

DEFAULT_DISK_SIZE_GB = 256
DEFAULT_PRIORITY = 0

#: What virtual machines get where a task asks for neither vCPUs nor memory.
DEFAULT_CPUS = "8+"
DEFAULT_MEMORY = "4x"

#: What a Kubernetes pod gets: without accelerators, and for each accelerator.
DEFAULT_POD_CPUS = "2"
DEFAULT_POD_MEMORY = "1x"
DEFAULT_POD_CPUS_PER_GPU = "4"
DEFAULT_POD_MEMORY_WITH_GPU = "4x"

#: GB of an instance disk asked for by its kind alone.
DEFAULT_LOCAL_DISK = "100+"

ANY_OF = "any_of"
ORDERED = "ordered"

_LOCAL_DISK = re.compile(r"(?:(nvme|ssd):?)?(?:(\d{1,7})(?:GB?)?(\+?))?", re.IGNORECASE)


class DiskTier(enum.StrEnum):
    """Speed of a disk."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    ULTRA = "ultra"
    BEST = "best"


class NetworkTier(enum.StrEnum):
    """Speed of the network between nodes."""

    STANDARD = "standard"
    BEST = "best"


def _one_accelerator(value: object) -> dict[str, float]:
    requests = parse_accelerators(value)
    if len(requests) > 1:
        raise ValueError(
            f"found {len(requests)} accelerators; allowed: one here (several are alternatives: give the task a list of "
            "resources, or any_of in YAML)"
        )
    return {requests[0].name: requests[0].count}


def _local_disk(value: object) -> str:
    found = _LOCAL_DISK.fullmatch(str(value).strip())
    if found is None or not (found[1] or found[2]) or (found[2] and not int(found[2])):
        raise ValueError(f"found '{str(value)[:40]}'; allowed: a kind and size in GB like nvme:300+, ssd:100 or 500+")
    size = f"{int(found[2])}{found[3]}" if found[2] else DEFAULT_LOCAL_DISK
    return f"{found[1].lower()}:{size}" if found[1] else size


def _job_recovery(value: object) -> dict[str, Any]:
    given = {"strategy": value} if isinstance(value, str) else dict(value)  # type: ignore[call-overload]
    recovery = {key: item for key, item in given.items() if item is not None}
    if "strategy" in recovery:
        recovery["strategy"] = str(recovery["strategy"]).upper()
    for key in ("max_run_time", "keep_on_failure", "deadline", "work", "restart_overhead"):
        said = recovery.get(key)
        if said is False:
            del recovery[key]
        elif said is not None and said is not True:
            seconds = parse_duration_seconds(said)
            if seconds <= 0:
                raise ValueError(f"found '{said}' for {key}; allowed: a time above 0 such as 90m, 36h or 3 days")
            recovery[key] = seconds
    codes = recovery.get("recover_on_exit_codes")
    if codes is not None:
        recovery["recover_on_exit_codes"] = sorted({codes} if isinstance(codes, int) else set(codes))
    return recovery


def _image_id(value: object) -> str | dict[str, str]:
    if not isinstance(value, Mapping):
        return str(value).strip()
    if not value:
        raise ValueError("found an empty mapping; allowed: an image, or images by region")
    return {str(region): str(image).strip() for region, image in value.items()}


_ATTACH_MODES = {"rw": "read_write", "ro": "read_only"}


def _volumes(value: object) -> list[dict[str, Any]]:
    volumes = []
    for index, item in enumerate(value):  # type: ignore[arg-type, var-annotated]
        volume = {key: one for key, one in item.items() if one is not None}
        if "path" not in volume:
            raise ValueError(f"found a disk (number {index + 1}) without 'path'; allowed: a mapping with path")
        for key in ("size", "disk_size"):
            if key in volume:
                volume[key] = parse_size_gb(volume[key])
        for key in ("disk_tier", "storage_type", "attach_mode"):
            if key in volume:
                volume[key] = str(volume[key]).lower()
        if "attach_mode" in volume:
            volume["attach_mode"] = _ATTACH_MODES.get(volume["attach_mode"], volume["attach_mode"])
        volumes.append(volume)
    return volumes


def _cost(value: Any) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"found {value}; allowed: a number of dollars above 0")
    return float(value)


def _labels(value: Any) -> dict[str, str]:
    if any(not str(key).strip() for key in value):
        raise ValueError("found a label without a name")
    return {str(key): str(item) for key, item in value.items()}


def _autostop(value: Any) -> object:
    config = AutostopConfig.from_yaml_config(value)
    return None if config is None else config.to_yaml_config()


def _infra(value: object) -> str | None:
    return Infra.parse(str(value)).to_str()


def _present(value: Mapping[str, Any]) -> dict[str, Any] | None:
    return {key: item for key, item in value.items() if item is not None} or None


def _word(value: object) -> str:
    text = str(value).strip()
    if not text:
        raise ValueError("found an empty text")
    return text


#: How each value is read into its canonical form; a result of ``None``, an empty list or mapping is "not given".
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "infra": _infra,
    "instance_type": _word,
    "cpus": parse_cpus,
    "memory": parse_memory,
    "accelerators": _one_accelerator,
    "accelerator_args": _present,
    "use_spot": bool,
    "job_recovery": _job_recovery,
    "image_id": _image_id,
    "disk_size": parse_size_gb,
    "disk_tier": lambda value: str(value).lower(),
    "network_tier": lambda value: str(value).lower(),
    "local_disk": _local_disk,
    "max_hourly_cost": _cost,
    "ports": lambda value: list(parse_ports(value)),
    "labels": _labels,
    "autostop": _autostop,
    "priority": int,
    "priority_class": _word,
    "volumes": _volumes,
}

_ALIASES = {"gpus": "accelerators", "spot_recovery": "job_recovery", "ephemeral_storage": None}


def canonical_config(
    config: Mapping[str, Any], problems: Problems, where: Callable[[str], Path] = lambda key: (key,)
) -> dict[str, Any]:
    """Return the canonical form of one candidate; what is wrong goes to ``problems`` at the path ``where(key)``."""
    local = Problems()
    check_section(config, CANDIDATE, (), local)
    given = {key: value for key, value in config.items() if value is not None}
    _rename_aliases(given, local)
    _join_place(given, local)
    canonical: dict[str, Any] = {}
    for key, value in given.items():
        if key.startswith("_"):
            with local.catch(key):
                canonical[key] = _json_safe(value)
        elif key in _READERS and not local.spoils(key):
            with local.catch(key):
                read = _READERS[key](value)
                if read is not None and read not in ([], {}):
                    canonical[key] = read
    _check_image(canonical, local)
    for problem in local.found:
        head = str(problem.path[0]) if problem.path else ""
        problems.add(
            (*where(head), *problem.path[1:]) if head else where("")[:-1],
            problem.reason,
            found=problem.found,
            allowed=problem.allowed,
            hint=problem.hint,
        )
    return {} if local.found else canonical


def _rename_aliases(given: dict[str, Any], problems: Problems) -> None:
    for old, new in _ALIASES.items():
        if old not in given:
            continue
        value = given.pop(old)
        if new is None:
            continue
        if new in given:
            problems.add((old,), f"found both '{old}' and '{new}'; allowed: one of them, they mean the same")
        elif problems.spoils(old):
            continue
        else:
            given[new] = value


def _join_place(given: dict[str, Any], problems: Problems) -> None:
    """Turn the old cloud, region and zone into ``infra``."""
    parts = {key: given.pop(key) for key in ("cloud", "region", "zone") if key in given}
    if not parts:
        return
    if "infra" in given:
        key = next(iter(parts))
        problems.add((key,), f"found '{key}' beside 'infra'; allowed: infra alone, like infra: cloud/region/zone")
    elif not any(problems.spoils(key) for key in parts):
        with problems.catch(next(iter(parts))):
            given["infra"] = Infra.of(**{"cloud": None, **parts}).to_str()


def _check_image(canonical: Mapping[str, Any], problems: Problems) -> None:
    image = canonical.get("image_id")
    if image is None:
        return
    images = list(image.values()) if isinstance(image, Mapping) else [image]
    if any(not one for one in images):
        problems.add(("image_id",), "found an empty image; allowed: an image id, or docker:IMAGE")
    elif "infra" not in canonical and not all(one.startswith("docker:") for one in images):
        problems.add(
            ("image_id",), "found the image of a machine without its cloud; add infra: CLOUD, or use docker:IMAGE"
        )


def _json_safe(value: object) -> object:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as exc:
        raise ValueError(f"found a value that cannot be sent: {exc}") from None
