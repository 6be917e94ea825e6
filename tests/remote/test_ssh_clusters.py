"""Clusters of several machines: their agents find each other, and files reach all of them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sky.core.errors import AgentUnreachable
from sky.remote.keys import KeyRing
from sky.server import fleet as fleets
from sky.server.fleet import NodeFleet

_FOUND = importlib.util.spec_from_file_location("ssh_nodes", Path(__file__).with_name("ssh_nodes.py"))
nodes = importlib.util.module_from_spec(_FOUND)
_FOUND.loader.exec_module(nodes)


@pytest.fixture(scope="module")
def hosts(shared_lab):
    return shared_lab.create(6)


@pytest.fixture
async def fleet(tmp_path):
    made = NodeFleet(lambda name: tmp_path / "blobs" / name, KeyRing(tmp_path / "keys"))
    yield made
    if made._links is not None:
        await made._links.close()


def cluster_of(hosts, id):
    return nodes.cluster_of(*(nodes.reach_of(host, home=f".sky-nodes/{id}") for host in hosts), id=id)


def test_the_certificate_of_a_cluster_is_the_same_each_time(tmp_path):
    keys = KeyRing(tmp_path)
    assert KeyRing(tmp_path).certificate("c") == keys.certificate("c") != keys.certificate("d")


async def test_what_nodes_are_told_of_each_other(fleet, hosts):
    cluster = cluster_of(hosts[:2], "told")
    peering = fleet._peering(cluster)
    head, worker = (fleets.node_config(cluster, node, peering) for node in cluster.instances)
    assert "listen" not in head and head["tls"] == worker["tls"], "nobody asks the head"
    assert worker["peers"][1] == f"tls://{hosts[1].ip}:{worker['listen'].rpartition(':')[2]}"
    assert 20000 <= peering.ports["told-1"] < 30000
    assert "PRIVATE" not in repr(peering)
    alone = replace(cluster, num_nodes=1, instances=cluster.instances[:1])
    assert fleet._peering(alone) is None


async def test_agents_of_several_machines_run_one_job(fleet, hosts):
    cluster = cluster_of(hosts[:2], "two")
    port = fleets._port("two-1", 0)
    taken = (
        f"import os,socket; s=socket.socket(); s.bind(('0.0.0.0',{port})); s.listen(); "
        "os.fork() and os._exit(0); os.setsid(); [os.close(n) for n in range(3)]; import time; time.sleep(600)"
    )
    assert hosts[1].exec("python3", "-c", taken).returncode == 0
    await fleet.bring_up(cluster)
    assert fleet._shifts == {"two-1": 1}, "the next port was taken, and the head was told"
    said = await nodes.output(fleet, cluster, "echo rank $SKYPILOT_NODE_RANK", "k", num_nodes=2)
    assert b"rank 0" in said and b"rank 1" in said
    await fleet.quiesce(cluster)


@pytest.mark.parametrize("count", [3, 6], ids=["straight", "by the head"])
async def test_files_reach_all_nodes(fleet, hosts, tmp_path, count):
    cluster = cluster_of(hosts[:count], f"sync{count}")
    await fleet.bring_up(cluster)
    files = {f"f/{number}": b"%d" % number * 1000 for number in range(50)}
    name = nodes.manifest(tmp_path / "blobs", files)
    times = 1 if count > 4 else count
    size = sum(map(len, files.values())) * times
    assert await fleet.sync(cluster, name, "~/sky_workdir") == f"50 files, 90.0 kB, {size / 1000:.1f} kB sent"
    for host in hosts[:count]:
        assert host.run(f"cat .sky-nodes/sync{count}/sky_workdir/f/49").stdout == "49" * 1000
    files["f/49"] = b"changed"
    name = nodes.manifest(tmp_path / "blobs", files)
    # A node whose agent does not answer the head is fed by the server, or fails the sync; it is not passed over.
    await fleet.sync(cluster, name, "~/sky_workdir")
    for host in hosts[:count]:
        assert host.run(f"cat .sky-nodes/sync{count}/sky_workdir/f/49").stdout == "changed"
    await fleet.quiesce(cluster)


async def test_whom_the_head_cannot_feed_the_server_feeds(fleet, hosts, tmp_path, monkeypatch):
    cluster = cluster_of(hosts[:5], "left")
    await fleet.bring_up(cluster)
    name = nodes.manifest(tmp_path / "blobs", {"x": b"x"})

    async def half(head, session, ranks):
        return list(ranks[1:])

    monkeypatch.setattr(fleets, "sync_fan", half)
    assert (await fleet.sync(cluster, name, "~/there")).endswith("4 B sent")
    found = [host.run("cat .sky-nodes/left/there/x").stdout for host in hosts[:5]]
    assert found == ["x", "", "x", "x", "x"]
    await fleet.quiesce(cluster)


@pytest.mark.parametrize("power", ["", "machine"])
async def test_how_a_node_ends_itself(fleet, lab, power):
    (host,) = lab.create(1)
    cluster = nodes.cluster_of(nodes.reach_of(host, power=power, home=".own"), id="end")
    await fleet.bring_up(cluster)
    told = json.loads(host.run("cat .own/.sky/agent/node.json").stdout)["power_off"]
    assert told["stop"] == told["down"] and told["down"][:2] == (
        ["sudo", "-n"] if power else [(await fleet.channel(cluster, cluster.instances[0]).place()).python, "-I"]
    )
    await fleet._clients["end-0"].power_off("down")

    async def ended():
        if power:
            return host.refresh().state == "stopped"
        return host.exec("sh", "-c", "cat /proc/*/environ | grep -c SKY_NODE_ID=end-0").stdout == "0\n"

    await nodes.until(ended)


async def test_a_machine_that_fell_silent_is_not_waited_for_like_a_new_one(fleet, lab, monkeypatch):
    monkeypatch.setattr(fleets, "_OLD_MACHINE_S", 1.0)
    (host,) = lab.create(1)
    cluster = nodes.cluster_of(nodes.reach_of(host, power="machine"), id="silent")
    await fleet.bring_up(cluster)
    host.stop()
    async with asyncio.timeout(60):
        with pytest.raises(AgentUnreachable, match=r"node 0"):
            await fleet.bring_up(cluster, ran=True)
