"""Puts a back-up in the place of the records, while no server runs. Called by `sky api restore`."""

import os
import shutil
from pathlib import Path

from sky.kit.clock import SystemClock
from sky.kit.paths import private_dir
from sky.server.assembly import keys_of
from sky.server.configuration import ConfigFile
from sky.server.lock import InstanceLock
from sky.server.settings import Settings, database_of
from sky.store.copies import examine, note_restored


def restore(backup: Path, state: Path) -> Path | None:
    """Make a back-up the records of a state directory; where those that were there are now (None: there were none).

    Raises AlreadyRunning while a server runs there, ValueError for a file that cannot be taken, OSError.
    """
    settings, now = Settings(private_dir(state)), SystemClock().now()
    config = ConfigFile({})
    if database_of(os.environ, config.text("db")) is not None:
        raise ValueError("The records are in PostgreSQL, which is restored by its own means: pg_restore or psql.")
    with InstanceLock(settings.lock_file, started_at=now, socket=settings.socket):
        sealed = examine(backup)
        keys = keys_of(settings, config)
        if sealed is not None and keys.key(sealed) is None:
            raise ValueError(
                f"{backup} is sealed with the key {sealed}, which is not in {keys.path}: bring that file back first."
            )
        fresh, records = state / "state.db.restoring", state / "state.db"
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        # What was made since is unknown to it; the sweep leaves that alone for a while.
        note_restored(fresh, now)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        aside = _set_aside(records, int(now))
        fresh.replace(records)
        return aside


def _set_aside(records: Path, now: int) -> Path | None:
    """The log of writes belongs to its file: both go, so that the one left behind is whole."""
    if not records.exists():
        return None
    aside = records.with_name(f"{records.name}.before-{now}")
    for end in ("-wal", "-shm", ""):
        part = records.with_name(records.name + end)
        if part.exists():
            part.replace(aside.with_name(aside.name + end))
    return aside
