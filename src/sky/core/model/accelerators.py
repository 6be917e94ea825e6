"""Accelerators as people ask for them: ``H100:8``, ``80GB+``, ``nvidia:24GB+:2``.

``Resources`` holds the request; the optimizer matches offers against it, and the agent places jobs by its counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sky.core.model.accelerator_names import ACCELERATORS, VENDORS
from sky.core.model.quantities import plain

#: The usual spelling, found again whatever the case; an unknown name is kept as written.
_BY_LOWER = {name.lower(): name for name in ACCELERATORS}

_MEMORY_FILTER = re.compile(r"(?:(?P<vendor>[A-Za-z]+):)?(?P<size>\d+)(?:GB?|GiB)(?P<more>\+?)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]*[A-Za-z0-9])?")

_WANTED = "a name with an optional count like H100:8, or a memory filter like 80GB+ or nvidia:24GB+:2"


@dataclass(frozen=True, slots=True)
class AcceleratorRequest:
    """So many of one accelerator per node.

    name: canonical name, or the filter as text (``80GB+``, ``nvidia:24GB+``). count: per node; below 1 only as the
    demand of a job. min_memory_gb, max_memory_gb, vendor: what a filter asks for, else ``None``.
    """

    name: str
    count: float = 1
    min_memory_gb: int | None = None
    max_memory_gb: int | None = None
    vendor: str | None = None

    @property
    def is_filter(self) -> bool:
        """Whether the request names a size of memory in place of an accelerator."""
        return self.min_memory_gb is not None

    def __str__(self) -> str:
        return f"{self.name}:{plain(self.count)}"


def canonical_accelerator(name: str) -> str:
    """Return the usual spelling of an accelerator's name; TPUs are lower case throughout."""
    lower = name.lower()
    return lower if lower.startswith("tpu-") else _BY_LOWER.get(lower, name)


def parse_accelerator(text: str, count: object = None) -> AcceleratorRequest:
    """Read one request. ``count`` is given where the text holds only the name, as in ``{H100: 8}``.

    Raises ``ValueError`` for an empty or odd name, a count that is not positive, or a fraction above 1.
    """
    text = str(text).strip()
    name, colon, tail = text.rpartition(":")
    if count is None and colon and not _MEMORY_FILTER.fullmatch(text):
        count = tail
    elif count is not None or not colon or _MEMORY_FILTER.fullmatch(text):
        name = text
    number = _parse_count(1 if count is None else count, text)
    found = _MEMORY_FILTER.fullmatch(name)
    if found is not None:
        vendor = (found["vendor"] or "").lower() or None
        if vendor is not None and vendor not in VENDORS:
            raise ValueError(f"found the vendor '{vendor}'; allowed: {', '.join(VENDORS)}")
        size = int(found["size"][:9])
        spelled = f"{vendor}:" if vendor else ""
        spelled += f"{size}GB{found['more']}"
        return AcceleratorRequest(spelled, number, size, None if found["more"] else size, vendor)
    if not _NAME.fullmatch(name):
        raise ValueError(f"found '{text[:60]}'; allowed: {_WANTED}")
    return AcceleratorRequest(canonical_accelerator(name), number)


def _parse_count(value: object, text: str) -> float:
    try:
        number = float(str(value)) if not isinstance(value, bool) else 0.0
    except ValueError:
        raise ValueError(f"found the count '{str(value)[:40]}' in '{text[:60]}'; allowed: {_WANTED}") from None
    if not 0 < number < 1e6:
        raise ValueError(f"found the count {str(value)[:40]} for '{text[:60]}'; allowed: a number above 0")
    if number > 1 and not number.is_integer():
        raise ValueError(f"found the count {value} for '{text[:60]}'; allowed: a whole number, or a fraction below 1")
    return int(number) if number.is_integer() else number


def parse_accelerators(value: object) -> tuple[AcceleratorRequest, ...]:
    """Return the alternatives that a value of ``accelerators`` names, in its order.

    A text or a mapping of one is one request; a list, a set and a mapping of several are alternatives.
    """
    if isinstance(value, str):
        return (parse_accelerator(value),)
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"found an empty mapping; allowed: {_WANTED}")
        # Without a value the key says all: YAML reads {A100:8, L4} as the keys "A100:8" and "L4" with nothing behind.
        return tuple(parse_accelerator(name, count) for name, count in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            raise ValueError(f"found an empty list; allowed: {_WANTED}")
        # A set from Python has no order of its own; sorting makes the outcome repeatable.
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return tuple(request for item in items for request in parse_accelerators(item))
    raise ValueError(f"found a {type(value).__name__}; allowed: {_WANTED}")
