"""A disk that loses its power: the file is whole up to some commit, and no commit is lost that somebody was told of."""

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from sky.store import sqlite
from sky.store.sqlite import SqliteStore


async def written(path: Path, count: int = 40) -> None:
    """A store with values 0 to count - 1, one per commit, left as a process that dies leaves it."""
    store = SqliteStore(path / "state.db")
    for number in range(count):
        await store.set_value("number", str(number))
        await store.set_value(f"value {number}", "x" * 500)
    (path / "dead").mkdir()
    for each in ("state.db", "state.db-wal"):
        shutil.copy(path / each, path / "dead" / each)
    await store.close()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_torn_at_the_end_of_the_log_a_whole_number_of_commits_is_left(tmp_path, seed):
    await written(tmp_path)
    log = tmp_path / "dead" / "state.db-wal"
    chance, whole = random.Random(seed), log.read_bytes()
    at = chance.randrange(len(whole))
    # Cut off, or with a sector of the disk's own imagination, or of zeros, in the middle.
    torn = [whole[:at], whole[:at] + chance.randbytes(512) + whole[at + 512 :], whole[:at] + bytes(len(whole) - at)]
    log.write_bytes(torn[seed % 3])
    store = SqliteStore(tmp_path / "dead" / "state.db")
    last = int(await store.get_value("number") or -1)
    there = [number for number in range(40) if await store.get_value(f"value {number}") is not None]
    assert there in (list(range(last)), list(range(last + 1)))
    await store.set_value("number", "later")
    assert await store.get_value("number") == "later"
    await store.close()


async def test_what_is_durable_is_in_a_file_that_was_synced(tmp_path, monkeypatch):
    """The log as it was when the disk was waited for has everything that was committed before."""
    kept = []
    real = os.fsync

    def fsync(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink()
        kept.append((name.name, name.read_bytes() if name.name.endswith("-wal") else b""))
        real(handle)

    store = SqliteStore(tmp_path / "state.db")
    await store.set_value("number", "1")
    monkeypatch.setattr(os, "fsync", fsync)
    await store.durable()
    assert [name for name, _ in kept] == ["state.db-wal", "state.db", tmp_path.name]
    (tmp_path / "dead").mkdir()
    shutil.copy(tmp_path / "state.db", tmp_path / "dead" / "state.db")
    (tmp_path / "dead" / "state.db-wal").write_bytes(kept[0][1])
    found = SqliteStore(tmp_path / "dead" / "state.db")
    assert await found.get_value("number") == "1"
    await found.close()
    await store.durable()
    assert len(kept) == 3, "nothing was written since"
    await store.close()


async def test_many_who_wait_for_the_disk_wait_together(tmp_path, monkeypatch):
    rounds = []
    real = sqlite._to_disk
    monkeypatch.setattr(sqlite, "_to_disk", lambda path: rounds.append(path) or real(path))
    store = SqliteStore(tmp_path / "state.db")

    async def one(number: int) -> None:
        await store.set_value(str(number), "there")
        await store.durable()
        assert store._file._synced >= 1

    await asyncio.gather(*(one(number) for number in range(200)))
    assert 1 <= len(rounds) <= 3
    assert store._file._synced == store._file._commits
    await store.close()


async def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error")

    store = SqliteStore(tmp_path / "state.db")
    await store.set_value("number", "1")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_to_disk", broken)
        with pytest.raises(OSError, match="Input/output"):
            await store.durable()
    await store.durable()
    await store.close()


async def test_memory_has_nothing_to_wait_for():
    store = SqliteStore()
    await store.set_value("number", "1")
    await store.durable()
    await store.close()
