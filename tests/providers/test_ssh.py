"""SSH pools on real hosts: inventory, slots, nodes that come and go, machines that die."""

import asyncio
import json

import pytest
from ssh_world import C1, C2, C3, SMI, World, ask, hosts, write_pools

from sky.core.errors import CapacityRefused
from sky.core.model.clusters import InstanceState


@pytest.fixture(scope="module")
def rack(shared_lab):
    """Two machines, the first one with four GPUs as far as it says."""
    one, two = shared_lab.create(2)
    for host in (one, two):
        host.exec("rm", "-f", "/usr/local/bin/nvidia-smi")
    one.exec("sh", "-c", f"printf '%s' '{SMI.format(count=4)}' >/usr/bin/nvidia-smi && chmod 755 /usr/bin/nvidia-smi")
    return one, two


@pytest.fixture
async def world(tmp_path, rack):
    for host in rack:
        host.exec("rm", "-rf", f"/home/{host.user}/.sky")
    write_pools(tmp_path, {"rack": {"hosts": hosts(rack)}})
    made = World(tmp_path / "state", tmp_path)
    yield made
    await made.shells.close()


def marks(host):
    done = host.exec("sh", "-c", f"ls /home/{host.user}/.sky/nodes 2>/dev/null")
    return done.stdout.split()


async def test_a_pool_is_known_by_one_look(world, rack):
    access = await world.compute.check()
    assert access.enabled, access
    assert access.account.startswith("2 of 2 machines answer\n")
    assert "4/4 H100" in access.account
    gpu, plain = sorted(await world.compute.offers(), key=lambda offer: -len(offer.accelerators))
    assert (gpu.accelerators, gpu.accelerator_memory_gb, gpu.shared, gpu.price_hourly) == ({"H100": 4.0}, 79.6, True, 0)
    assert gpu.instance_type.startswith("rack-") and gpu.instance_type.endswith("-h100x4")
    assert plain.accelerators == {} and plain.region == "rack" and plain.zone is None


async def test_a_node_is_a_marked_folder_and_goes_without_a_trace(world, rack):
    (node,) = await world.compute.create(ask(gpus=2))
    one = rack[0]
    assert (node.state, node.reach["kind"], node.reach["devices"]) == (InstanceState.RUNNING, "ssh", "0,1")
    assert (node.id, node.ip, node.machine) == (f"{C1}-0", one.ip, one.ip)
    assert marks(one) == [f"{C1}-0"]
    assert "password" not in json.dumps(dict(node.reach)) and "secret" not in node.reach
    hidden = f"SKY_NODE_ID={C1}-0 setsid sleep 1000 >/dev/null 2>&1 </dev/null &"
    one.run(hidden + " mkdir -p .sky/nodes/*/cache && touch .sky/nodes/*/cache/x && chmod 500 .sky/nodes/*/cache")
    assert one.run("pgrep -f '^sleep 1000'").stdout.strip()
    await world.compute.terminate(C1)
    assert marks(one) == [] and not one.run("pgrep -f '^sleep 1000'").stdout.strip()
    assert await world.compute.list() == []
    await world.compute.terminate(C1)


async def test_creating_again_finds_what_was_made(world):
    first = await world.compute.create(ask(nodes=2, key="a"))
    again = await world.again().create(ask(nodes=2, key="a"))
    assert again == first and len({node.machine for node in again}) == 2
    with pytest.raises(CapacityRefused, match="on a machine of its own"):
        await world.compute.create(ask(C2, nodes=3))
    assert [node.cluster_id for node in await world.compute.list()] == [C1, C1]
    await world.compute.terminate(C1)


async def test_clusters_share_a_machine_by_devices(world, rack):
    (first,) = await world.compute.create(ask(C1, gpus=1))
    (second,) = await world.compute.create(ask(C2, gpus=2))
    assert (first.reach["devices"], second.reach["devices"]) == ("0", "1,2")
    offers = await world.compute.offers()
    assert [each.accelerators for each in offers if each.accelerators] == [{"H100": 1.0}]
    with pytest.raises(CapacityRefused, match=r"has 1 of 4 H100 free, the rest is held by cluster one, cluster two"):
        await world.compute.create(ask(C3, gpus=2))
    await world.compute.terminate(C1)
    (third,) = await world.compute.create(ask(C3, gpus=2))
    assert third.reach["devices"] == "0,3"
    for cluster in (C2, C3):
        await world.compute.terminate(cluster)


async def test_all_devices_are_all_of_the_machine(world):
    await world.compute.create(ask(C1, gpus=4))
    with pytest.raises(CapacityRefused, match="is in use by cluster one"):
        await world.compute.create(ask(C2, nodes=2, cpus=1))
    await world.compute.terminate(C1)


async def test_exclusive_takes_whole_machines(world):
    world.config["exclusive"] = True
    await world.compute.create(ask(C1, nodes=2))
    with pytest.raises(CapacityRefused, match="is in use by cluster one"):
        await world.compute.create(ask(C2))
    await world.compute.terminate(C1)


async def test_many_creates_at_once_never_share_a_device(world):
    made = await asyncio.gather(
        *(world.compute.create(ask(f"20260101-000000-c{number}", gpus=1)) for number in range(6)),
        return_exceptions=True,
    )
    held = [node.reach["devices"] for each in made if not isinstance(each, BaseException) for node in each]
    assert sorted(held) == ["0", "1", "2", "3"]
    assert sum(isinstance(each, CapacityRefused) for each in made) == 2
    for number in range(6):
        await world.compute.terminate(f"20260101-000000-c{number}")


async def test_two_servers_see_each_other(world, rack, tmp_path):
    other = World(tmp_path / "other", tmp_path)
    try:
        made = await asyncio.gather(
            *(each.compute.create(ask(cluster, gpus=3)) for each, cluster in ((world, C1), (other, C2))),
            return_exceptions=True,
        )
        assert sum(isinstance(each, CapacityRefused) for each in made) == 1, made
        lost = next(each for each in made if isinstance(each, CapacityRefused))
        assert "H100" in str(lost) or "just taken" in str(lost)
        winner, cluster, loser = (other, C2, world) if isinstance(made[0], CapacityRefused) else (world, C1, other)
        assert marks(rack[0]) == [f"{cluster}-0"]
        assert await loser.compute.list() == []
        with pytest.raises(CapacityRefused, match="of another server"):
            await loser.compute.create(ask(C3, gpus=3))
        await winner.compute.terminate(cluster)
        await loser.compute.look()
        await loser.compute.create(ask(C3, gpus=3))
        await loser.compute.terminate(C3)
    finally:
        await other.shells.close()
