"""Nodes on this machine: real processes, real folders."""

import asyncio
import os
import signal

import pytest

from sky.core.errors import CapacityRefused, InvalidSkyPilotConfigError
from sky.core.model.clusters import InstanceState
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.providers.local import processes
from sky.providers.local.compute import LocalCompute
from sky.providers.local.offers import machine, short_name

#: Nodes are found by their id in the process table, which other test processes share.
C1, C2 = f"c1-{os.getpid()}", f"c2-{os.getpid()}"
OFFER = Offer("local", "local", None, "localhost", 2, 4, 0.0, shared=True)


def ask(cluster_id: str = C1, nodes: int = 2, key: str = "k1") -> CreateAsk:
    return CreateAsk(key, cluster_id, "name", Placement(OFFER, nodes, 2, 4))


@pytest.fixture
async def compute(tmp_path):
    made = LocalCompute(tmp_path / "local", lambda: {"cpus": 3, "memory": 5, "accelerators": {"H100": 8}})
    yield made
    for each in await made.list():
        await made.terminate(each.cluster_id)


async def test_nodes_run_with_an_address_and_a_home_each(compute):
    nodes = await compute.create(ask(nodes=3))
    assert [node.rank for node in nodes] == [0, 1, 2]
    assert len({node.ip for node in nodes}) == 3
    assert len({node.reach["home"] for node in nodes}) == 3
    assert all(node.state is InstanceState.RUNNING for node in nodes)
    assert await compute.list(C1) == nodes


async def test_creating_again_with_the_same_key_gives_the_same_machines(compute):
    first = await compute.create(ask())
    assert await compute.create(ask()) == first


async def test_a_half_made_cluster_is_made_anew(compute):
    first = await compute.create(ask())
    assert processes.end_all(first[1].id, None)
    second = await compute.create(ask())
    assert all(node.state is InstanceState.RUNNING for node in second)
    assert first[0].reach["keeper"] != second[0].reach["keeper"]


async def test_killing_a_nodes_processes_is_seen(compute):
    nodes = await compute.create(ask())
    processes.end_all(nodes[1].id, None)
    states = [(node.state, node.reason) for node in await compute.list(C1)]
    assert states[0] == (InstanceState.RUNNING, None)
    assert states[1][0] is InstanceState.STOPPED
    assert "killed" in states[1][1]


async def test_stop_keeps_the_disk_and_start_runs_it_again(compute, tmp_path):
    nodes = await compute.create(ask(nodes=1))
    file = tmp_path / "local" / C1 / "0" / "home" / "kept"
    file.write_text("x")
    assert [node.state for node in await compute.stop(C1)] == [InstanceState.STOPPED]
    again = await compute.start(C1)
    assert again[0].state is InstanceState.RUNNING
    assert (again[0].ip, file.read_text()) == (nodes[0].ip, "x")


async def test_terminate_ends_processes_that_hid_in_their_own_session(compute):
    nodes = await compute.create(ask(nodes=1))
    hidden = await asyncio.create_subprocess_exec(
        "setsid", "sleep", "600", env={"PATH": os.environ["PATH"], "SKY_NODE_ID": nodes[0].id}
    )
    await compute.terminate(C1)
    assert await asyncio.wait_for(hidden.wait(), 5) == -signal.SIGKILL
    assert await compute.list() == []
    assert not list((compute._root).glob("*/*"))


async def test_terminating_what_is_gone_succeeds(compute):
    await compute.terminate("never-was")
    assert await compute.list() == []


async def test_starting_what_is_gone_is_refused(compute):
    with pytest.raises(CapacityRefused):
        await compute.start("never-was")


async def test_clusters_do_not_share_addresses(compute):
    one, two = await compute.create(ask(C1)), await compute.create(ask(C2))
    assert not {node.ip for node in one} & {node.ip for node in two}


async def test_the_offer_is_the_machine_or_what_was_declared(compute):
    (offer,) = await compute.offers()
    assert (offer.cpus, offer.memory_gb, dict(offer.accelerators)) == (3.0, 5.0, {"H100": 8.0})
    assert offer.price_hourly == 0
    assert machine({}).cpus >= 1


@pytest.mark.parametrize(
    "config", [{"cpus": -1}, {"memory": "much"}, {"accelerators": "H100"}, {"accelerators": {"H100": 0}}]
)
def test_declarations_that_make_no_sense_are_refused(config):
    with pytest.raises(InvalidSkyPilotConfigError, match="local"):
        machine(config)


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
    ],
)
def test_short_names(product, name):
    assert short_name(product) == name


async def test_nvidia_smi_is_read(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3'\necho 'NVIDIA H100 80GB HBM3'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert dict(machine({}).accelerators) == {"H100": 2.0}
