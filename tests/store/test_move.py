"""Records go from a SQLite file to PostgreSQL and back, whole and sealed, and only where nobody works on them."""

import fcntl
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, insert, select

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import requests as request_life
from sky.sim.store_bed import cluster, job, request
from sky.store import move as module
from sky.store.move import CannotMove, move
from sky.store.schema import METADATA
from sky.store.sealing import Sealer
from sky.store.sqlite import SqliteDatabase, SqliteStore

SECRET = "hunter2-in-clear"


class OneKey:
    def __init__(self):
        self.bytes = secrets.token_bytes(32)

    def current(self):
        return "k1", self.bytes

    def key(self, id):
        return self.bytes if id == "k1" else None


async def fill(store):
    """A row at least in each table that is written by what servers do."""
    await store.connect()
    made = cluster("c1", "one")
    await store.clusters.open(cluster_life.opening(made), 1.0)
    await store.jobs.open(job_life.opening(job("j1")), 1.0)
    body = {"task": {"run": "true", "secrets": {"TOKEN": SECRET}}}
    for number in range(3):
        await store.requests.open(replace(request(f"request-{number}"), body=body), 1.0)
    await store.clusters.post("c1", cluster_life.DownAsked(), 2.0)
    await store.clusters.claim(3.0, 100.0, "somebody", 5)
    await store.set_value("a", "b\0c")
    await store.duties.hold("sweep", "me", 3.0, 100.0)


def rows(file):
    """Everything in a SQLite file but leases and duties."""
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        found = {
            table.name: sorted(
                tuple(
                    value.replace("\0", "\ufffd") if isinstance(value, str) else value
                    for name, value in row.items()
                    if name not in ("token", "lease_until") or table.name == "tokens"
                )
                for row in connection.execute(select(table)).mappings()
                if not str(row.get("key")).startswith("duty:")
            )
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    return found


@pytest.fixture
async def file(tmp_path):
    """The records of a server that has ended."""
    keys = OneKey()
    store = SqliteStore(tmp_path / "from" / "state.db", Sealer(keys))
    await fill(store)
    await store.close()
    return tmp_path / "from" / "state.db", keys


def moved(*given, **named):
    """It has a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(move, *given, **named).result()


async def test_there_and_back_again(file, postgres, database, tmp_path):
    path, keys = file
    uri, before = postgres.uri(database), rows(path)
    copied = moved(path, uri, to_postgres=True)
    assert copied == {name: len(found) for name, found in before.items()}
    assert copied["requests"] == 3
    assert not path.exists()
    assert path.with_name("state.db.moved").exists()
    assert SECRET not in postgres.say(database, "SELECT doc FROM requests")
    from sky.store.postgres import PostgresStore, Target

    store = PostgresStore(Target(uri), None, Sealer(keys))
    await store.connect()
    assert (await store.requests.get("request-1")).body["task"]["secrets"] == {"TOKEN": SECRET}
    # Held by nobody, and counted on from what is there.
    (claim,) = await store.clusters.claim(5.0, 1.0, "other", 5)
    assert [type(letter.event) for letter in claim.letters] == [cluster_life.DownAsked]
    await store.clusters.release(claim)
    assert await store.duties.hold("sweep", "other", 5.0, 0.01)
    assert await store.requests.post("request-1", request_life.CancelAsked(), 6.0) == claim.letters[0].id + 1
    postgres.say(database, "DELETE FROM letters WHERE entity = 'request'")
    postgres.say(database, f"UPDATE requests SET due_at = {before_due(before, 'requests')}")
    await store.close()
    again = tmp_path / "again" / "state.db"
    assert moved(again, uri, to_postgres=False) == copied
    after = rows(again)
    assert after.pop("clusters")[0][0] == before.pop("clusters")[0][0]
    assert after == before


def before_due(before, table):
    names = [column.name for column in METADATA.tables[table].columns if column.name not in ("token", "lease_until")]
    return before[table][0][names.index("due_at")]


async def test_records_are_never_mixed(file, postgres, database):
    path, _ = file
    uri = postgres.uri(database)
    moved(path, uri, to_postgres=True)
    path.with_name("state.db.moved").rename(path)
    with pytest.raises(CannotMove, match="is not empty: there are rows in") as told:
        moved(path, uri, to_postgres=True)
    assert postgres.password not in str(told.value)
    assert path.exists()
    with pytest.raises(CannotMove, match="is not empty"):
        moved(path, uri, to_postgres=False)


async def test_not_while_a_server_runs_on_either(file, postgres, database):
    from sky.store.postgres import PostgresStore, Target

    path, _ = file
    uri = postgres.uri(database)
    handle = os.open(path.parent / "server.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(CannotMove, match="a server is running on"):
        moved(path, uri, to_postgres=True)
    os.close(handle)
    running = PostgresStore(Target(uri))
    await running.connect()
    with pytest.raises(CannotMove, match="servers are running on"):
        moved(path, uri, to_postgres=True)
    await running.close()
    assert moved(path, uri, to_postgres=True)["clusters"] == 1


async def test_all_or_nothing(file, postgres, database, monkeypatch):
    path, _ = file
    uri = postgres.uri(database)
    real = module._copy

    def broken(table, source, target):
        if table.name == "state_values":
            raise KeyboardInterrupt
        return real(table, source, target)

    monkeypatch.setattr(module, "_copy", broken)
    with pytest.raises(KeyboardInterrupt):
        moved(path, uri, to_postgres=True)
    assert path.exists()
    assert {postgres.say(database, f"SELECT count(*) FROM {name}") for name in METADATA.tables} == {"0"}


async def test_thousands_of_rows(tmp_path, postgres, database):
    store = SqliteStore(tmp_path / "state.db")
    await store.connect()
    await store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    with engine.begin() as connection:
        values = METADATA.tables["state_values"]
        connection.execute(insert(values), [{"key": f"k{number}", "value": "ü" * 50} for number in range(3000)])
    engine.dispose()
    assert moved(tmp_path / "state.db", postgres.uri(database), to_postgres=True)["state_values"] == 3000


def test_the_command(tmp_path, postgres, database):
    SqliteDatabase(tmp_path / "state.db").close()
    env = {**os.environ, "SKY_STATE_DIR": str(tmp_path), "SKYPILOT_DB_CONNECTION_URI": postgres.uri(database)}
    words = [sys.executable, "-m", "sky.store", "move"]
    done = subprocess.run([*words, "to-postgres"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "requests: 0" in done.stdout.splitlines()
    assert "state.db.moved" in done.stdout
    done = subprocess.run([*words, "to-postgres"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "there are no records to move" in done.stderr
    assert postgres.password not in done.stdout + done.stderr
    assert subprocess.run([*words, "sideways"], env=env, capture_output=True).returncode == 1
