"""Plain tables: whole when piped, cut to the width of a terminal when a person reads them. Used by every listing."""

import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from sky.cli.terminal import STATUS_COLOURS, paint, width

GAP = "  "
_NARROWEST = 6
#: Columns whose words have a colour. Cells themselves hold none: `clean` would take the control characters away.
_COLOURED = ("STATUS", "Status", "CHOSEN")


def clean(value: object) -> str:
    """Return a cell's text on one line: control characters (a job's name may hold any) never reach the terminal."""
    text = "-" if value is None or value == "" else f"{value}"
    return "".join(char if char.isprintable() else " " for char in text)


def columns_of(text: str) -> int:
    """Columns the text takes on a terminal: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _cut(text: str, room: int) -> str:
    if columns_of(text) <= room:
        return text
    kept = ""
    for char in text:
        if columns_of(kept + char) > room - 1:
            break
        kept += char
    return kept + "…"


def _fit(headers: Sequence[str], widths: list[int], limit: int) -> list[int]:
    """Take columns off the widest until all fit; what one acts on (the first column, a status) stays whole."""
    widths = list(widths)
    while sum(widths) + len(GAP) * (len(widths) - 1) > limit:
        candidates = [
            index
            for index, header in enumerate(headers)
            if index > 0 and header not in _COLOURED and widths[index] > _NARROWEST
        ]
        if not candidates:
            break
        widths[max(candidates, key=lambda index: widths[index])] -= 1
    return widths


def render(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), stream: TextIO | None = None
) -> str:
    """Return the table without a final newline. `right` names the columns of numbers."""
    out = sys.stdout if stream is None else stream
    cells = [[clean(value) for value in row] for row in rows]
    widths = [max(columns_of(text) for text in column) for column in zip(headers, *cells, strict=True)]
    limit = width(out)
    if limit is not None:
        widths = _fit(headers, widths, limit)
    lines = []
    for number, line in enumerate([list(headers), *cells]):
        parts = []
        for header, text, room in zip(headers, line, widths, strict=True):
            shown = _cut(text, room)
            pad = " " * (room - columns_of(shown))
            colour = "bold" if number == 0 else STATUS_COLOURS.get(text) if header in _COLOURED else None
            shown = paint(shown, colour, out)
            parts.append(pad + shown if header in right else shown + pad)
        lines.append(GAP.join(parts).rstrip())
    return "\n".join(lines)
