"""Reads the user's `catalog.d`: TOML and CSV files, in the order of their names, into `core.catalog.overrides`.

The server asks before each plan; a folder that has not changed costs a look at it and at each of its files.
"""

import csv
import tomllib
from collections.abc import Iterator
from pathlib import Path

from sky.core.catalog.overrides import Overrides, Written, parse
from sky.core.ports import Catalog

#: Where a user's overrides are.
FOLDER = Path("~/.sky/catalog.d")
_MOST_BYTES = 16 * 2**20


class OverrideFiles:
    """The overrides of one folder, read again when a file has changed."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder.expanduser()
        self._seen: tuple[object, ...] | None = None
        self._read = Overrides()

    def read(self, catalog: Catalog | None = None) -> Overrides:
        """What the files say now; empty without a folder. The catalog tells known types from new ones.

        Raises ValueError with the file, the place in it, what was found and what is allowed.
        """
        paths = self._paths()
        seen = (catalog and catalog.generation, *(_stamp(path) for path in paths))
        if seen != self._seen:
            written = (each for path in paths for each in _written(path))
            self._read = parse(written, lambda cloud, name: bool(catalog and catalog.types(name, cloud)))
            self._seen = seen
        return self._read

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix in (".toml", ".csv"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ValueError(f"{self._folder}: cannot be read: {error.strerror}") from error


def _stamp(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:
        return (path.name,)
    return (path.name, found.st_ino, found.st_size, found.st_mtime_ns)


def _written(path: Path) -> Iterator[Written]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path}: found more than {_MOST_BYTES >> 20} MiB; overrides are written by hand")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: found bytes that are no UTF-8 at {error.start}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    yield from (_of_toml if path.suffix == ".toml" else _of_csv)(path, text)


def _of_toml(path: Path, text: str) -> Iterator[Written]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    lines = _lines_of_tables(text)
    for kind, each in tables.items():
        if not isinstance(each, list) or not all(isinstance(table, dict) for table in each):
            raise ValueError(f"{path}: found '{kind}' outside of a table; write [[{kind}]] above its fields")
        for number, fields in enumerate(each):
            starts = lines.get(kind, [])
            # A table that is written in line has no line of its own.
            place = f":{starts[number]}" if len(starts) == len(each) else f"#{number + 1}"
            yield Written(kind, fields, f"{path}{place}")


def _lines_of_tables(text: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.partition("#")[0].strip()
        if bare.startswith("[[") and bare.endswith("]]"):
            found.setdefault(bare[2:-2].strip(), []).append(number)
    return found


def _of_csv(path: Path, text: str) -> Iterator[Written]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if len(set(header)) != len(header):
            raise ValueError(f"{path}:1: found a column twice; allowed: each once")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ValueError(f"{path}:{reader.line_num}: found {len(row)} cells; the header has {len(header)}")
            yield Written(None, dict(zip(header, row, strict=True)), f"{path}:{reader.line_num}")
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}") from None
