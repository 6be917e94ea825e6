"""Amounts as people write them: ``4+``, ``16GB``, ``8x``, ``1TB``, ``10m``, ``8080-8090``.

Called by the parsers of resources, autostop, services and job groups. Every function raises ``ValueError`` with what
was found and what is allowed; none of them knows where in a file the amount stood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

#: In gigabytes. Both spellings mean powers of two, as instance types count memory and disks.
_SIZE_UNITS = {
    "": 1.0,
    "k": 2.0**-20,
    "kb": 2.0**-20,
    "m": 2.0**-10,
    "mb": 2.0**-10,
    "mi": 2.0**-10,
    "mib": 2.0**-10,
    "g": 1.0,
    "gb": 1.0,
    "gi": 1.0,
    "gib": 1.0,
    "t": 1024.0,
    "tb": 1024.0,
    "ti": 1024.0,
    "tib": 1024.0,
    "p": 1024.0**2,
    "pb": 1024.0**2,
    "pi": 1024.0**2,
    "pib": 1024.0**2,
}

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.IGNORECASE)
_PORTS = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?")

#: More digits than any amount of ours needs; longer ones are mistakes or mischief.
_MAX_TEXT = 64


def plain(number: float) -> str:
    """Return a number without a trailing ``.0``: ``4``, ``0.5``."""
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def _positive(value: object, text: str, wanted: str) -> float:
    try:
        number = float(text) if len(text) <= _MAX_TEXT and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
        raise ValueError(f"found '{str(value)[:_MAX_TEXT]}'; allowed: {wanted}")
    return number


def parse_cpus(value: object) -> str:
    """Return vCPUs as ``"4"`` (exactly) or ``"4+"`` (at least)."""
    text = str(value).strip()
    more = "+" if text.endswith("+") else ""
    return plain(_positive(value, text.removesuffix("+"), "a positive number of vCPUs, or a least one like 4+")) + more


def parse_memory(value: object) -> str:
    """Return memory in GB as ``"16"``, ``"16+"`` (at least) or ``"4x"`` (times the vCPUs)."""
    wanted = "a positive size in GB like 16, 16+ or 16GB+, or a ratio to the vCPUs like 4x"
    text = str(value).strip()
    if text.endswith("x"):
        return plain(_positive(value, text[:-1], wanted)) + "x"
    more = "+" if text.endswith("+") else ""
    found = _SIZE.fullmatch(text.removesuffix("+").strip()) if len(text) <= _MAX_TEXT else None
    if found is None or found[2].lower() not in _SIZE_UNITS or isinstance(value, bool):
        raise ValueError(f"found '{text[:_MAX_TEXT]}'; allowed: {wanted}")
    return plain(_positive(value, str(float(found[1]) * _SIZE_UNITS[found[2].lower()]), wanted)) + more


def parse_size_gb(value: object, *, least: int = 1) -> int:
    """Return a size in whole GB from ``256``, ``"256GB"``, ``"1TB"``; fractions of a GB are refused."""
    text = str(value).strip()
    found = _SIZE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    size = math.nan
    if found is not None and found[2].lower() in _SIZE_UNITS and not isinstance(value, bool):
        size = float(found[1]) * _SIZE_UNITS[found[2].lower()]
    if not math.isfinite(size) or not size.is_integer() or size < least:
        raise ValueError(
            f"found '{text[:_MAX_TEXT]}'; allowed: a size in whole GB of at least {least}, like 256 or 1TB"
        )
    return int(size)


def parse_volume_gb(value: object) -> float:
    """Return an amount of data in GB (10^9 bytes) from ``40``, ``"40GB"``, ``"1.2TB"``."""
    text = str(value).strip()
    found = _SIZE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    factor = {"": 1.0, "gb": 1.0, "g": 1.0, "mb": 1e-3, "tb": 1e3, "t": 1e3, "pb": 1e6}.get(
        found[2].lower() if found else "?"
    )
    if found is None or factor is None or isinstance(value, bool):
        raise ValueError(f"found '{text[:_MAX_TEXT]}'; allowed: an amount of data like 40, 40GB or 1.2TB")
    return float(found[1]) * factor


def parse_duration_seconds(value: object, *, unit: str = "s") -> float:
    """Return seconds from a number in ``unit`` or from ``30s``, ``10m``, ``2h``, ``1d``, ``1w``."""
    text = str(value).strip()
    found = _DURATION.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None or isinstance(value, bool):
        raise ValueError(f"found '{text[:_MAX_TEXT]}'; allowed: a duration like 30, 10m, 2h, 1d or 1w")
    return float(found[1]) * _SECONDS[(found[2] or unit).lower()]


def parse_minutes(value: object) -> int:
    """Return whole minutes, rounded up, from a number of minutes or a duration with a unit."""
    return math.ceil(parse_duration_seconds(value, unit="m") / 60)


def parse_port(value: object) -> int:
    """Return one port, 1 to 65535."""
    first, last = _port_range(value)
    if first != last:
        raise ValueError(f"found the range '{value}'; allowed: a single port")
    return first


def parse_ports(value: object) -> tuple[str, ...]:
    """Return ports as sorted texts, ranges merged: ``[8080, "8081-8090", "22"]`` gives ``("22", "8080-8090")``."""
    given: Iterable[object] = value if isinstance(value, list | tuple | set | frozenset) else [value]
    parts = [part for one in given for part in (one.split(",") if isinstance(one, str) else [one])]
    merged: list[tuple[int, int]] = []
    for first, last in sorted(_port_range(part) for part in parts):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(str(first) if first == last else f"{first}-{last}" for first, last in merged)


def _port_range(value: object) -> tuple[int, int]:
    text = str(value).strip()
    found = None if isinstance(value, bool) else _PORTS.fullmatch(text)
    if found is not None:
        first = int(found[1])
        last = int(found[2] or first)
        if 1 <= first <= last <= 65535:
            return first, last
    raise ValueError(f"found '{text[:_MAX_TEXT]}'; allowed: a port from 1 to 65535 or a range like 8080-8090")
