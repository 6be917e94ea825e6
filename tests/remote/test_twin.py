"""The simulated node answers as the real agent does: the same conversation with both, the same outcome."""

import asyncio
from random import Random

import pytest

from sky.remote.agent_client import AgentClient
from sky.remote.bootstrap import ensure_agent
from sky.remote.errors import AgentError
from sky.sim.loop import SimClock, run
from sky.sim.node import SimNode
from sky.sim.place import SimChannel


async def conversation(client, script, node_id):
    """Everything that a server says to a head; what is told back is stripped of what has to differ."""
    told = []
    hello = await client.hello()
    told.append(("hello", hello["node_id"] == node_id, hello["rank"], bool(hello["version"]), bool(hello["config"])))

    def spec(seconds, code, number):
        return {"run": script(seconds, code), "num_nodes": 1, "task_id": f"task-{number}", "name": f"n{number}",
                "user": "u", "envs": {}, "cpus": 0.5}  # fmt: skip

    told.append(await client.submit("one", spec(0.2, 0, 1)))
    told.append(await client.submit("one", spec(0.2, 0, 1)))
    told.append(await client.submit("two", spec(0.2, 3, 2)))
    told.append(await client.submit("three", spec(60, 0, 3)))
    heard, since = [], 0
    # The third one is cancelled while it runs, however long it takes to begin.
    wanted = {"one": "SUCCEEDED", "two": "FAILED", "three": "RUNNING"}
    while {each["key"]: each["status"] for each in heard if each.get("key")} != wanted:
        events, since = await client.events(since, wait=20)
        heard += events
    told.append([await client.cancel([3]), await client.cancel([3]), await client.cancel([1])])
    events, since = await client.events(since, wait=20)
    heard += events
    told += [
        [(each["kind"], each["job_id"], each["status"]) for each in heard if each.get("key") == key]
        for key in ("one", "two", "three")
    ]
    assert [each["seq"] for each in heard] == list(range(1, len(heard) + 1))
    assert all(isinstance(each["time"], float) for each in heard)
    told.append(await client.events(since, wait=0.05))
    records = await client.jobs()
    told.append([(r["job_id"], r["key"], r["status"], r["name"], r["user"], r["num_nodes"]) for r in records])
    told.append([r["exit_codes"] for r in records if r["status"] != "CANCELLED"])
    told.append([r["start_at"] <= r["end_at"] for r in records])
    told.append([r["key"] for r in await client.jobs([2, 99])])
    data, offset, ended, status = await client.read_log(1, offset=0)
    told.append((len(data) == offset, ended, status))
    for call in (client.read_log(99), client.call("nonsense", {})):
        with pytest.raises(AgentError) as refused:
            await call
        told.append(refused.value.type)
    await client.autostop(5, down=True)
    await client.autostop(-1)
    return told


async def test_the_simulated_node_is_the_real_agents_twin(place, client):
    def sleeping(seconds, code):
        return f"sleep {seconds}; exit {code}"

    real = await conversation(client, sleeping, place.config["node_id"])
    simulated = await asyncio.to_thread(run, _simulated(place.config))
    assert simulated == real


def _simulated(config):
    async def main(loop):
        node = SimNode("twin", SimClock(loop), Random(1), lambda down: None)
        node.power_on()
        client = await ensure_agent(SimChannel(node), config)
        assert isinstance(client, AgentClient)
        try:
            return await conversation(client, lambda seconds, code: f"sim {seconds} {code}", config["node_id"])
        finally:
            await client.close()

    return main
