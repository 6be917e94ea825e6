"""Looks at a copy of the records before it takes their place, and notes that it did. Called by `server.restore`."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sky.store.schema import REVISION

_SEALED_WITH = "SELECT value FROM state_values WHERE key = 'sealed-with'"
_NOTE = (
    "INSERT INTO state_values (key, value) VALUES ('restored-at', ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def note_restored(path: Path, at: float) -> None:
    """Write into records that are to take the place of others when (seconds since the epoch) they did.

    Raises sqlite3.Error, which `examine` has made unlikely.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as records:
        records.execute(_NOTE, (repr(at),))


def examine(path: Path) -> str | None:
    """The key with which the records in a copy are sealed, None for one from before that.

    Raises ValueError for a file that is damaged, is no copy of records, or is of a newer version.
    """
    try:
        # As it is, and nothing written beside it.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copied:
            (verdict,) = copied.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise ValueError(f"{path} is damaged: {verdict}")
            (revision,) = copied.execute("SELECT version_num FROM alembic_version").fetchone()
            sealed = copied.execute(_SEALED_WITH).fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise ValueError(f"{path} is no copy of this product's records: {error}") from None
    if revision != REVISION:
        # Alembic takes a quarter of a second to import, and knows the earlier ones.
        from sky.store.migrate import check  # noqa: PLC0415

        try:
            check(revision)
        except RuntimeError as newer:
            raise ValueError(f"{path}: {newer}") from None
    return None if sealed is None else str(sealed[0])
