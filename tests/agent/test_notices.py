"""The agent hears from a metadata service that its machine will go; the service here speaks as the clouds' do."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise

import pytest

from sky.agent import head, notices
from sky.agent.ledger import Ledger
from sky.agent.node import parse
from sky.agent.notices import Absent, Note, Notice, get, watch
from sky.agent.peers import Myself, Peer

WHEN = "2026-01-02T03:04:05Z"
AT = 1767323045.0


class Service:
    """A metadata service: answers by path, and what it was asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.tokens = ["t0ken"]
        self.changed = asyncio.Event()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
            self.asked.append((method, path))
            writer.write(await self.answer(method, path, sent))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, method, path, sent):
        if path.startswith("/computeMetadata/"):
            return await self.google(path, sent)
        if path == "/latest/api/token":
            good = method == "PUT" and sent.get("x-aws-ec2-metadata-token-ttl-seconds", "").isdigit()
            return reply(200, self.tokens[0]) if good else reply(400)
        if sent.get("x-aws-ec2-metadata-token") != self.tokens[0]:
            return reply(401)
        text = self.answers.get(path)
        return reply(404) if text is None else reply(200, text)

    async def google(self, path, sent):
        if sent.get("metadata-flavor") != "Google":
            return reply(403)
        if "last_etag=same" in path:
            await self.changed.wait()
            return reply(200, "TRUE", "Metadata-Flavor: Google", "ETag: other")
        tag = "other" if self.changed.is_set() else "same"
        return reply(200, "TRUE" if tag == "other" else "FALSE", "Metadata-Flavor: Google", f"ETag: {tag}")

    async def close(self):
        self.server.close()
        await self.server.wait_closed()


def reply(status, text="", *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}", *headers]
    return "\r\n".join([*lines, "", text]).encode()


@pytest.fixture
async def service():
    made = Service()
    await made.start()
    yield made
    await made.close()


async def heard(cluster, count=1):
    """The notices in the head's events, once there are so many."""
    since, found = 0, []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        events, since = await cluster.head.events(since, wait=1.0)
        found += [event for event in events if event["kind"] == "notice"]
    return found


async def until(met):
    for _ in range(6000):
        if met():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def test_a_spot_notice_of_a_worker_is_the_heads_event_and_kills_nothing(start_cluster, service):
    service.answers["/latest/meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": WHEN})
    cluster = await start_cluster(2, notice="aws", metadata=service.url)
    events = await heard(cluster, 2)
    assert sorted(event["rank"] for event in events) == [0, 1]
    assert {(event["what"], event["deadline"]) for event in events} == {("terminate", AT)}
    for node in cluster.nodes:
        said = json.loads((node.home / ".sky/notice.json").read_text())
        assert said["what"] == "terminate" and said["deadline"] == AT and abs(said["at"] - time.time()) < 60
    assert (await cluster.result(await cluster.submit("true", num_nodes=2)))[0] == "SUCCEEDED"
    # The next agent of the same start asks again and tells again: it is no news.
    asked = len(service.asked)
    old = await cluster.nodes[0].pid()
    cluster.kill_agent(old)
    while await cluster.nodes[0].pid() == old:
        await asyncio.sleep(0.01)
    await until(lambda: len(service.asked) >= asked + 2)
    assert len([event for event in (await cluster.head.events(0))[0] if event["kind"] == "notice"]) == 2


async def test_google_tells_by_an_answer_that_was_held(start_cluster, service):
    cluster = await start_cluster(notice="gcp", metadata=service.url)
    await until(lambda: any("wait_for_change" in path for _, path in service.asked))
    assert not (cluster.nodes[0].home / ".sky/notice.json").exists()
    service.changed.set()
    (event,) = await heard(cluster)
    assert event["what"] == "terminate" and 25 < event["deadline"] - event["at"] <= 30


async def told_by(service, cloud, count=1, every=0.01):
    found = []
    enough = asyncio.Event()

    async def tell(notice):
        found.append(notice)
        if len(found) >= count:
            enough.set()

    task = asyncio.ensure_future(watch(cloud, service.url, lambda: 1.0, tell, every))
    await asyncio.wait_for(enough.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def test_advice_to_leave_comes_first_and_an_old_token_is_renewed(service):
    service.answers["/latest/meta-data/events/recommendations/rebalance"] = json.dumps({"noticeTime": WHEN})

    async def later():
        await until(lambda: ("GET", "/latest/meta-data/events/recommendations/rebalance") in service.asked)
        service.tokens[0] = "an0ther"
        service.answers["/latest/meta-data/spot/instance-action"] = json.dumps({"action": "stop", "time": "soon"})

    found, _ = await asyncio.gather(told_by(service, "aws", 2), later())
    assert found == [Notice("rebalance", AT, None), Notice("stop", 1.0, None)]
    assert service.asked.count(("PUT", "/latest/api/token")) == 2


@pytest.mark.parametrize("answer", [b"", b"junk", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20000, reply(500), reply(200)])
@pytest.mark.parametrize("cloud", ["aws", "gcp"])
async def test_a_service_that_is_none_is_asked_ever_more_rarely(service, monkeypatch, answer, cloud):
    asked = []

    async def answers(*_):
        asked.append(time.monotonic())
        return answer

    monkeypatch.setattr(service, "answer", answers)
    task = asyncio.ensure_future(watch(cloud, service.url, time.time, pytest.fail, 0.05))
    await until(lambda: len(asked) >= 4)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    gaps = [after - before for before, after in pairwise(asked)]
    # Twice as long each time, and longer where this machine is held up.
    assert all(gap > 0.95 * pause for gap, pause in zip(gaps, (0.1, 0.2, 0.4), strict=False))


async def test_what_cannot_be_asked_is_absent():
    for url in ("https://a", "http://a:b", "ftp://x", "http://a/b/c", "http://127.0.0.1:9"):
        with pytest.raises(Absent):
            await get(url, "/", {})


async def test_a_service_that_says_nothing_is_given_up(service, monkeypatch):
    monkeypatch.setattr(notices, "_ANSWER_WITHIN", 0.1)

    async def never(*_):
        await asyncio.sleep(5)
        return b""

    monkeypatch.setattr(service, "answer", never)
    with pytest.raises(Absent):
        await get(service.url, "/", {}, wait=0.1)


def test_a_chunked_answer_is_joined():
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nTRU\r\n1;x=y\r\nE\r\n0\r\n\r\n"
    assert notices._parse(raw)[2] == "TRUE"


def test_the_note_of_an_earlier_start_is_gone(tmp_path):
    Note(str(tmp_path), "first").write(Notice("stop", 1.0, 2.0))
    path = tmp_path / notices.FILE
    Note(str(tmp_path), "first")
    assert json.loads(path.read_text()) == {"what": "stop", "at": 1.0, "deadline": 2.0, "boot_id": "first"}
    Note(str(tmp_path), "second")
    assert not path.exists()


async def test_a_worker_that_is_gone_is_told_by_the_head(start_cluster, service):
    """Without a job that would miss it: the machines of a spot cluster may wait for their next one."""
    cluster = await start_cluster(2, notice="aws", metadata=service.url)
    await until(lambda: len(service.asked) >= 2)

    async def told():
        return [event for event in (await cluster.head.events(0))[0] if event["kind"] == "node"]

    worker = await cluster.nodes[1].pid()
    deadline = time.monotonic() + 60
    while not await told() and time.monotonic() < deadline:
        # Not before the head has it on the line.
        await asyncio.sleep(0.5)
        if await cluster.nodes[1].pid() == worker:
            cluster.kill_agent(worker)
        worker = await cluster.nodes[1].pid()
    (event, *_) = await told()
    assert (event["status"], event["rank"]) == ("LOST", 1)


class Line(Peer):
    """A worker that is `up` or not, and has a notice to tell."""

    closed = up = False

    async def _connect(self):
        if not self.up:
            raise OSError("nobody there")
        return self

    async def call(self, verb, args, body=b"", timeout=30.0):
        await self._connected()
        if args.get("since"):
            await asyncio.sleep(600)
        told = {"what": "terminate", "at": AT, "deadline": AT + 2}
        return {"notices": [told] if verb == "notices" else [], "boot_id": "first"}, b""


async def test_a_worker_that_is_spoken_to_again_is_listened_to_at_once(tmp_path, monkeypatch):
    """It may have been told that it goes in two seconds, while nobody listened."""
    for name in ("_NOTICES_SOON", "_NOTICES_AGAIN"):
        monkeypatch.setattr(head, name, 600.0)
    values = {"cluster_name": "c", "cluster_id": "c", "node_id": "c-0", "rank": 0, "num_nodes": 2, "cpus": 1}
    values.update(ips=["a", "b"], peers=["c", "d"], home=str(tmp_path), socket="/s")
    itself, line, ledger = Myself(None), Line("a worker"), Ledger(str(tmp_path), time.time)
    monkeypatch.setattr(itself, "call", Line("itself").call)
    made = head.Head(parse(values), ledger, [itself, line], time.time)
    made.begin()
    await asyncio.sleep(0)
    line.up = True
    await line.call("hello", {})
    await until(lambda: [event["kind"] for event in ledger.events(0)] == ["notice"])
    await made.close()
    ledger.close()


async def test_the_head_says_whom_it_does_not_hear(start_cluster):
    cluster = await start_cluster(2)

    async def says(silent, seconds):
        deadline = time.monotonic() + seconds
        while (found := (await cluster.head.hello())["silent"]) != silent:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    await says([], 40)
    await cluster.nodes[1].end()
    # Also one that ends before it was heard of.
    await says([1], 40)
    await cluster.nodes[1].start()
    await says([], 40)
    assert (await cluster.nodes[1].client.hello())["silent"] == [], "a worker listens to nobody"
