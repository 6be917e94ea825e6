"""The fleet: what it calls off ends, and calls that are held open get in nobody's way."""

import asyncio
from dataclasses import replace

import pytest

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.server import fleet as fleets
from sky.server.fleet import NodeFleet, node_config


def cluster_of(count):
    nodes = tuple(
        Instance(f"c-{rank}", "c", rank, InstanceState.RUNNING, "127.0.0.1",
                 {"kind": "local", "home": "/h", "socket": f"/s{rank}", "keeper": "1"})
        for rank in range(count)
    )  # fmt: skip
    return Cluster("c", "c", "u", "d", Phase.BOOTSTRAPPING, 1, 0.0, 0.0, count, instances=nodes)


async def test_no_agent_is_started_behind_the_back_of_a_failure(monkeypatch):
    begun, ended = [], []

    async def ensure(channel, config, *, timeout, known):
        begun.append(config["rank"])
        if config["rank"] == 0:
            raise AgentUnreachable("broken")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(config["rank"])

    monkeypatch.setattr(fleets, "ensure_agent", ensure)
    with pytest.raises(AgentUnreachable, match="node 0"):
        await NodeFleet(None).bring_up(cluster_of(3))
    assert sorted(begun) == [0, 1, 2]
    assert sorted(ended) == [1, 2], "the others were called off before the failure was told"


async def test_calls_that_are_held_open_share_connections_and_leave_room_on_each():
    fleet = NodeFleet(None)
    head = await fleet.head(cluster_of(1))
    assert head._held() is head._client, "few of them need no connection of their own"
    for _ in range(1000):
        head._held().waiting += 1
    lines = list(fleet._clients.values())
    assert len(lines) == 9 and [each.waiting for each in lines[:8]] == [64] * 8
    await fleet.forget("c")
    assert fleet._clients == {}


async def test_whom_the_head_has_lost_is_asked_for_a_sign_of_life(monkeypatch):
    fleet, asked = NodeFleet(None), []

    class Silent(Node):
        def __init__(self, rank):
            self.rank = rank

        async def hello(self, *, timeout=None):
            asked.append((self.rank, timeout))
            if self.rank == 2:
                raise AgentUnreachable("node 2 says nothing")
            return {"silent": [2, "x", None]} if self.rank == 0 else {}

    monkeypatch.setattr(fleet, "_client", lambda cluster, node, line=0: Silent(node.rank))
    lost = await (await fleet.head(cluster_of(3))).ping()
    assert lost == {2}
    with pytest.raises(AgentUnreachable, match="node 2"):
        await fleet.ask(cluster_of(3), lost)
    await fleet.ask(cluster_of(3), {1})
    assert [rank for rank, _ in asked] == [0, 2, 1]


class Node:
    """An agent that writes down what it is told."""

    def __init__(self, answer=(0, b""), silent=False):
        self.told, self.answer, self.silent = [], answer, silent

    async def hello(self, *, timeout=None):
        return {}

    async def autostop(self, minutes):
        self.told.append(minutes)

    async def kill_all(self, *, grace, remove=False, queue=False, patience=0.0):
        if self.silent:
            raise AgentUnreachable("it says nothing")
        self.told.append("queue" if queue else "remove" if remove else "keep")

    async def shutdown(self):
        self.told.append("leave")

    async def run(self, script, *, timeout, env):
        return self.answer


@pytest.mark.parametrize(("phase", "what"), [(Phase.STOPPING, "keep"), (Phase.TERMINATING, "remove")])
async def test_containers_stay_with_nodes_that_are_started_again_and_go_with_the_others(monkeypatch, phase, what):
    fleet, node = NodeFleet(None), Node()
    monkeypatch.setattr(fleet, "_client", lambda cluster, instance: node)
    await fleet.quiesce(replace(cluster_of(1), phase=phase))
    assert node.told == [-1, what, "leave"]


async def test_work_has_ended_only_where_every_node_says_so(monkeypatch):
    fleet = NodeFleet(None)
    nodes = [Node(), Node(), Node(silent=True)]
    monkeypatch.setattr(fleet, "_client", lambda cluster, instance: nodes[instance.rank])
    await fleet.end_work(cluster_of(2))
    assert [node.told for node in nodes[:2]] == [["queue"], ["queue"]]
    with pytest.raises(AgentUnreachable, match="says nothing"):
        await fleet.end_work(cluster_of(3))


def test_nodes_that_stay_are_told_of_a_repair_so_that_they_are_started_again():
    cluster = cluster_of(2)
    whole = [node_config(cluster, node) for node in cluster.instances]
    repaired = replace(cluster, repairs=1)
    assert all("repairs" not in each for each in whole)
    assert [node_config(repaired, node) for node in repaired.instances] == [{**each, "repairs": 1} for each in whole]


async def test_a_login_in_the_address_of_a_repository_is_told_to_nobody(monkeypatch):
    url = "https://me:hunter2@git.example/r.git"
    fleet, node = NodeFleet(None), Node((128, f"fatal: cannot reach {url}".encode()))
    monkeypatch.setattr(fleet, "_client", lambda cluster, instance: node)
    with pytest.raises(AgentRefused) as caught:
        await fleet.clone(cluster_of(1), url, None, {})
    assert "hunter2" not in str(caught.value)
    assert "cannot reach https://git.example/r.git" in str(caught.value)


async def test_files_that_are_no_longer_here_are_told_in_words(tmp_path):
    with pytest.raises(Exception, match="run the command again"):
        await NodeFleet(lambda name: tmp_path / name).sync(cluster_of(1), "x", "~/there")
