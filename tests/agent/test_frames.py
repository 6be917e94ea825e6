"""Strangers on the wire: whatever they send, the agent answers with an error or hangs up, and serves the next one."""

from __future__ import annotations

import asyncio
import json
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sky.agent.frames import BODY_LIMIT, HEADER_LIMIT, FrameError, encode, read_frame
from sky.remote.errors import AgentError


def reader_of(data):
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5), st.binary(max_size=2000))
def test_a_frame_comes_back_as_it_went(header, body):
    async def main():
        reader = reader_of(encode(header, body) + encode({}))
        assert await read_frame(reader) == (header, body)
        assert await read_frame(reader) == ({}, b"")
        assert await read_frame(reader) is None

    asyncio.run(main())


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_noise_is_a_frame_error_or_a_frame(noise):
    async def main():
        try:
            frame = await read_frame(reader_of(noise))
        except FrameError:
            return
        assert frame is not None

    asyncio.run(main())


def test_what_is_too_large_is_not_sent():
    with pytest.raises(FrameError, match="header"):
        encode({"x": "a" * HEADER_LIMIT})
    with pytest.raises(FrameError, match="body"):
        encode({}, bytes(BODY_LIMIT + 1))


HOSTILE = {
    "huge header": struct.pack(">II", 0xFFFFFFFF, 0),
    "huge body": struct.pack(">II", 2, 0xFFFFFFFF) + b"{}",
    "not JSON": struct.pack(">II", 3, 0) + b"{x}",
    "not UTF-8": struct.pack(">II", 3, 0) + b"\xff\xfe\xfd",
    "not an object": struct.pack(">II", 2, 0) + b"[]",
    "deep": struct.pack(">II", 200000, 0) + b"[" * 200000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_broken_frame_ends_its_connection_with_an_error(cluster, data):
    reader, writer = await asyncio.open_unix_connection(cluster.nodes[0].config["socket"])
    writer.write(data)
    frame = await asyncio.wait_for(read_frame(reader), 40)
    assert frame is not None and frame[0]["error"]["type"] == "FrameError"
    assert await asyncio.wait_for(reader.read(), 40) == b""
    writer.close()
    await writer.wait_closed()
    assert (await cluster.head.hello())["rank"] == 0


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("no_such_verb", {}),
        ("job", {"job_id": "1"}),
        ("job", {"job_id": True}),
        ("job", {"job_id": 5}),
        ("jobs", {"ids": [1, "2"]}),
        ("submit", {"key": "../../etc", "spec": {"task_id": "t"}}),
        ("submit", {"key": "k", "spec": []}),
        ("task_start", {"key": "..", "phase": "run", "log": "x"}),
        ("task_log", {"key": "k", "phase": "run", "log": "../../../etc/passwd"}),
        ("task_log", {"key": "k", "phase": "run", "log": "/etc/passwd"}),
        ("task_kill", {"key": "a/b"}),
        ("events", {"since": -1}),
        ("events", {"since": 0, "wait": 1e9}),
        ("read_log", {"job_id": 1, "offset": -5}),
    ],
)
async def test_wrong_requests_are_refused_by_name(cluster, verb, args):
    with pytest.raises(AgentError) as caught:
        await cluster.head.call(verb, args)
    assert caught.value.type in ("UnknownVerb", "InvalidRequest", "JobNotFound")


ODD = [
    None,
    True,
    -1,
    0,
    1,
    2**70,
    1.5,
    float("1e400"),
    "",
    "x",
    "../x",
    "\0",
    "run",
    "workdir",
    [],
    [1],
    ["x"],
    [None],
    {},
]
FIELDS = {
    "submit": ["key", "spec"],
    "job": ["job_id"],
    "jobs": ["ids", "skip_finished", "after"],
    "cancel": ["job_ids", "all", "wait"],
    "events": ["since"],
    "read_log": ["job_id", "which", "rank", "offset", "limit", "tail"],
    "autostop_get": [],
    "task_start": ["key", "phase", "log", "cwd", "devices"],
    "task_wait": ["key", "phase"],
    "task_kill": ["key", "grace"],
    "task_log": ["key", "phase", "log", "offset", "limit"],
    "task_forget": ["key"],
    "sync_begin": ["root", "dest", "delete", "more"],
    "sync_entries": ["session", "more"],
    "sync_put": ["session", "hashes", "sizes"],
    "sync_have": ["session", "hash"],
    "sync_part": ["session", "hash", "offset", "last"],
    "sync_commit": ["session"],
}
SPEC = ["name", "user", "run", "setup", "num_nodes", "envs", "secrets", "cpus", "accelerators", "memory_gb", "task_id"]


async def test_no_nonsense_makes_the_agent_stumble(cluster):
    chance = random.Random(3)
    bodies = [b"", b"{}", b"[]", b"[1]", b"\xff", b'[{"path":"a","type":"dir"}]', b'{"script":"true","envs":{}}']
    for _ in range(1500):
        verb, fields = chance.choice(list(FIELDS.items()))
        args = {name: chance.choice(ODD) for name in fields if chance.random() < 0.8}
        if verb == "submit":
            args = {"key": chance.choice(["k", 5]), "spec": {name: chance.choice(ODD) for name in SPEC}}
        try:
            await cluster.head.call(verb, args, chance.choice(bodies))
        except AgentError as error:
            assert error.type != "InternalError", f"{verb} {args}: {error}"
    assert (await cluster.head.hello())["rank"] == 0


async def test_arguments_that_are_no_object_are_refused(cluster):
    reader, writer = await asyncio.open_unix_connection(cluster.nodes[0].config["socket"])
    for args in (["x"], "x", 5):
        writer.write(encode({"id": 1, "verb": "hello", "args": args}))
        frame = await asyncio.wait_for(read_frame(reader), 40)
        assert frame is not None and frame[0]["error"]["type"] == "InvalidRequest", json.dumps(frame[0])
    writer.close()
    await writer.wait_closed()


async def test_many_requests_are_in_flight_at_once(cluster):
    waits = [asyncio.ensure_future(cluster.head.events(0, wait=30)) for _ in range(100)]
    assert (await cluster.head.hello(timeout=25))["rank"] == 0
    await cluster.submit("true")
    assert all(events for events, _ in await asyncio.gather(*waits))


async def test_the_socket_is_the_owners_alone(cluster):
    socket = cluster.nodes[0].home.parent / "agent.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
