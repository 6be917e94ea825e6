"""One name for each accelerator, however a price list spells it.

Called when rows are judged (`core.catalog.soundness`) and when a catalog file is built (its table of spellings).
A name that is not known here is no name: the row is set aside, not guessed at.
"""

from __future__ import annotations

import re

from sky.core.model.accelerator_names import ACCELERATORS, Accelerator

_NOISE = re.compile(r"\b(?:nvidia|amd|intel|aws|google|cloud|tesla|geforce|quadro|instinct|habana|tensor core|gpus?)\b")
_TPU = re.compile(r"(?:tpu)?v(?P<generation>[2-7](?:x|e|p|litepod|lite)?)(?P<size>\d{1,5})")
_GENERATIONS = {"5litepod": "5e", "5lite": "5e"}


def _folded(raw: str) -> str:
    """A spelling without case, blanks, dashes, makers and brands."""
    return re.sub(r"[\s_\-()/]+", "", _NOISE.sub(" ", raw.lower().replace("_", " ")))


def _spellings() -> dict[str, str]:
    made: dict[str, str] = {}
    for known in ACCELERATORS.values():
        for each in known.aliases:
            made[_folded(each)] = known.name
    # A name of its own beats an alias of another one.
    made |= {_folded(name): name for name in ACCELERATORS}
    return made


_BY_FOLDED = _spellings()

#: Names under which devices of several sizes are sold; the memory tells them apart.
_BY_MEMORY: dict[str, tuple[tuple[float, str], ...]] = {
    "A100": ((40, "A100"), (80, "A100-80GB")),
    "V100": ((16, "V100"), (32, "V100-32GB")),
}


def canonical(raw: str, memory_gib: float | None = None) -> str | None:
    """The canonical name of what a source calls `raw`, with the memory of one device where that is told.

    `None` for a name that is not known. An `A100` of 80 GiB is an `A100-80GB`.
    """
    if len(raw) > 100:
        return None
    folded = _folded(raw)
    name = _BY_FOLDED.get(folded)
    if name is None:
        return _tpu(folded)
    for size, sized in _BY_MEMORY.get(name, ()):
        if memory_gib is not None and abs(memory_gib - size) <= 0.1 * size:
            return sized
    return name


def _tpu(folded: str) -> str | None:
    found = _TPU.fullmatch(folded)
    if found is None:
        return None
    generation = _GENERATIONS.get(found["generation"], found["generation"])
    return f"tpu-v{generation}-{int(found['size'])}"


def devices(name: str, count: float) -> float:
    """How many devices `count` of an accelerator are: a TPU is named, and counted, as a whole slice."""
    if name.startswith("tpu-"):
        size = name.rpartition("-")[2]
        return count * int(size) if size.isdecimal() else count
    return count


def known(name: str) -> Accelerator | None:
    """What is known of an accelerator of this canonical name."""
    if name.startswith("tpu-"):
        return Accelerator(name, "google", None)
    return ACCELERATORS.get(name)


def spellings() -> dict[str, str]:
    """Every spelling, in lower case as it would be typed, to the canonical name; TPUs are spelt in one way only."""
    made = {alias.lower(): each.name for each in ACCELERATORS.values() for alias in each.aliases}
    return made | {name.lower(): name for name in ACCELERATORS}
