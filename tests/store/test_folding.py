"""The write-ahead log is folded into the file by a thread, while writing goes on."""

import shutil
import sqlite3
from contextlib import closing

from sky.store import sqlite
from sky.store.sqlite import SqliteStore


async def test_the_file_has_what_was_written_without_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_FOLD_EVERY", 5)
    store = SqliteStore(tmp_path / "state.db")
    for number in range(30):
        await store.set_value("counted", str(number))
        if store._file._folding.is_alive():
            store._file._folding.join(timeout=10)
    shutil.copy(tmp_path / "state.db", tmp_path / "alone.db")
    with closing(sqlite3.connect(tmp_path / "alone.db")) as alone:
        (found,) = alone.execute("SELECT value FROM state_values WHERE key = 'counted'").fetchone()
    await store.close()
    assert int(found) >= 20


async def test_a_store_that_is_closed_while_its_log_is_folded_waits_for_that(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_FOLD_EVERY", 1)
    store = SqliteStore(tmp_path / "state.db")
    for number in range(20):
        await store.set_value("counted", str(number))
    folding = store._file._folding
    await store.close()
    assert not folding.is_alive()
    again = SqliteStore(tmp_path / "state.db")
    assert await again.get_value("counted") == "19"
    await again.close()
