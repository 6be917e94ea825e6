"""How far a job is, as it says itself: by `sky progress 0.42`, or in its log.

The command is a shell script in the path of every task; it writes one line to a file that the agent watches. In the
log it is a pattern with one group (a share of 1) or two (done and all). Called by `care.py` and `tasks.py`.
"""

from __future__ import annotations

import os
import re
from typing import Any, Optional, Tuple

from .fields import bad
from .logs import read_chunk, size

VARIABLE = "SKYPILOT_PROGRESS_FILE"
_SAID = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(%?)\n")
#: Of a log, no more than its newest part is looked at; and no more than the beginning of a line.
_NEWEST, _LINE = 1 << 18, 400

#: `$0` stands first in the path: any other word is for the program of that name behind it.
COMMAND = """#!/bin/sh
# sky progress SHARE: how far this job is, 0 to 1 or with a percent sign. Anything else is for the next `sky`.
if [ "$1" != progress ]; then
    own=${0%/*}
    IFS=:
    for folder in $PATH; do
        if [ "$folder" != "$own" ] && [ -x "$folder/sky" ]; then unset IFS; exec "$folder/sky" "$@"; fi
    done
    echo "sky: only 'sky progress SHARE' is there on a node" >&2
    exit 127
fi
share=${2%\\%}
case $share in
    '' | *[!0-9.]* | *.*.* | .) wrong=1 ;;
    0 | 0.* | .* | 1 | 1.) wrong= ;;
    1.*) case ${share#1.} in *[!0]*) wrong=1 ;; *) wrong= ;; esac ;;
    *) wrong=1 ;;
esac
if [ "$share" != "$2" ]; then case $share in '' | *[!0-9.]* | *.*.*) ;; *) wrong= ;; esac; fi
if [ -n "$wrong" ] || [ $# != 2 ]; then
    echo "sky progress: '$2' is no share; a number from 0 to 1, or like 42%" >&2
    exit 2
fi
if [ -z "$SKYPILOT_PROGRESS_FILE" ]; then
    echo "sky progress: only a job can say how far it is" >&2
    exit 1
fi
printf '%s\\n' "$2" >"$SKYPILOT_PROGRESS_FILE"
"""


def install(home: str) -> str:
    """Put the command where tasks find it; returns the folder."""
    folder = os.path.join(home, ".sky", "bin")
    path = os.path.join(folder, "sky")
    try:
        with open(path, encoding="utf-8") as file:
            there = file.read() == COMMAND
    except (OSError, ValueError):
        there = False
    if not there:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(COMMAND)
        os.replace(path + ".new", path)
    return folder


def said(path: str) -> Optional[float]:
    """What the command wrote last; None where that is nothing, or nothing that counts."""
    found = _SAID.match(read_chunk(path, 0, 64).decode("ascii", "replace"))
    if found is None:
        return None
    return _share(float(found.group(1)) / (100 if found.group(2) else 1))


def _share(value: float) -> Optional[float]:
    return round(value, 6) if 0 <= value <= 1 else None


class LogPattern:
    """Finds the last word on progress in a growing log."""

    def __init__(self, pattern: str, log: str) -> None:
        try:
            self._pattern = re.compile(pattern.encode("utf-8"))
        except (re.error, OverflowError) as error:
            raise bad("the job: 'pattern' is no regular expression: %s" % error) from None
        if self._pattern.groups not in (1, 2):
            raise bad("the job: 'pattern' must have one group or two, found %d" % self._pattern.groups)
        self._log = log
        self._offset = 0

    def latest(self) -> Optional[float]:
        """The last share in what was written since the last call; None where there is none."""
        end = size(self._log)
        start = max(self._offset, end - _NEWEST)
        data = read_chunk(self._log, start, _NEWEST)
        # A line that is still being written is read the next time; one without end does not hold up the rest.
        cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > _LINE else 0)
        self._offset = start + cut
        for line in reversed(data[:cut].splitlines()):
            found = self._pattern.search(line[:_LINE])
            value = None if found is None else _of_groups(found.groups())
            if value is not None:
                return value
        return None


def _of_groups(groups: Tuple[Any, ...]) -> Optional[float]:
    try:
        numbers = [float(each) for each in groups]
        return _share(numbers[0] if len(numbers) == 1 else numbers[0] / numbers[1])
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def check(pattern: Optional[str]) -> None:
    """Refused unless a pattern can be used."""
    if pattern is not None:
        LogPattern(pattern, "")
