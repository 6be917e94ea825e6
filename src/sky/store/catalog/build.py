"""Writes a catalog file: types, places and offers of clouds whose rows were judged already.

`build` makes a whole file (the seed, tests, benchmarks); `merge` uses the parts to write the clouds that were asked
anew beside those that are copied. A file appears at its path complete and on disk, or not at all.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from sky.core.catalog.accelerators import known, spellings
from sky.core.catalog.rows import CloudRows
from sky.core.model.accelerator_names import ACCELERATORS
from sky.core.model.catalog import InstanceType, Place, Price, Source
from sky.store.catalog.schema import APPLICATION_ID, INDEXES, LEAST, MARKETS, QUALITIES, SPREAD, TABLES, VERSION

# By identity: an enum's own hash is a Python call, and there is a look-up for each of 300,000 rows.
_MARKET_CODES = {id(market): code for market, code in MARKETS.items()}
_QUALITY_CODES = {id(quality): code for quality, code in QUALITIES.items()}


def build(path: Path, clouds: Iterable[CloudRows]) -> None:
    """Write these clouds to a catalog file at `path`, in place of what is there. Raises OSError, sqlite3.Error.

    The same rows in the same order give the same bytes.
    """
    with replaced(path) as writing, new_file(writing) as connection:
        for rows in clouds:
            write_cloud(connection, rows)
        finish(connection)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; at the end it is brought to disk and takes the place of `path` in one step."""
    handle, name = mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)
    writing = Path(name)
    try:
        yield writing
        with writing.open("rb+") as file:
            os.fsync(file.fileno())
        writing.chmod(0o644)
        writing.replace(path)
        _sync_folder(path.parent)
    finally:
        writing.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty catalog file, in one transaction; nobody else may see the file yet."""
    connection = sqlite3.connect(path.absolute().as_uri(), uri=True, isolation_level=None)
    try:
        connection.executescript("""
            pragma page_size = 4096; pragma journal_mode = off; pragma synchronous = off;
            pragma locking_mode = exclusive; pragma cache_size = -65536; pragma temp_store = memory;
        """)
        connection.executescript(TABLES)
        connection.execute("begin")
        named = sorted(ACCELERATORS.values())
        connection.executemany(
            "insert into accelerator values (?, ?, ?, ?)",
            [(number, each.name, each.vendor, each.memory_gib) for number, each in enumerate(named, 1)],
        )
        connection.executemany(
            "insert into spelling select ?, id from accelerator where name = ?", sorted(spellings().items())
        )
        yield connection
    finally:
        connection.close()


def finish(connection: sqlite3.Connection) -> None:
    """Spread regional prices over zones, set the bounds, make the indexes, commit."""
    for script in (SPREAD, LEAST, INDEXES):
        for statement in script.split(";"):
            connection.execute(statement)
    connection.execute(f"pragma user_version = {VERSION}")
    connection.execute(f"pragma application_id = {APPLICATION_ID}")
    connection.execute("commit")


def write_cloud(connection: sqlite3.Connection, rows: CloudRows) -> None:
    """Add one cloud. Every price must name a type of `rows`, or one that is in the file already."""
    cloud = rows.cloud
    types = _write_types(connection, cloud, rows.types)
    places = _Numbers(_next(connection, "place"))
    provenance = _Numbers(_next(connection, "provenance"))
    offers = _offers(rows.prices, types, places, provenance)
    offering = [(types[row[1]], places[row[2:4]], _MARKET_CODES[id(row[4])]) for row in rows.unpriced]
    connection.executemany("insert into offer values (?, ?, ?, ?, ?, ?)", offers)
    connection.executemany("insert or ignore into offering values (?, ?, ?)", sorted(offering))
    _write_places(connection, rows, places)
    _write_provenance(connection, rows, provenance)
    connection.executemany(
        "insert into egress values (?, ?, ?, ?, ?, ?)",
        [(cloud, e.region, e.to, e.usd_per_gb, QUALITIES[e.quality], e.source) for e in rows.egress],
    )
    connection.executemany("insert into quarantine values (?, ?, ?, ?)", rows.quarantined)


class _Numbers(dict[Any, int]):
    """Numbers for rows to come, given out in the order in which they are first asked for."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._next = first

    def __missing__(self, key: Any) -> int:
        self[key] = number = self._next
        self._next += 1
        return number


def _next(connection: sqlite3.Connection, table: str) -> int:
    """The first number that no row of a table has."""
    found: int = connection.execute(f"select ifnull(max(id), 0) + 1 from {table}").fetchone()[0]  # noqa: S608 - ours
    return found


def _offers(
    prices: list[Price], types: dict[str, int], places: _Numbers, provenance: _Numbers
) -> list[tuple[Any, ...]]:
    """Rows of `offer` in the order of its key: appending to a B-tree costs a third of inserting into its middle.

    The key of a provenance has the identity of the quality.
    """
    codes = _MARKET_CODES
    made: list[tuple[Any, ...]] = [
        (
            types[name],
            price,
            places[region, zone],
            codes[id(market)],
            provenance[source, id(quality), observed],
            interruption,
        )
        for _, name, region, zone, market, price, quality, observed, source, _, interruption in prices
    ]
    # No two rows agree in type, price, place and market, so that nothing behind these is compared.
    made.sort()
    return made


def _write_types(connection: sqlite3.Connection, cloud: str, types: dict[str, InstanceType]) -> dict[str, int]:
    accelerators = dict(connection.execute("select name, id from accelerator"))
    for name in sorted({each.accelerator for each in types.values() if each.accelerator} - accelerators.keys()):
        found = known(name)
        vendor, memory = (found.vendor, found.memory_gib) if found else (None, None)
        cursor = connection.execute(
            "insert into accelerator(name, vendor, memory_gib) values (?, ?, ?)", (name, vendor, memory)
        )
        accelerators[name] = cursor.lastrowid
    connection.executemany(
        "insert into itype values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, null, null)",
        [
            (
                cloud, each.name, each.cpus, each.memory_gib, each.arch,
                accelerators[each.accelerator] if each.accelerator else None,
                each.accelerator_count, each.accelerator_memory_gib, each.local_disk_gb, each.local_disk_kind,
                each.network_gbps, each.family, " ".join(sorted(each.features)),
            )
            for each in types.values()
        ],
    )  # fmt: skip
    return dict(connection.execute("select name, id from itype where cloud = ?", (cloud,)))


def _write_places(connection: sqlite3.Connection, rows: CloudRows, places: _Numbers) -> None:
    """Every place that was told, and those in which something is sold: a zone is where its region is."""
    told = {(place.region, place.zone): place for place in rows.places}
    for key in told:
        places[key]
    made = []
    for (region, zone), number in places.items():
        place = told.get((region, zone))
        if place is None:
            around = told.get((region, None)) or Place(rows.cloud, region)
            place = around._replace(zone=zone, zone_id=None)
        made.append((number, *place))
    connection.executemany("insert into place values (?, ?, ?, ?, ?, ?, ?)", made)


def _write_provenance(connection: sqlite3.Connection, rows: CloudRows, provenance: _Numbers) -> None:
    """The documents that were told or that prices name, and where prices come from, once for all that share it."""
    named = {each.url: each for each in rows.sources}
    for url, _, observed in provenance:
        known_source = named.get(url)
        if known_source is None or (known_source.fetched < observed and known_source not in rows.sources):
            named[url] = Source(rows.cloud, url, observed)
    first = _next(connection, "source")
    numbers = {url: number for number, url in enumerate(named, first)}
    connection.executemany(
        "insert into source values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (numbers[url], s.cloud, s.url, s.fetched, s.rows, s.etag, s.last_modified, s.sha256, s.license)
            for url, s in named.items()
        ],
    )
    connection.executemany(
        "insert into provenance values (?, ?, ?, ?)",
        [
            (number, numbers[url], _QUALITY_CODES[quality], observed)
            for (url, quality, observed), number in provenance.items()
        ],
    )
