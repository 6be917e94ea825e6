"""A large file that has changed comes as its difference, by rsync where both sides have it, and whole where not."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from sky.remote.errors import AgentError
from sky.remote.keys import KeyRing
from sky.remote.sync import sync_tree
from sky.server.fleet import NodeFleet

from .ssh_nodes import cluster_of, reach_of

_SIZE = 64 << 20


@pytest.fixture
async def fleet(tmp_path):
    made = NodeFleet(None, KeyRing(tmp_path / "keys"))
    yield made
    if made._links is not None:
        await made._links.close()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "large one.bin").write_bytes(os.urandom(_SIZE))
    (folder / "small.txt").write_text("small")
    return folder


def insert(path):
    """A hundred bytes in the middle; the new content."""
    old = path.read_bytes()
    path.write_bytes(old[: _SIZE // 2] + os.urandom(100) + old[_SIZE // 2 :])
    return path.read_bytes()


def received(host):
    """Bytes that the host was sent by now."""
    lines = host.exec("cat", "/proc/net/dev").stdout.splitlines()
    return sum(int(line.split(":")[1].split()[0]) for line in lines if ":" in line and "lo:" not in line)


def content(host, path):
    return host.exec("sha256sum", path).stdout.split()[0]


needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync here")


@needs_rsync
async def test_what_is_new_in_a_large_file_travels_alone(fleet, lab, source):
    (host,) = lab.create(1)
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    client = fleet._clients["c-0"]
    await sync_tree(client, source, "~/sky_workdir")
    (source / "large one.bin").chmod(0o755)
    wanted, before = insert(source / "large one.bin"), received(host)
    report = await sync_tree(client, source, "~/sky_workdir")
    assert report.written == 1 and 100 < report.bytes_sent < 2 << 20
    assert received(host) - before < 2 << 20
    assert content(host, "/home/sky/sky_workdir/large one.bin") == hashlib.sha256(wanted).hexdigest()
    assert (
        host.run("stat -c %a,%h 'sky_workdir/large one.bin'; find .sky/agent/sync -name '*.delta*'").stdout == "755,1\n"
    )
    # Somebody who has the old one open keeps it, and a node whose file is another one by now is put right all the same.
    host.run("head -c 9000000 /dev/urandom >>'sky_workdir/large one.bin'")
    report = await sync_tree(client, source, "~/sky_workdir")
    assert report.written == 1 and report.bytes_sent < 2 << 20
    assert content(host, "/home/sky/sky_workdir/large one.bin") == hashlib.sha256(wanted).hexdigest()
    await fleet.quiesce(cluster)


async def test_without_rsync_on_the_node_everything_arrives(fleet, lab, source):
    (host,) = lab.create("plain", hide=["/usr/bin/rsync", "/usr/local/bin/rsync"])
    assert host.run("command -v rsync").returncode != 0
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    client = fleet._clients["c-0"]
    await sync_tree(client, source, "~/sky_workdir")
    wanted = insert(source / "large one.bin")
    report = await sync_tree(client, source, "~/sky_workdir")
    assert (report.written, report.bytes_sent) == (1, _SIZE + 100)
    assert content(host, "/home/sky/sky_workdir/large one.bin") == hashlib.sha256(wanted).hexdigest()
    await fleet.quiesce(cluster)


@needs_rsync
async def test_an_rsync_that_fails_costs_nothing_but_itself(fleet, lab, source):
    (host,) = lab.create(1)
    host.exec("sh", "-c", "rm /usr/bin/rsync; printf '#!/bin/sh\nexit 3\n' >/usr/bin/rsync; chmod 755 /usr/bin/rsync")
    cluster = cluster_of(reach_of(host))
    await fleet.bring_up(cluster)
    client = fleet._clients["c-0"]
    await sync_tree(client, source, "~/sky_workdir")
    wanted = insert(source / "large one.bin")
    report = await sync_tree(client, source, "~/sky_workdir")
    assert (report.written, report.bytes_sent) == (1, _SIZE + 100)
    assert content(host, "/home/sky/sky_workdir/large one.bin") == hashlib.sha256(wanted).hexdigest()
    await fleet.quiesce(cluster)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sh", "-c", "id", ".", "content"],
        ["rsync", "--server", "--sender", "-Ie.LsfxCIvu", ".", "content"],
        ["rsync", "--server", "-Ie.LsfxCIvu", ".", "/etc/passwd"],
        ["rsync", "--server", "-Ie.LsfxCIvu", ".", "../content"],
        ["rsync", "--server", "--log-file=x", ".", "content"],
        ["rsync", "--server", "-Ie.LsfxCIvu --inplace", ".", "content"],
        ["rsync", "--server", "-IRe.LsfxCIvu", ".", "content"],
    ],
    ids=str,
)
async def test_rsync_is_run_in_no_other_way(client, argv):
    with pytest.raises(AgentError, match="InvalidRequest") as caught:
        await client.call("sync_delta", {"session": 1, "hash": "0" * 64, "argv": argv})
    assert "rsync" in caught.value.message


async def test_only_for_a_file_that_was_there(client, place):
    if shutil.which("rsync") is None:
        pytest.skip("there is no rsync here")
    reply, _ = await client.call("sync_begin", {"root": "workdir", "delete": True}, b"[]")
    args = {
        "session": reply["session"],
        "hash": "0" * 64,
        "argv": ["rsync", "--server", "-Ie.LsfxCIvu", ".", "content"],
    }
    with pytest.raises(AgentError, match="no earlier version"):
        await client.call("sync_delta", args)
    for verb in ("sync_delta_read", "sync_delta_write", "sync_delta_end"):
        with pytest.raises(AgentError, match="there is no rsync 7"):
            await client.call(verb, {"delta": 7})
