"""The fleet: what it calls off ends, and calls that are held open get in nobody's way."""

import asyncio

import pytest

from sky.core.errors import AgentUnreachable
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.server import fleet as fleets
from sky.server.fleet import NodeFleet


def cluster_of(count):
    nodes = tuple(
        Instance(f"c-{rank}", "c", rank, InstanceState.RUNNING, "127.0.0.1",
                 {"kind": "local", "home": "/h", "socket": f"/s{rank}", "keeper": "1"})
        for rank in range(count)
    )  # fmt: skip
    return Cluster("c", "c", "u", "d", Phase.BOOTSTRAPPING, 1, 0.0, 0.0, count, instances=nodes)


async def test_no_agent_is_started_behind_the_back_of_a_failure(monkeypatch):
    begun, ended = [], []

    async def ensure(channel, config, *, timeout):
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


async def test_what_is_held_open_has_connections_of_its_own():
    fleet = NodeFleet(None)
    head = await fleet.head(cluster_of(1))
    control, held = head._client, {head._held(number) for number in range(100)}
    assert control not in held
    assert len(held) == 8
    await fleet.forget("c")
    assert fleet._clients == {}


async def test_files_that_are_no_longer_here_are_told_in_words(tmp_path):
    with pytest.raises(Exception, match="run the command again"):
        await NodeFleet(lambda name: tmp_path / name).sync(cluster_of(1), "x", "~/there")
