"""What is done to a database by hand, while no server runs on it.

    python -m sky.store REVISION
    python -m sky.store move to-postgres | to-sqlite

The first brings a database to a revision of the schema; servers do so by themselves when they start. The database is
that of `SKYPILOT_DB_CONNECTION_URI`, or else of the state directory. Backwards too: before going back to the release
before, whose program knows no newer revision.

The second carries all records from the state directory to the database of `SKYPILOT_DB_CONNECTION_URI`, or back.
"""

import asyncio
import os
import sys

from sky.kit.paths import state_dir
from sky.store.migrate import migrate, migrate_shared
from sky.store.sqlite import engine_of, revision

_WAYS = {"to-postgres": True, "to-sqlite": False}


def main(to: str) -> None:
    """Bring the database to a revision."""
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


def carry(way: str) -> int:
    """Carry the records over, and tell what was; 1 where that cannot be."""
    uri, file = os.environ.get("SKYPILOT_DB_CONNECTION_URI"), state_dir() / "state.db"
    if not uri:
        print("Name the database of PostgreSQL by SKYPILOT_DB_CONNECTION_URI.", file=sys.stderr)
        return 1
    from sky.store.move import move  # noqa: PLC0415 - with Alembic, for what is done once in a life

    try:
        copied = move(file, uri, to_postgres=_WAYS[way])
    except (RuntimeError, ValueError, OSError) as refused:
        print(f"Nothing was moved: {refused}", file=sys.stderr)
        return 1
    for name, count in copied.items():
        print(f"{name}: {count}")
    print(f"Moved from {file}, which is {file}.moved now." if _WAYS[way] else f"Moved to {file}.")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["move"] and len(sys.argv) == 3 and sys.argv[2] in _WAYS:
        sys.exit(carry(sys.argv[2]))
    if len(sys.argv) != 2 or sys.argv[1] == "move":
        raise SystemExit(__doc__)
    main(sys.argv[1])
