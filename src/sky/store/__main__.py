"""Brings a database to a revision of the schema by hand; servers do so by themselves when they start.

    python -m sky.store REVISION

The database is that of `SKYPILOT_DB_CONNECTION_URI`, or else of the state directory. Backwards too: before going back
to the release before, whose program knows no newer revision. No server may be running on it.
"""

import asyncio
import os
import sys

from sky.kit.paths import state_dir
from sky.store.migrate import migrate, migrate_shared
from sky.store.sqlite import engine_of, revision


def main(to: str) -> None:
    """See the module."""
    uri = os.environ.get("SKYPILOT_DB_CONNECTION_URI")
    if uri:
        from sky.store.postgres import Target  # noqa: PLC0415 - its library is in an extra

        asyncio.run(migrate_shared(Target(uri).direct, to))
        return
    engine = engine_of(state_dir() / "state.db")
    with engine.connect() as connection:
        found = revision(connection)
    migrate(engine, found, to)
    engine.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
