"""What this machine has: processors, memory, accelerators, real or (for trying schedulers) declared ones."""

import os
import shutil
import subprocess
from collections.abc import Mapping

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.offers import Offer

#: How long `nvidia-smi` may take, in seconds; a hung driver must not hang the server.
_SMI_TIMEOUT_S = 10.0


def machine(config: Mapping[str, object]) -> Offer:
    """This machine as the one offer of `infra: local`, at no price. `config` is the section `local`.

    Raises InvalidSkyPilotConfigError for a declaration that makes no sense.
    """
    cpus = _number(config, "cpus") or _cpus()
    memory = _number(config, "memory") or _memory_gb()
    declared = config.get("accelerators")
    if declared is None:
        accelerators: Mapping[str, float] = found_accelerators()
    elif isinstance(declared, Mapping):
        accelerators = {str(name): _count(name, count) for name, count in declared.items()}
    else:
        raise InvalidSkyPilotConfigError(f"local.accelerators: found {declared!r}; allowed: a map such as {{H100: 8}}")
    return Offer("local", "local", None, "localhost", cpus, round(memory, 1), 0.0, accelerators, shared=True)


def found_accelerators() -> dict[str, float]:
    """NVIDIA devices of this machine by short name; empty without any."""
    found: dict[str, float] = {}
    for _, name in found_devices():
        found[name] = found.get(name, 0) + 1
    return found


def found_devices() -> list[tuple[int, str]]:
    """Index and short name of each NVIDIA device, as `nvidia-smi` lists them; empty without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run(
            [program, "--query-gpu=index,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in listed.splitlines():
        index, _, product = line.partition(",")
        if index.strip().isdigit() and (name := short_name(product.strip())):
            found.append((int(index), name))
    return found


def short_name(product: str) -> str:
    """`NVIDIA A100-SXM4-80GB` is asked for as `A100-80GB`, `Tesla V100-SXM2-16GB` as `V100`, `NVIDIA L4` as `L4`."""
    words = [word for word in product.replace("-", " ").split() if word not in ("NVIDIA", "Tesla", "GeForce", "PCIe")]
    model = next((word for word in words if any(char.isdigit() for char in word)), "")
    if model == "A100" and "80GB" in words:
        return "A100-80GB"
    if model == "4090" or (words[:1] == ["RTX"] and model):
        return "RTX" + model
    return model


def _cpus() -> float:
    """Processors that this process may use; a container is often given fewer than the machine has."""
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _number(config: Mapping[str, object], key: str) -> float | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise InvalidSkyPilotConfigError(f"local.{key}: found {value!r}; allowed: a number above 0")
    return float(value)


def _count(name: object, count: object) -> float:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidSkyPilotConfigError(f"local.accelerators.{name}: found {count!r}; allowed: a whole number above 0")
    return float(count)
