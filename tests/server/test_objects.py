"""Uploads in an object store that two servers share: what one was sent, the other has; what is old and unused goes."""

import hashlib
import json
import os
import time

import pytest

from sky.core.errors import ClientError, ServerTemporarilyUnavailableError
from sky.kit.signals import Signals
from sky.server.blobs import BlobStore
from sky.server.objects import ObjectStore
from sky.wire.packs import packed

pytest.importorskip("obstore", reason="the extra `objects` is not installed")

HALF_A_DAY = 43200


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path, monkeypatch):
    """Where two servers keep uploads."""
    if request.param == "file":
        return f"file://{tmp_path}/far"
    bucket, env = request.getfixturevalue("s3").bucket()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def servers(url, tmp_path):
    """Two of them, with a clock that is set by hand."""
    ahead = [0.0]

    def now():
        return time.time() + ahead[0]

    made = [BlobStore(tmp_path / f"s{number}", far=ObjectStore(url, now)) for number in range(2)]
    return *made, ahead


def named(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def pieces(content: bytes):
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def pack(*contents: bytes) -> bytes:
    return b"".join(packed(named(each), each) for each in contents)


async def test_what_one_was_sent_the_other_has(servers):
    one, two, _ = servers
    large, small = b"large" * 100_000, [b"a", b"b" * 50, b""]
    names = [named(each) for each in (large, *small)]
    assert await one.missing([*names, names[0]]) == names
    await one.put(names[0], pieces(large))
    await one.put_pack(pack(*small))
    assert await two.missing(names) == []
    assert not two.path(names[0]).exists()
    await two.fetch(names)
    assert [two.path(name).read_bytes() for name in names] == [large, *small]
    await two.fetch(names)
    assert list((two.root / "incoming").iterdir()) == []


async def test_what_is_not_what_it_is_called_is_nowhere(servers):
    one, two, _ = servers
    with pytest.raises(ClientError, match="does not have the hash"):
        await one.put(named(b"x"), pieces(b"y"))
    assert await two.missing([named(b"x")]) == [named(b"x")]
    with pytest.raises(FileNotFoundError):
        await two.fetch([named(b"x")])
    wrong = one.root / "wrong"
    wrong.write_bytes(b"not x")
    await one._far.put([(named(b"x"), wrong)])
    with pytest.raises(FileNotFoundError, match="is something else"):
        await two.fetch([named(b"x")])
    assert not two.path(named(b"x")).exists()


async def test_what_is_old_is_asked_for_again_and_what_nobody_needs_goes(servers):
    one, two, ahead = servers
    entry = {"path": "f", "type": "file", "mode": 0o644, "size": 4, "hash": named(b"kept")}
    manifest = json.dumps([entry]).encode()
    for each in (b"kept", b"left", manifest):
        await one.put(named(each), pieces(each))
    ahead[0] = HALF_A_DAY + 60
    assert await two.missing([named(b"left")]) == [named(b"left")]
    assert await two.prune([named(manifest), named(b"gone already")], time.time() - 60) == 0
    assert await two.prune([named(manifest)], time.time() + 60) == 1
    ahead[0] = 3700
    assert await one.missing([named(each) for each in (b"kept", b"left", manifest)]) == [named(b"left")]


async def test_copies_that_nobody_uses_are_thrown_away(tmp_path):
    one, two = (BlobStore(tmp_path / name, far=ObjectStore(f"file://{tmp_path}/far", time.time)) for name in "ab")
    for each in (b"old", b"new", b"newer"):
        await one.put(named(each), pieces(each))
    await two.fetch([named(b"old")])
    os.utime(two.path(named(b"old")), (1, 1))
    await two.fetch([named(b"new")])
    assert two.path(named(b"old")).exists()
    two._trimmed = float("-inf")
    await two.fetch([named(b"newer")])
    assert not two.path(named(b"old")).exists()
    assert two.path(named(b"new")).exists()
    assert await two.missing([named(b"old")]) == []


async def test_a_store_that_is_gone_is_told_in_words(tmp_path, monkeypatch):
    for name, value in (("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ALLOW_HTTP", "true")):
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-secret-of-ours")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = BlobStore(tmp_path, far=ObjectStore("s3://nowhere", time.time))
    with pytest.raises(ServerTemporarilyUnavailableError, match="s3://nowhere cannot be used just now") as told:
        await store.missing([named(b"x")])
    assert "a-secret-of-ours" not in str(told.value)


@pytest.mark.parametrize("url", ["ftp://a/b", "http://a/b", "s3:/x"])
def test_other_addresses_are_refused(url):
    with pytest.raises(ValueError, match="SKY_SHARED"):
        ObjectStore(url, time.time)


async def test_talk_on_record_is_read_by_every_server(tmp_path):
    from sky.engine.talk import RecordTalk
    from sky.kit.clock import SystemClock
    from sky.store.sqlite import SqliteStore

    store, signals = SqliteStore(tmp_path / "state.db"), Signals()
    one, two = (RecordTalk(tmp_path / name, signals, store.talk, SystemClock()) for name in ("one", "two"))
    id = "0a1b-request"
    with signals.watch(f"request:{id}") as watch:
        for number in range(100):
            one.say(id, f"line {number}")
        await one.written()
        assert await watch.changed(0)
    two.say(id, "ü from the other")
    await two.written()
    wanted = "".join(f"line {number}\n" for number in range(100)) + "ü from the other\n"
    assert (await one.here(id)).read_text() == (await two.here(id)).read_text() == wanted
    assert not (await one.here("0a1b-other")).exists()
    with pytest.raises(ValueError, match="not a request id"):
        one.say("../x", "y")
    two.drop(id)
    assert not two.path(id).exists()
    assert (await two.here(id)).read_text() == wanted
    await store.close()
