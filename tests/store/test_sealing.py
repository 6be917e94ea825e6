"""What users say to their tasks is in no file of the database in clear; keys change, and rows cannot be exchanged."""

import asyncio
import json
import secrets

import pytest

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.kit.frozen import replace
from sky.store import documents
from sky.store.documents import Document
from sky.store.schema import METADATA
from sky.store.sealing import CannotOpen, Sealer, key_of
from sky.store.sqlite import SqliteStore

SECRET = "hunter2-in-clear"
TASK = {"run": "true", "secrets": {"TOKEN": SECRET}, "envs": {"A": "ü"}}


class Keys:
    def __init__(self):
        self.all = {}
        self.rotate()

    def rotate(self):
        self.last = secrets.token_hex(4)
        self.all[self.last] = secrets.token_bytes(32)

    def current(self):
        return self.last, self.all[self.last]

    def key(self, id):
        return self.all.get(id)


def request(id="request-1"):
    body = {"task": TASK, "uploads": {"a": "manifest-of-request"}}
    return Request(id, "launch", "u", RequestStatus.PENDING, 0, 1.0, body)


def job():
    phase, status = JobPhase.SYNCING, JobStatus.INIT
    return Job("j1", "c1", "one", "r1", "u", phase, status, 0, 1.0, TASK, {"b": "manifest-of-job"})


def cluster():
    made = Cluster("c1", "one", "u", "default", Phase.PROVISIONING, 0, 1.0, 1.0, 1, task_config=TASK)
    return Step(made, (), "")


async def fill(store):
    await store.requests.open(request(), 1.0)
    await store.jobs.open(job_life.opening(job()), 1.0)
    await store.clusters.open(cluster(), 1.0)


async def check(store):
    assert (await store.requests.get("request-1")).body["task"] == TASK
    assert (await store.jobs.get("j1")).task_config == TASK
    assert (await store.clusters.get("c1")).task_config == TASK
    assert await store.manifests_in_use() == {"manifest-of-request", "manifest-of-job"}


def in_clear(folder):
    return [path.name for path in folder.iterdir() if SECRET.encode() in path.read_bytes()]


async def test_no_file_has_it_while_the_store_is_open_and_after(tmp_path):
    store = SqliteStore(tmp_path / "state.db", Sealer(Keys()))
    await store.connect()
    await fill(store)
    await check(store)
    claim = (await store.jobs.claim(2.0, 10, "t", 5))[0]
    assert claim.entity.task_config == TASK
    await store.jobs.commit(claim, Step(claim.entity), job_life.FilesSynced(), now=2.0, due_at=None)
    assert (tmp_path / "state.db-wal").stat().st_size
    assert in_clear(tmp_path) == []
    await store.close()
    assert in_clear(tmp_path) == []


async def test_what_was_written_in_clear_is_sealed_when_it_is_opened(tmp_path):
    before = SqliteStore(tmp_path / "state.db")
    await before.connect()
    await fill(before)
    # A row that is gone has left its bytes in a free page.
    await before.requests.open(request("request-2"), 1.0)
    async with before._file.write() as tx:
        tx.raw.execute("DELETE FROM requests WHERE id = 'request-2'")
    await before.close()
    assert in_clear(tmp_path)
    keys = Keys()
    after = SqliteStore(tmp_path / "state.db", Sealer(keys))
    await after.connect()
    await check(after)
    assert in_clear(tmp_path) == []
    await after.close()
    again = SqliteStore(tmp_path / "state.db", Sealer(keys))
    assert not await again.keep_sealed()
    await check(again)
    await again.close()


async def test_a_new_key_seals_everything_anew(tmp_path):
    keys = Keys()
    store = SqliteStore(tmp_path / "state.db", Sealer(keys))
    await store.connect()
    await fill(store)
    old = keys.last
    keys.rotate()
    assert await store.reseal() == 3
    assert await store.reseal() == 0
    del keys.all[old]
    await check(store)
    await store.close()


def sealed_in(text):
    return json.loads(text)["task_config"]["$sealed"]


def test_a_field_that_has_not_changed_is_sealed_and_opened_once():
    keys = Keys()
    document = Document(Job, ("task_config",), Sealer(keys))
    first = document.dump(job())
    read = document.load(first)
    assert read.task_config == TASK
    assert document.load(first).task_config is read.task_config
    moved = document.dump(replace(read, version=1))
    assert sealed_in(moved) == sealed_in(first) == sealed_in(document.dump(job()))
    other = document.dump(replace(read, task_config={**TASK, "run": "false"}))
    assert sealed_in(other) != sealed_in(first)
    assert document.load(other).task_config["run"] == "false"
    assert document.load(first).task_config == TASK


def test_what_is_remembered_of_a_field_is_what_can_be_read():
    document = Document(Job, ("task_config",), Sealer(Keys()))
    text = document.dump(replace(job(), task_config={"ports": (1, 2)}))
    assert document.load(text).task_config == {"ports": [1, 2]}


def test_with_a_new_key_nothing_is_written_that_the_old_one_sealed():
    keys = Keys()
    document = Document(Job, ("task_config",), Sealer(keys))
    first = document.dump(job())
    keys.rotate()
    again = document.dump(document.load(first))
    assert key_of(sealed_in(again)) == keys.last != key_of(sealed_in(first))


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(documents, "_REMEMBERED", 3)
    document = Document(Job, ("task_config",), Sealer(Keys()))
    texts = [document.dump(replace(job(), id=f"j{number}")) for number in range(9)]
    assert len(document._known) == 3
    assert [document.load(text).task_config for text in texts] == [TASK] * 9


async def test_without_its_key_it_is_not_opened(tmp_path):
    store = SqliteStore(tmp_path / "state.db", Sealer(Keys()))
    await store.connect()
    await fill(store)
    await store.close()
    for sealer in (None, Sealer(Keys())):
        other = SqliteStore(tmp_path / "state.db", sealer)
        with pytest.raises(RuntimeError, match=r"sealing\.keys"):
            await other.connect()
        await other.close()


async def test_a_row_that_cannot_be_opened_holds_up_no_other(tmp_path):
    store = SqliteStore(tmp_path / "state.db", Sealer(Keys()))
    await store.connect()
    for id in ("request-1", "request-2"):
        await store.requests.open(request(id), 1.0)
    async with store._file.write() as tx:
        doc = await tx.scalar(store.requests._sql.get, id="request-1")
        tx.raw.execute("UPDATE requests SET doc = ? WHERE id = 'request-2'", [doc.replace("request-1", "request-2")])
    assert [claim.entity.id for claim in await store.requests.claim(2.0, 10, "t", 5)] == ["request-1"]
    await store.close()


async def everything(postgres, database):
    """All that a database has, as text."""
    names = METADATA.tables
    return "".join([await asyncio.to_thread(postgres.say, database, f"SELECT * FROM {name}") for name in names])


async def test_on_postgres_what_was_in_clear_is_sealed_and_several_servers_read_it(postgres, database):
    from sky.store.postgres import PostgresStore, Target

    where = Target(postgres.uri(database), None, 2)
    before = PostgresStore(where)
    await before.connect()
    await fill(before)
    await before.close()
    assert SECRET in await everything(postgres, database)
    keys = Keys()
    one, two = (PostgresStore(where, None, Sealer(keys)) for _ in range(2))
    await asyncio.gather(one.connect(), two.connect())
    assert SECRET not in await everything(postgres, database)
    await check(two)
    # One exchanges the key; the other seals with it from then on, and reads what either wrote.
    old = keys.last
    keys.rotate()
    await one.reseal()
    await two.requests.open(request("request-2"), 1.0)
    del keys.all[old]
    await check(two)
    await check(one)
    assert (await one.requests.get("request-2")).body["task"] == TASK
    claim = (await two.jobs.claim(2.0, 10, "t", 5))[0]
    await two.jobs.commit(claim, Step(claim.entity), job_life.FilesSynced(), now=2.0, due_at=None)
    assert SECRET not in await everything(postgres, database)
    for each in (one, two):
        await each.close()
    for sealer in (None, Sealer(Keys())):
        other = PostgresStore(where, None, sealer)
        with pytest.raises(RuntimeError, match=r"sealing\.keys"):
            await other.connect()
        await other.close()


@pytest.mark.parametrize("length", [0, 1, 2, 31, 1000, 100_000])
def test_seals_and_opens(length):
    sealer, plain = Sealer(Keys()), secrets.token_bytes(length)
    one, two = sealer.seal(plain, "a:b:c"), sealer.seal(plain, "a:b:c")
    assert one != two
    assert sealer.open(one, "a:b:c") == sealer.open(two, "a:b:c") == plain


def test_what_was_changed_is_not_opened():
    sealer = Sealer(Keys())
    sealed = sealer.seal(b"\0leading zeros count", "request:1:body")
    head, _, body = sealed.rpartition(".")
    changed = [
        sealed[:-8] + "AAAAAAA=",
        head + ".AAAA",
        head + ".",
        head + ".%",
        "s2" + sealed[2:],
        "s1.other." + body,
        "",
    ]
    for each in (*changed, sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:]):
        with pytest.raises(CannotOpen):
            sealer.open(each, "request:1:body")
    with pytest.raises(CannotOpen, match="something else"):
        sealer.open(sealed, "request:2:body")


def test_a_document_without_keys_says_so():
    sealed = Document(Request, ("body",), Sealer(Keys())).dump(request())
    assert SECRET not in sealed
    with pytest.raises(ValueError, match="no keys"):
        Document(Request, ("body",)).load(sealed)


def test_no_event_and_no_order_has_room_for_what_users_say():
    """Letters and orders are not sealed: should one ever carry arguments of a task, it has to be."""
    for each in (*cluster_life.EVENTS, *cluster_life.ORDERS, *job_life.EVENTS, *job_life.ORDERS):
        assert not {"task_config", "body", "layers", "resources_config"} & set(each.__slots__)
