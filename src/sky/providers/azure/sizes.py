"""Shapes that the name of an Azure size tells for certain: the common families without devices and without own disks.

Called by `prices.py`. A name holds the vCPUs, and the letters behind them say the memory of each; where a size breaks
its family's rule (the largest, most often) nothing is told, and what the catalog knows of it stays.
"""

import re
from typing import NamedTuple

#: Family, vCPUs, letters (b: much disk traffic, p: ARM, a: AMD, l: little memory, m: much, s: fast disks), generation.
_SIZE = re.compile(r"Standard_([DEF])(\d{1,3})(b?)(p?)(a?)(l?)(m?)(s?)_v(\d)")
_LARGEST_REGULAR_E = 48
_SMALLEST_IRREGULAR_ARM = {"D": 64, "E": 32}


class Shape(NamedTuple):
    """A size: vCPUs, memory in GiB, architecture, and its family as in `Dsv5`."""

    cpus: int
    memory_gib: int
    arch: str
    family: str


def shape(size: str) -> Shape | None:
    """The shape of a size such as `Standard_D4s_v5`, None where its name does not tell it."""
    found = _SIZE.fullmatch(size)
    if found is None:
        return None
    series, cpus, generation = found[1], int(found[2]), int(found[9])
    letters = "".join(found.group(3, 4, 5, 6, 7, 8))
    each = _gib_of_a_cpu(series, cpus, letters, generation)
    if each is None or cpus < 1:
        return None
    return Shape(cpus, cpus * each, "arm64" if "p" in letters else "x86_64", f"{series}{letters}v{generation}")


def _gib_of_a_cpu(series: str, cpus: int, letters: str, generation: int) -> int | None:
    if "p" in letters and cpus >= _SMALLEST_IRREGULAR_ARM.get(series, 0):
        return None
    match series:
        case "D" if generation >= 3 and "m" not in letters:
            return 2 if "l" in letters else 4
        case "E" if generation >= 3 and cpus <= _LARGEST_REGULAR_E and not set("lm") & set(letters):
            return 8
        case "F" if generation == 2 and letters == "s":
            return 2
        case "F" if generation >= 6 and "a" in letters:
            return 2 if "l" in letters else 8 if "m" in letters else 4
        case _:
            return None
