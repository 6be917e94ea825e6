"""Recorded spot markets, in the forms in which they were published, read into `sky.sim.markets`.

Called by `sky simulate` and `benchmarks/policies.py`. Files are somebody else's, so sizes are bounded and shapes
checked. Two forms: JSON `{"metadata": {"gap_seconds": …}, "data": […], "prices": […]}` and CSV `date,availability`, as
a folder, a tar archive or one file. Of some sets a value counts the machines that could be had, of others 1 is a preemption; what
tells which is written at `_counts`. Windows that say which ticks of a longer trace they are, are put together again.
"""

import csv
import io
import json
import math
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sky.core.errors import InvalidSkyPilotConfigError
from sky.sim.markets import MOST_TICKS, MOST_ZONES, Market, ZoneTrace

MOST_FILES = 50_000
MOST_BYTES = 64 * 2**20
MOST_IN_ALL = 2**30
#: USD per hour where neither the files nor the caller name any: what the first of the published simulators bills.
SPOT_PRICE = 0.9731
ON_DEMAND_PRICE = 3.06
POLARITIES = ("auto", "available", "preempted")

_ZONE = re.compile(r"^((?:[a-z]+-)+[a-z]*\d+-?[a-z])(?:_(\w+))?$")
#: Only files of simulators, whose 1 is a preemption, say one of these.
_SIMULATORS = frozenset(["source_file", "source_dir", "price_info", "zone", "end_time"])
_WHOLE = "full"


@dataclass(frozen=True)
class Reading:
    """How to read: polarity (`POLARITIES`), machines a job needs, USD per hour where the files name none."""

    polarity: str = "auto"
    nodes: int = 1
    spot_price: float | None = None
    on_demand_price: float | None = None


@dataclass(frozen=True)
class _Piece:
    """One file: a zone in a window."""

    zone: str
    device: str
    folder: str
    window: str
    gap: float
    up: bytes
    prices: tuple[float, ...] | None
    on_demand: float | None
    offset: int | None


def load(path: Path, reading: Reading | None = None) -> list[Market]:
    """Return the markets under a path: one per kind of machine and window, its zones sorted by name.

    Raises InvalidSkyPilotConfigError that names the file and what is wrong with it.
    """
    how = reading or Reading()
    pieces, series = [], {}
    for name, content in _files(path):
        if name.endswith(".csv"):
            pieces.append(_csv(name, content, how))
            continue
        document = _json(name, content)
        if "data" in document:
            pieces.append(_piece(name, document, how))
        elif document and all(isinstance(line, list) for line in document.values()):
            series.update({key: _prices(name, line) for key, line in document.items()})
        else:
            raise _bad(name, 'it has no "data"')
    if not pieces:
        raise _bad(str(path), "it holds no trace: neither JSON nor CSV files were found there")
    return _markets(path.name, [_priced(piece, series) for piece in pieces], how)


def _bad(name: str, why: str) -> InvalidSkyPilotConfigError:
    forms = 'JSON with "metadata": {"gap_seconds": …} and "data": […], or CSV with a line date,availability'
    return InvalidSkyPilotConfigError(f"{name} is no trace of a spot market: {why}. A trace is {forms}.")


def _wanted(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return last.endswith((".json", ".csv")) and not last.startswith(".")


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.exists():
        raise InvalidSkyPilotConfigError(f"There is no {path}. Name a folder, an archive or a file of traces.")
    found = _of_folder(path) if path.is_dir() else _of_archive(path)
    total = 0
    for number, (name, content) in enumerate(found):
        total += len(content)
        if number >= MOST_FILES or total > MOST_IN_ALL:
            raise _bad(str(path), f"it is larger than {MOST_FILES} files or {MOST_IN_ALL // 2**30} GiB")
        yield name, content


def _of_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if _wanted(name) and file.is_file():
            if file.stat().st_size > MOST_BYTES:
                raise _bad(str(file), f"it is larger than {MOST_BYTES // 2**20} MiB")
            yield name, file.read_bytes()


def _of_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    if not tarfile.is_tarfile(path):
        if not _wanted(path.name):
            raise _bad(str(path), "it is neither a tar archive nor a .json or .csv file")
        if path.stat().st_size > MOST_BYTES:
            raise _bad(str(path), f"it is larger than {MOST_BYTES // 2**20} MiB")
        yield path.name, path.read_bytes()
        return
    with tarfile.open(path) as archive:
        try:
            for member in archive:
                if member.isfile() and _wanted(member.name):
                    if member.size > MOST_BYTES:
                        raise _bad(f"{path}: {member.name}", f"it is larger than {MOST_BYTES // 2**20} MiB")
                    stream = archive.extractfile(member)
                    assert stream is not None
                    yield member.name, stream.read()
        except (tarfile.TarError, EOFError, OSError) as exc:
            raise _bad(str(path), f"the archive is damaged ({exc})") from exc


def _json(name: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _bad(name, f"it is not JSON ({exc})") from exc
    if not isinstance(document, dict):
        raise _bad(name, "its top level is no mapping")
    return document


def _numbers(name: str, what: str, line: object) -> list[float]:
    if not isinstance(line, list) or not line or len(line) > MOST_TICKS:
        raise _bad(name, f"{what} is no list of 1 to {MOST_TICKS} numbers")
    for place, value in enumerate(line):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise _bad(name, f"{what}[{place}] is {str(value)[:40]!r}, not a number from 0 on")
    return line


def _prices(name: str, line: object) -> tuple[float, ...]:
    return tuple(float(value) for value in _numbers(name, "prices", line))


def _piece(name: str, document: Mapping[str, Any], how: Reading) -> _Piece:
    facts = document.get("metadata")
    if not isinstance(facts, Mapping):
        raise _bad(name, 'it has no "metadata"')
    gap = facts.get("gap_seconds")
    if isinstance(gap, bool) or not isinstance(gap, int | float) or not 1 <= gap <= 86400:
        raise _bad(name, f'"gap_seconds" is {str(gap)[:40]!r}, not seconds from 1 to 86400')
    values = _numbers(name, "data", document["data"])
    if _counts(name, document, facts, values, how):
        up = bytes(value >= how.nodes for value in values)
    else:
        up = bytes(value == 0 for value in values)
    prices = _prices(name, document["prices"]) if document.get("prices") else None
    if prices is not None and len(prices) != len(up):
        raise _bad(name, f'"prices" has {len(prices)} numbers, "data" {len(up)}')
    listed = facts.get("price_info") if isinstance(facts.get("price_info"), Mapping) else {}
    offset = facts.get("start_time")
    zone, device, folder, window = _place(name)
    return _Piece(
        zone, device, folder, window, float(gap), up, prices, _price(listed, "on_demand_price"),
        offset if isinstance(offset, int) and 0 <= offset < MOST_TICKS else None,
    )  # fmt: skip


def _price(listed: Any, key: str) -> float | None:
    value = listed.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


def _counts(
    name: str, document: Mapping[str, Any], facts: Mapping[str, Any], values: Sequence[float], how: Reading
) -> bool:
    """Whether a value counts machines that could be had, and is not 1 for a preemption."""
    if how.polarity != "auto":
        return how.polarity == "available"
    if max(values) > 1 or {"availability", "preemption"} & set(name.split("/")):
        return True
    if _SIMULATORS & facts.keys() or "generator" in document:
        return False
    raise InvalidSkyPilotConfigError(
        f"{name} does not tell whether 1 means that spot was to be had or that it was preempted: say "
        "--polarity available or --polarity preempted."
    )


def _place(name: str) -> tuple[str, str, str, str]:
    """Return zone, kind of machine, folder without the zone, and the window's name."""
    parts = [part.removesuffix(".json").removesuffix(".csv") for part in name.split("/")]
    for place in range(len(parts) - 1, -1, -1):
        match = _ZONE.match(parts[place])
        if match:
            last = place == len(parts) - 1
            rest = parts[:place] if last else [*parts[:place], *parts[place + 1 : -1]]
            return match[1], match[2] or "", "/".join(rest), "" if last else parts[-1]
    return parts[-1], "", "/".join(parts[:-1]), ""


def _csv(name: str, content: bytes, how: Reading) -> _Piece:
    try:
        rows = list(csv.reader(io.StringIO(content.decode())))
        begin, following = (datetime.fromisoformat(row[0]) for row in rows[1:3])
        gap = (following - begin).total_seconds()
        values = [float(row[1]) for row in rows[1:] if row]
    except (ValueError, IndexError, TypeError, csv.Error) as exc:
        raise _bad(name, f"its lines are not date,availability ({exc})") from exc
    if rows[0][1:] != ["availability"] or not 1 <= gap <= 86400:
        raise _bad(name, "its first line is not date,availability, or its dates do not rise")
    values = _numbers(name, "availability", values)
    up = bytes(v == 0 for v in values) if how.polarity == "preempted" else bytes(v >= how.nodes for v in values)
    zone, device, folder, window = _place(name)
    return _Piece(zone, device, folder, window, gap, up, None, None, None)


def _priced(piece: _Piece, series: Mapping[str, tuple[float, ...]]) -> _Piece:
    """Give a piece without prices those of a file of prices beside it."""
    line = series.get(f"{piece.zone}_{piece.device}") or series.get(piece.zone)
    if piece.prices is not None or line is None:
        return piece
    ticks = min(len(line), len(piece.up))
    return replace(piece, up=piece.up[:ticks], prices=line[:ticks])


def _markets(title: str, pieces: Sequence[_Piece], how: Reading) -> list[Market]:
    groups: dict[tuple[str, str, str], list[_Piece]] = {}
    whole = {(p.folder, p.device, p.zone) for p in pieces if p.window == _WHOLE}
    for piece in _joined(pieces):
        if piece.window == _WHOLE or (piece.folder, piece.device, piece.zone) not in whole:
            groups.setdefault((piece.folder, piece.device, piece.window), []).append(piece)
    found: dict[tuple[object, ...], Market] = {}
    for key in sorted(groups, key=lambda key: (key[:2], len(key[2]), key[2])):
        market = _market(title, key, sorted(groups[key], key=lambda piece: piece.zone), how)
        # One set was published three times, for three lengths of a restart.
        found.setdefault((market.gap, *((zone.zone, zone.up) for zone in market.zones), key[1], key[2]), market)
    return list(found.values())


def _joined(pieces: Sequence[_Piece]) -> Iterator[_Piece]:
    """Put windows that are parts of one trace together; what does not fit together stays as it is."""
    held: dict[tuple[str, str, str], list[_Piece]] = {}
    for piece in pieces:
        if piece.offset is None or piece.prices is not None:
            yield piece
        else:
            held.setdefault((piece.folder, piece.device, piece.zone), []).append(piece)
    for windows in held.values():
        windows.sort(key=lambda piece: piece.offset or 0)
        first = windows[0].offset or 0
        up = bytearray()
        for piece in windows:
            at = (piece.offset or 0) - first
            overlap = bytes(up[at : at + len(piece.up)])
            if at > len(up) or overlap != piece.up[: len(overlap)] or piece.gap != windows[0].gap:
                yield from windows
                break
            up[at : at + len(piece.up)] = piece.up
        else:
            yield replace(windows[0], up=bytes(up), window="")


def _market(title: str, key: tuple[str, str, str], pieces: Sequence[_Piece], how: Reading) -> Market:
    name = "/".join(part for part in (title, *key) if part)
    names = [piece.zone for piece in pieces]
    if len(set(names)) != len(names) or len(names) > MOST_ZONES:
        twice = next((zone for zone in names if names.count(zone) > 1), names[0])
        raise _bad(name, f"zone {twice} is there more than once, or there are more than {MOST_ZONES}")
    if len({piece.gap for piece in pieces}) > 1:
        raise _bad(name, "its zones have different gaps")
    ticks = min(len(piece.up) for piece in pieces)
    zones = []
    for piece in pieces:
        on_demand = how.on_demand_price or piece.on_demand or ON_DEMAND_PRICE
        flat = how.spot_price or SPOT_PRICE
        prices = piece.prices[:ticks] if piece.prices is not None else (flat,) * ticks
        region = piece.zone[:-2] if piece.zone[-2:-1] == "-" else piece.zone[:-1]
        zones.append(ZoneTrace(piece.zone, region, piece.up[:ticks], prices, on_demand))
    return Market(name, pieces[0].gap, tuple(zones))
