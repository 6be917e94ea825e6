"""Agents on machines of their own talk to each other over TLS, through cuts, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sky.agent.connection import ConnectionLost
from sky.agent.fields import Refused
from sky.agent.frames import encode, read_frame
from sky.agent.node import Tls, parse
from sky.agent.peers import Peer
from sky.agent.tls import Wire, split
from sky.remote.errors import AgentNotStarted

OLDEST = [
    path
    for path in (*map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python")), shutil.which("python3.8"))
    if path is not None and "shims" not in path
]
HELLO = encode({"id": 1, "verb": "hello", "args": {}})


async def test_a_gang_runs_on_two_machines_and_ends_as_one(lab, start_machines):
    hosts = lab.create(2)
    cluster = await start_machines(hosts)
    job_id = await cluster.submit("hostname; echo $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES", num_nodes=2)
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED", log
    assert "0 of 2" in log and "1 of 2" in log and all(host.name in log for host in hosts)
    job_id = await cluster.submit("[ $SKYPILOT_NODE_RANK = 0 ] || exit 7; sleep 600", num_nodes=2, cancel_grace=0.1)
    assert (await cluster.until(job_id))["exit_codes"] == [137, 7]
    for host in hosts:
        assert host.exec("sh", "-c", "find / -xdev -name 'tls.*' -not -perm 600 -path '*/.sky/*'").stdout == ""
        assert host.exec("stat", "-c", "%a", "/root/.sky/agent/node.json").stdout == "600\n"


@pytest.mark.parametrize("python", [sys.executable, *OLDEST[:1]])
async def test_old_and_new_pythons_speak_it(start_cluster, certificate, python):
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    addresses = [f"tls://127.0.0.1:{port}" for port in ports]
    made = certificate()
    cluster = await start_cluster(
        2, python=python, peers=addresses, listen=lambda rank: addresses[rank], tls=lambda _: made
    )
    text = "x" * 100_000
    # None fails: that would end the other, who may still be at work.
    job_id = await cluster.submit(f"echo {text}", num_nodes=2)
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED" and log.count(text) == 2
    assert (await cluster.head.job(job_id))["exit_codes"] == [0, 0]


async def test_a_gang_survives_a_cut_between_its_machines(lab, start_machines):
    hosts = lab.create(2)
    cluster = await start_machines(hosts, lost_after=60)
    script = "echo begin; while ! [ -e ~/go ]; do sleep 0.1; done; echo end"
    job_id = await cluster.submit(script, num_nodes=2)
    await cluster.said(job_id, b"begin", 2)
    lab.partition(hosts[1])
    # Longer than an unanswered byte is waited for: the connection is given up and made anew.
    await asyncio.sleep(10)
    assert (await cluster.head.job(job_id))["status"] == "RUNNING"
    for host in hosts:
        host.exec("touch", "/root/go")
    lab.heal(hosts[1])
    healed = time.monotonic()
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED" and log.count("begin") == log.count("end") == 2
    assert time.monotonic() - healed < 30


async def test_a_machine_that_is_lost_ends_the_gang_with_its_name(lab, start_machines):
    hosts = lab.create(2)
    cluster = await start_machines(hosts, lost_after=2)
    job_id = await cluster.submit("echo begin; sleep 600", num_nodes=2, cancel_grace=0.1)
    await cluster.said(job_id, b"begin", 2)
    hosts[1].stop()
    job = await cluster.until(job_id, seconds=60)
    assert job["status"] == "FAILED_DRIVER" and f"worker1 ({hosts[1].ip}) was lost" in job["reason"]


async def test_a_taken_port_is_said_in_the_last_line_and_ends_the_agent(start_machines, lab):
    (host,) = lab.create(1)
    cluster = await start_machines([host], run=False)
    port = cluster.nodes[0].config["listen"].rpartition(":")[2]
    script = "import socket,sys,time; s=socket.create_server((str(), int(sys.argv[1]))); open('/root/held', 'w'); "
    words = ["setsid", "/usr/bin/python3", "-c", f"{script} time.sleep(600)", port]
    host.exec("sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "sh", *words)
    while host.exec("test", "-e", "/root/held").returncode:
        await asyncio.sleep(0.05)
    with pytest.raises(AgentNotStarted, match=rf"agent: PortTaken: cannot listen on 0\.0\.0\.0 port {port}"):
        await cluster.nodes[0].start()
    assert cluster.nodes[0].said().splitlines()[-1].startswith("agent: PortTaken: ")


@pytest.fixture
async def guarded(tmp_path, certificate):
    """A port that only holders of the certificate may speak to, the lines that got through, and how to connect."""
    heard = []

    async def serve(reader, writer):
        frame = await read_frame(reader)
        heard.append(frame)
        writer.write(encode({"id": 1, "ok": {"who": "me"}}))
        await read_frame(reader)
        writer.close()

    wire = Wire(Tls(**certificate()), str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listener = wire.listen("127.0.0.1", port, serve)
    yield wire, port, heard
    await listener.close()
    assert list(tmp_path.glob("tls.*")) == [], "the key lies nowhere but in node.json"


async def refused(port, context=None, first=HELLO):
    """Whether a stranger gets nothing: the connection ends without an answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(first)
        data = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    except OSError:
        return True
    # A TLS alert is all that may come back.
    return data == b"" or (context is None and data[:1] == b"\x15" and len(data) < 16)


async def test_the_holder_of_the_certificate_is_let_in(guarded):
    wire, port, heard = guarded
    peer = Peer(f"tls://127.0.0.1:{port}", wire)
    assert await peer.call("hello", {}) == ({"who": "me"}, b"")
    await peer.close()
    assert len(heard) == 1


async def test_strangers_are_refused_and_nothing_of_theirs_is_read(guarded, certificate, tmp_path):
    _, port, heard = guarded
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
    theirs = tmp_path / "other.pem"
    theirs.write_text("\n".join(certificate().values()))
    other.load_cert_chain(theirs)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await refused(port, bare)
    assert await refused(port, other)
    assert await refused(port, old)
    assert await refused(port)
    assert await refused(port, first=os.urandom(1 << 16))
    assert heard == []


async def test_a_peer_with_another_certificate_is_not_spoken_to(guarded, certificate, tmp_path):
    _, port, heard = guarded
    peer = Peer(f"tls://127.0.0.1:{port}", Wire(Tls(**certificate()), str(tmp_path)))
    with pytest.raises(ConnectionLost, match="does not show this cluster's certificate"):
        await peer.call("hello", {})
    assert heard == []


async def test_those_who_never_finish_their_handshake_keep_nobody_out(guarded):
    wire, port, heard = guarded
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for _, writer in slow[:100]:
        writer.write(b"\x16\x03\x01\x02\x00\x01")
    peer = Peer(f"tls://127.0.0.1:{port}", wire)
    begun = time.monotonic()
    assert (await peer.call("hello", {}))[0] == {"who": "me"}
    assert time.monotonic() - begun < 10
    ended = await asyncio.gather(*(asyncio.wait_for(_end(reader), 60) for reader, _ in slow))
    assert all(ended), "each was sent away within its time"
    for _, writer in slow:
        writer.close()
    await peer.close()
    assert len(heard) == 1


async def _end(reader):
    with suppress(OSError):
        return await reader.read() == b""
    return True


async def test_addresses_of_other_kinds_are_refused_with_the_reason():
    with pytest.raises(Refused, match=r"needs 'tls' in node\.json"):
        await Peer("tls://10.0.0.1:1").call("hello", {})
    for wrong in ("tls://:1", "tls://host", "tls://host:0", "http://host:1"):
        with pytest.raises(Refused, match="no address of a peer"):
            split(wrong)
    assert split("tls://[::1]:9") == ("::1", 9)


def test_a_configuration_that_would_listen_to_everybody_is_refused(tmp_path, certificate):
    values = {"num_nodes": 1, "rank": 0, "ips": ["a"], "peers": ["b"], "home": "/h", "socket": "/s", "cpus": 1}
    values.update(cluster_name="c", cluster_id="c", node_id="c-0")
    with pytest.raises(Refused, match="'listen' needs 'tls'"):
        parse({**values, "listen": "tls://0.0.0.0:1"})
    made = certificate()
    node = parse({**values, "listen": "tls://0.0.0.0:1", "tls": made})
    assert made["key"] not in repr(node)
    with pytest.raises(Refused, match="cannot be used"):
        Wire(Tls(made["cert"], certificate()["key"]), str(tmp_path))
    with pytest.raises(Refused, match="cannot be read"):
        Wire(Tls("nothing", made["key"]), str(tmp_path))
