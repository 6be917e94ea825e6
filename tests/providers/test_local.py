"""Nodes on this machine: real processes, real folders."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sky.core.errors import CapacityRefused, InvalidSkyPilotConfigError
from sky.core.model.clusters import Cluster, InstanceState, Phase
from sky.core.model.offers import Offer, Placement
from sky.core.ports import CreateAsk
from sky.providers.local import processes
from sky.providers.local.compute import LocalCompute
from sky.providers.local.offers import machine, short_name
from sky.server.fleet import node_config
from sky.sim.compute_contract import ComputeContract, Place

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


class TestContract(ComputeContract):
    """The promises of all providers."""

    @pytest.fixture
    def place(self, compute):
        return Place(compute, ask, most=3, tag=str(os.getpid()))


async def test_nodes_run_with_an_address_and_a_home_each(compute):
    nodes = await compute.create(ask(nodes=3))
    assert [node.rank for node in nodes] == [0, 1, 2]
    assert len({node.ip for node in nodes}) == 3
    assert len({node.reach["home"] for node in nodes}) == 3
    assert all(node.state is InstanceState.RUNNING for node in nodes)
    assert await compute.list(C1) == nodes


async def test_a_node_that_was_begun_and_is_on_no_record_is_begun_again(compute, tmp_path):
    kept, _ = await compute.create(ask())
    await compute.terminate(C1, ranks=(1,))
    (tmp_path / "local" / C1 / "1" / "home").mkdir(parents=True)
    nodes = await compute.create(replace(ask(key="k2"), ranks=(1,)))
    assert nodes[0] == kept and [node.state for node in nodes] == [InstanceState.RUNNING] * 2


STANDS_STILL = """
import sys
from pathlib import Path
from sky.kit.turns import turn
with turn(Path(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.readline()
"""


async def test_a_server_that_stands_still_while_it_chooses_holds_up_no_other(tmp_path, compute):
    words = [sys.executable, "-c", STANDS_STILL, str(tmp_path / ".local.lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "taken\n"
        other.send_signal(signal.SIGSTOP)
        assert len(await compute.create(ask())) == 2
        other.kill()


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
    program.write_text("#!/bin/sh\necho '0, NVIDIA H100 80GB HBM3'\necho '1, NVIDIA H100 80GB HBM3'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert dict(machine({}).accelerators) == {"H100": 2.0}


# --- what others do to it --------------------------------------------------------------------------------------------


async def test_a_cluster_whose_folder_was_deleted_is_ended_all_the_same(compute):
    nodes = await compute.create(ask())
    shutil.rmtree(compute._root / C1)
    assert processes.of_node(nodes[0].id)
    await compute.terminate(C1)
    assert [processes.of_node(node.id) for node in nodes] == [[], []]


async def test_a_broken_record_hides_no_other(compute, caplog):
    await compute.create(ask(C1))
    two = await compute.create(ask(C2))
    for content in ("{", "[]", '{"id": 1}', ""):
        (compute._root / C1 / "0" / "node.json").write_text(content)
        assert [each.id for each in await compute.list(C2)] == [each.id for each in two]
        assert len(await compute.list()) == 3
    await compute.terminate(C1)
    assert processes.of_cluster(C1) == []


async def test_listing_while_others_are_removed(compute):
    await compute.create(ask(C2, nodes=1))
    for _ in range(5):
        nodes = await compute.create(ask(C1))
        tree = Path(nodes[0].reach["home"]) / "deep"
        for number in range(200):
            (tree / str(number)).mkdir(parents=True)
        ending = asyncio.ensure_future(compute.terminate(C1))
        while not ending.done():
            assert [each.cluster_id for each in await compute.list() if each.cluster_id == C2] == [C2]
            await asyncio.sleep(0)
        await ending


async def test_an_interrupted_removal_does_not_hide_the_next(compute):
    await compute.create(ask())
    (compute._root / f".gone-{C1}").mkdir()
    await compute.terminate(C1)
    assert await compute.list() == []
    assert list(compute._root.iterdir()) == []


async def test_write_protected_folders_are_removed_too(compute):
    nodes = await compute.create(ask(nodes=1))
    cache = Path(nodes[0].reach["home"]) / "go" / "mod"
    cache.mkdir(parents=True)
    (cache / "file").write_text("x")
    cache.chmod(0o500)
    await compute.terminate(C1)
    assert list(compute._root.iterdir()) == []


async def test_two_roots_choose_their_addresses_apart(compute, tmp_path):
    other = LocalCompute(tmp_path / "other", dict)
    one, two = await compute.create(ask(C1)), await other.create(ask(C2))
    assert not {each.ip for each in one} & {each.ip for each in two}
    await other.terminate(C2)


async def test_a_server_with_another_environment_finds_the_same_sockets(compute, monkeypatch, tmp_path):
    before = await compute.create(ask(nodes=1))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert (await compute.list(C1))[0].reach["socket"] == before[0].reach["socket"]


async def test_without_proc_keepers_are_ended_but_never_a_later_namesake(monkeypatch):
    sleeper = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    born = processes.birth(sleeper.pid)
    monkeypatch.setattr(processes, "_PROC", Path("/no/proc"))
    monkeypatch.setattr(processes, "birth", lambda pid: born if sleeper.returncode is None else "")
    assert processes.end_all("n", sleeper.pid, "another birth")
    assert sleeper.returncode is None
    os.kill(sleeper.pid, 0)
    processes.end_all("n", sleeper.pid, born)
    assert await asyncio.wait_for(sleeper.wait(), 5) == -signal.SIGKILL


def test_a_process_that_a_busy_machine_keeps_from_ending_is_waited_for(monkeypatch):
    slept, killed = [], []
    monkeypatch.setattr(processes, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(processes, "of_node", lambda node_id: [4711] if sum(slept) < 8 else [])
    monkeypatch.setattr(processes, "_kill", killed.append)
    assert processes.end_all("n", None)
    assert set(killed) == {4711} and sum(slept) < 9
    monkeypatch.setattr(processes, "of_node", lambda node_id: [4711])
    assert not processes.end_all("n", None)


# --- real devices ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def gpus(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nfor i in 0 1 2 3; do echo "$i, NVIDIA L4"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = LocalCompute(tmp_path / "local", dict)
    yield made
    for each in await made.list():
        await made.terminate(each.cluster_id)


def ask_for(count: int, cluster_id: str = C1, nodes: int = 1) -> CreateAsk:
    return CreateAsk("k", cluster_id, "name", Placement(OFFER, nodes, 2, 4, {"L4": float(count)}))


async def test_real_devices_belong_to_one_node_at_a_time(gpus):
    one = await gpus.create(ask_for(1, C1, nodes=2))
    two = await gpus.create(ask_for(2, C2))
    assert [each.reach["devices"] for each in (*one, *two)] == ["0", "1", "2,3"]
    with pytest.raises(CapacityRefused, match="0 of this machine's 4 accelerators are free"):
        await gpus.create(ask_for(1, f"{C1}x"))
    assert len(await gpus.list()) == 3


async def test_a_stopped_node_holds_no_device_and_gets_others_when_started(gpus):
    await gpus.create(ask_for(2, C1))
    await gpus.stop(C1)
    await gpus.create(ask_for(2, C2))
    assert (await gpus.start(C1))[0].reach["devices"] == "2,3"
    await gpus.stop(C1)
    third = await gpus.create(ask_for(2, f"{C1}x"))
    assert third[0].reach["devices"] == "2,3"
    with pytest.raises(CapacityRefused):
        await gpus.start(C1)
    assert [each.state for each in await gpus.list(C1)] == [InstanceState.STOPPED]


async def test_half_a_cluster_is_not_left_when_devices_run_out(gpus):
    with pytest.raises(CapacityRefused):
        await gpus.create(ask_for(3, C1, nodes=2))
    assert await gpus.list() == []


async def test_declared_devices_are_each_nodes_own(compute):
    placement = Placement(OFFER, 2, 2, 4, {"H100": 8.0})
    made = await compute.create(CreateAsk("k", C1, "name", placement))
    assert all("devices" not in each.reach for each in made)
    cluster = Cluster("c", "c", "u", "d", Phase.UP, 1, 0.0, 0.0, 2, placement=placement, instances=tuple(made))
    assert [node_config(cluster, each)["accelerators"]["indices"] for each in made] == [list(range(8))] * 2
    held = replace(made[0], reach={**made[0].reach, "devices": "2,3"})
    assert node_config(cluster, held)["accelerators"] == {"name": "H100", "count": 2, "indices": [2, 3]}
