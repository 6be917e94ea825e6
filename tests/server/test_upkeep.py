"""Looking after a server: is it well, what it counts, its end under load, its key, its back-up, its dump."""

import asyncio
import gc
import json
import logging
import os
import sqlite3
import threading
import time
import zipfile
from pathlib import Path

import pytest
from serving import eventually

from sky.core.model.vitals import Rotation
from sky.kit.current import REQUEST
from sky.sdk import clusters, requests, server, starting, upkeep
from sky.sdk.http1 import Address, Connection
from sky.server.api import Api
from sky.server.assembly import build
from sky.server.dump import shapes
from sky.server.lock import AlreadyRunning
from sky.server.logs import formatter
from sky.server.restore import restore
from sky.server.settings import Settings

SECRET = "correct-horse-battery"


def ask(served, path):
    connection = Connection(Address("unix", path=str(served.settings.socket)), 20)
    try:
        answer = connection.exchange("GET", path, {}, b"")
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_ready_says_why_not(served):
    assert served.call("GET", "/healthz")[:2] == (200, {"ready": True, "trouble": []})
    assert served.call("GET", "/readyz")[:2] == (200, {"ready": True, "trouble": []})
    served.plane.upkeep.words.append("the loop 'sweep' has ended")
    assert served.call("GET", "/readyz")[:2] == (503, {"ready": False, "trouble": ["the loop 'sweep' has ended"]})
    assert served.call("GET", "/healthz")[0] == 200


def test_metrics_are_what_prometheus_reads(served):
    served.call("POST", "/status", {})
    served.call("POST", "/nowhere", {})
    status, text, headers = ask(served, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'sky_http_requests_total{method="POST",route="/status",status="200"} 1' in text
    assert 'sky_http_requests_total{method="POST",route="none",status="404"} 1' in text
    assert 'sky_http_request_duration_seconds_bucket{route="/status",le="+Inf"} 1' in text
    assert 'sky_rows_due{noun="request"} 3' in text
    assert 'sky_store_seconds_total{kind="read"} 0.5' in text
    for line in text.splitlines():
        if not line.startswith("#"):
            float(line.rpartition(" ")[2])
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_a_server_that_ends_takes_on_nothing_and_answers_reads(served):
    found = next(each for each in gc.get_objects() if isinstance(each, Api) and each.plane is served.plane)
    served.do(lambda: setattr(found, "draining", True))
    status, told, headers = served.call("POST", "/launch", {"task": {"run": "true"}, "cluster_name": "one"})
    assert (status, told["error"]["type"], headers["retry-after"]) == (503, "ServerTemporarilyUnavailableError", "1")
    assert served.plane.submissions == 0
    assert served.call("POST", "/status", {})[0] == 200
    assert served.call("GET", "/readyz")[0] == 503


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_lines_name_their_request(form):
    record = logging.LogRecord("a.b", logging.WARNING, __file__, 1, "said %s", ("this",), None)
    mark = REQUEST.set("request-7")
    try:
        line = formatter(form).format(record)
    finally:
        REQUEST.reset(mark)
    if form == "json":
        told = json.loads(line)
        assert told.pop("time") == pytest.approx(record.created, abs=1e-5)
        assert told == {"level": "WARNING", "logger": "a.b", "request_id": "request-7", "message": "said this"}
    else:
        assert line.endswith("WARNING a.b [request-7]: said this")
    with pytest.raises(ValueError, match="log_format"):
        formatter("xml")


def test_sigterm_under_load_loses_nothing(state, monkeypatch):
    """Clients go on while the server is told to end three times; each call is answered by one server or the next."""
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", [*starting.SERVER_ARGUMENTS, "--plane", "small_plane:build"])
    server.api_info()
    stop, failures, done = threading.Event(), [], []

    def work(number):
        while not stop.is_set():
            try:
                clusters.launch({"run": "true"}, f"one-{number}")
                requests.get(clusters.status())
                done.append(number)
            except Exception as failed:
                failures.append(failed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    pids = set()
    try:
        for _ in range(3):
            seen = len(done)
            eventually(lambda seen=seen: len(done) > seen + 8 or failures, 60)
            note = eventually(lambda: starting.note(state), 60)
            pids.add(note["pid"])
            begun = time.monotonic()
            os.kill(note["pid"], 15)
            eventually(lambda pid=note["pid"]: (starting.note(state) or {}).get("pid") != pid)
            assert time.monotonic() - begun < starting.LET_GO_S
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert len(pids) == 3
    assert "Traceback" not in (state / "server.log").read_text()


async def plane_at(folder):
    plane = build(Settings(folder))
    await plane.store.connect()
    return plane


async def filled(folder):
    plane = await plane_at(folder)
    body = {"task": {"run": "true", "secrets": {"A": SECRET}, "envs": {"B": SECRET}}, "cluster_name": "c"}
    await plane.submit("launch", body, user="u", request_id="request-1")
    return plane


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SKYPILOT_DB_CONNECTION_URI", raising=False)


async def test_a_backup_is_restored_with_its_keys_only(tmp_path):
    one, two, copy = tmp_path / "one", tmp_path / "two", tmp_path / "copy.db"
    plane = await filled(one)
    await plane.upkeep.backup(copy)
    assert copy.stat().st_mode & 0o077 == 0
    assert SECRET.encode() not in copy.read_bytes()
    with pytest.raises(FileExistsError):
        await plane.upkeep.backup(copy)
    await plane.submit("down", {"cluster_name": "c"}, user="u", request_id="request-2")
    await plane.store.close()
    with pytest.raises(ValueError, match=r"sealing\.keys"):
        restore(copy, two)
    assert not (two / "state.db").exists()
    (two / "keys").mkdir()
    (two / "keys" / "sealing.keys").write_bytes((one / "keys" / "sealing.keys").read_bytes())
    (two / "keys" / "sealing.keys").chmod(0o600)
    assert restore(copy, two) is None
    again = await plane_at(two)
    assert (await again.find_request("request-1")).body["task"]["secrets"] == {"A": SECRET}
    await again.store.close()
    aside = restore(copy, one)
    assert aside.name.startswith("state.db.before-")
    back = await plane_at(one)
    assert [each.id for each in await back.requests(finished=True, cluster_name=None, limit=None)] == ["request-1"]
    # The sweep is to leave alone what was made since.
    assert float(await back.store.get_value("restored-at")) == pytest.approx(time.time(), abs=60)
    await back.store.close()


async def test_a_backup_is_of_one_moment(tmp_path):
    """Rows are written while it is made; what it has is whole, and in the order in which it was written."""
    plane = await plane_at(tmp_path / "s")
    stop = threading.Event()

    async def write():
        number = 0
        while not stop.is_set():
            await plane.submit("down", {"cluster_name": f"c{number}"}, user="u", request_id=f"request-{number:06}")
            number += 1
            await asyncio.sleep(0)
        return number

    writer = asyncio.create_task(write())
    for number in range(5):
        await plane.upkeep.backup(tmp_path / f"{number}.db")
    stop.set()
    assert await writer > 0
    for number in range(5):
        found = sqlite3.connect(tmp_path / f"{number}.db")
        ids = [id for (id,) in found.execute("SELECT id FROM requests ORDER BY id")]
        orders = found.execute("SELECT count(*) FROM orders").fetchone()[0]
        found.close()
        assert ids == [f"request-{each:06}" for each in range(len(ids))]
        assert orders == len(ids)
    await plane.store.close()


def test_nothing_is_restored_onto_a_living_server_or_from_rubbish(state, monkeypatch, tmp_path):
    monkeypatch.setattr(starting, "SERVER_ARGUMENTS", [*starting.SERVER_ARGUMENTS, "--plane", "small_plane:build"])
    server.api_info()
    with pytest.raises(AlreadyRunning):
        restore(tmp_path / "any", state)
    server.api_stop()
    rubbish = tmp_path / "rubbish.db"
    for content in (b"", b"not a database at all" * 100):
        rubbish.write_bytes(content)
        with pytest.raises(ValueError, match="no copy"):
            restore(rubbish, state)
    with pytest.raises(ValueError, match="no copy"):
        restore(tmp_path / "missing.db", state)


async def test_a_copy_of_a_newer_version_is_refused(tmp_path):
    plane = await filled(tmp_path / "s")
    await plane.upkeep.backup(tmp_path / "copy.db")
    await plane.store.close()
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")
    copy.close()
    with pytest.raises(ValueError, match="newer version"):
        restore(tmp_path / "copy.db", tmp_path / "s")


async def test_upkeep_of_a_real_plane(tmp_path):
    plane = await filled(tmp_path / "s")
    assert await plane.upkeep.trouble() == []
    vitals = await plane.upkeep.vitals()
    assert vitals.counts.due == {"cluster": 0, "job": 0, "request": 1, "managed_job": 0, "pool": 0}
    assert vitals.counts.orders == 1
    assert vitals.writes.count > 0
    before = plane.store.requests
    key, rows, over = await plane.upkeep.rotate_key(20.0)
    assert (rows, over) == (1, True)
    assert key in (tmp_path / "s" / "keys" / "sealing.keys").read_text()
    assert (await before.get("request-1")).body["cluster_name"] == "c"
    told = json.dumps({name: list(each) for name, each in (await plane.upkeep.rows(10)).items()}, default=str)
    assert SECRET not in told
    assert "request-1" in told
    await plane.store.close()
    assert await _dead_store(plane)


async def test_an_exchange_of_the_key_goes_on_without_who_asked(tmp_path):
    plane = await filled(tmp_path / "s")
    file, reseal, may = tmp_path / "s" / "keys" / "sealing.keys", plane.store.reseal, asyncio.Event()

    async def slowly():
        await may.wait()
        return await reseal()

    plane.store.reseal = slowly
    with pytest.raises(ValueError, match="No key is being exchanged"):
        await plane.upkeep.rotate_key(0.0, going_on=True)
    keys = len(file.read_text().splitlines())
    assert await plane.upkeep.rotate_key(0.01) == Rotation()
    assert await plane.upkeep.rotate_key(0.01) == Rotation(), "who asks meanwhile joins"
    may.set()
    ended = await plane.upkeep.rotate_key(20.0, going_on=True)
    assert (ended.rows, ended.over) == (1, True)
    assert await plane.upkeep.rotate_key(0.0, going_on=True) == ended, "whose answer was lost has it again"
    assert len(file.read_text().splitlines()) == keys + 1
    again = await plane.upkeep.rotate_key(20.0)
    assert again.key != ended.key
    may.clear()
    assert await plane.upkeep.rotate_key(0.01) == Rotation()
    await plane.upkeep.stop()
    await plane.store.close()


async def _dead_store(plane):
    async def ends():
        return None

    loop = asyncio.create_task(ends(), name="sweep")
    await loop
    plane._tasks.append(loop)
    plane.store.get_value = _refuse
    return await plane.upkeep.trouble() == ["the loop 'sweep' has ended", "the records do not answer: disk is gone"]


async def _refuse(key):
    raise OSError("disk is gone")


def test_a_dump_has_no_secret(served, tmp_path):
    (served.settings.state_dir / "server.log").write_text("a line\n")
    path, size = upkeep.debug_dump(tmp_path / "d.zip")
    assert (path, size) == (tmp_path / "d.zip", (tmp_path / "d.zip").stat().st_size)
    assert path.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(path) as made:
        names = set(made.namelist())
        whole = b"".join(made.read(name) for name in names).decode()
        told = json.loads(made.read("configuration.json"))
    assert {"version.json", "configuration.json", "metrics.txt", "rows/requests.json", "server.log"} <= names
    assert told == {"api_server": {"service_account_token": "<text of 6>", "port": 1}}
    assert "sesame" not in whole
    assert upkeep.rotate_key() == ("new", 5)
    assert upkeep.backup(tmp_path / "b")[1] == 4


@pytest.mark.parametrize("path", ["relative", "/nowhere/at/all", "/tmp"])
def test_files_that_cannot_be_written_are_refused(served, path):
    assert served.call("POST", "/api/backup", {"path": path})[0] == 400


def test_shapes_keep_names_and_numbers_alone():
    given = {"a": [1, True, None, "x" * 3], "b": {"c": 2.5}, "d": Path("/p")}
    assert shapes(given) == {"a": [1, True, None, "<text of 3>"], "b": {"c": 2.5}, "d": "<text of 2>"}
