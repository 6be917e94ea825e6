"""Finds whether a user has credentials for a place, without taking them: the registry's answer for `sky check`.

No secret leaves this module: what is told is where something was found. A file is read only where its presence alone
says nothing (a configuration that may hold credentials or not), and then only until the line that shows it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Characters of a configuration file that are looked at.
_LOOKED_AT = 256 * 1024

#: Values that set a key to nothing.
_NOTHING = ("", "null", "None")


def found(places: Iterable[str], environment: Mapping[str, str], home: Path) -> str | None:
    """Where the first credentials are, in words for the user; `None` where there are none.

    `places` are those of `Manifest.credentials`. An empty variable and an empty file count for nothing.
    """
    for place in places:
        if (where := _found_at(place, environment, home)) is not None:
            return where
    return None


def looked(places: Iterable[str]) -> str:
    """The places in words: where credentials were looked for."""
    return ", ".join(dict.fromkeys(_in_words(place) for place in places))


def _in_words(place: str) -> str:
    kind, _, name = place.partition(":")
    return name.partition("#")[0] if kind == "file" else f"${name}"


def _found_at(place: str, environment: Mapping[str, str], home: Path) -> str | None:
    kind, _, name = place.partition(":")
    if kind == "env":
        return f"${name}" if environment.get(name, "").strip() else None
    if kind == "env-file":
        named = environment.get(name, "").strip()
        return f"the file that ${name} names" if named and _has_content(_under(named, home), "") else None
    path, _, word = name.partition("#")
    return path if _has_content(_under(path, home), word) else None


def _under(path: str, home: Path) -> Path:
    return home / path[2:] if path.startswith("~/") else Path(path)


def _has_content(path: Path, word: str) -> bool:
    """Whether the file is not empty, and has a line that begins with `word` where one is given."""
    try:
        if not path.is_file() or path.stat().st_size == 0:
            return False
        return not word or _has_line(path, word)
    except OSError:
        return False


def _has_line(path: Path, word: str) -> bool:
    read = 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        while read < _LOOKED_AT and (line := lines.readline(_LOOKED_AT)):
            read += len(line)
            if _says(line, word):
                return True
    return False


def _says(line: str, word: str) -> bool:
    """Whether a line of INI, TOML, YAML or JSON sets a key that begins with `word` to something."""
    for part in re.split("[,{]", line):
        key, _, value = part.strip().lstrip("-\" '").replace(":", "=", 1).partition("=")
        if key.startswith(word) and value.strip(" \t\r\n\"'}") not in _NOTHING:
            return True
    return False
