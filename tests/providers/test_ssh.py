"""SSH pools on real hosts: inventory, slots, nodes that come and go, machines that die."""

import asyncio
import json
import os

import pytest
from ssh_world import C1, C2, C3, SMI, World, ask, hosts, write_pools

from sky.core.errors import CapacityRefused, InvalidSkyPilotConfigError, NotSupportedError, ProviderDown, RequestInvalid
from sky.core.model.clusters import InstanceState
from sky.sim.compute_contract import ComputeContract, Place


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
    folder = f".sky/nodes/{C1}-0/cache"
    one.run(f"{hidden} mkdir -p {folder} && touch {folder}/x && chmod 500 {folder}")
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


async def test_a_machine_that_dies_is_reported_and_taken_out(world, rack, shared_lab):
    nodes = await world.compute.create(ask(C1, nodes=2, cpus=1))
    two = rack[1]
    two.stop()
    try:
        seen = {node.machine: node for node in await world.compute.list(C1)}
        assert seen[two.ip].state is InstanceState.PENDING, "out of reach, and not known to have ended"
        assert "does not answer" in seen[two.ip].reason
        assert seen[rack[0].ip].reason is None
        assert [each.instance_type.endswith("-h100x4") for each in await world.compute.offers()] == [True]
        access = await world.compute.check()
        assert access.enabled and f"rack/{two.ip}: silent" in access.account
        assert "1 of 2 machines answer" in access.account
        # It cannot be told, and does not hold up anything.
        await world.compute.terminate(C1)
        (left,) = await world.compute.list()
        assert (left.state, left.machine) == (InstanceState.STOPPING, two.ip)
        assert "to be cleaned" in left.reason
        assert "(to be cleaned)" in (await world.compute.check()).account
    finally:
        two.start()
    assert marks(two) == [node.id for node in nodes if node.machine == two.ip]
    async with asyncio.timeout(60):
        # It is there before it lets anybody in.
        while marks(two):
            await world.compute.look()
    assert await world.compute.list() == []


async def test_what_a_machine_says_of_its_nodes_is_believed(world, rack):
    (node,) = await world.compute.create(ask(C1, gpus=1))
    folder = f".sky/nodes/{node.id}"
    rack[0].run(f"mkdir -p {folder}/.sky/agent && echo '{{}}' > {folder}/.sky/agent/stopped.json")
    (seen,) = await world.compute.list(C1)
    assert (seen.state, seen.reason) == (InstanceState.STOPPED, "it has ended itself")
    rack[0].run(f"rm -rf {folder}")
    (seen,) = await world.compute.list(C1)
    assert seen.state is InstanceState.TERMINATED
    await world.compute.terminate(C1)
    assert await world.compute.list() == []


async def test_hosts_by_alias_and_by_password(tmp_path, rack):
    one, two = rack
    two.exec("sh", "-c", f"echo {two.user}:swordfish-71 | chpasswd")
    two.configure_sshd("PasswordAuthentication yes")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host gpu-*\n  User {one.user}\n  IdentityFile {one.key}\nHost gpu-one\n  HostName {one.ip}\n"
        f"Host behind\n  HostName {two.ip}\n  ProxyJump gpu-one\n  User {two.user}\n  IdentityFile {one.key}\n"
    )
    passworded = {"ip": two.ip, "user": two.user, "password": "swordfish-71"}
    write_pools(tmp_path, {"named": {"hosts": ["gpu-one", "behind"]}, "locked": {"hosts": [passworded]}})
    world = World(tmp_path / "state", tmp_path)
    try:
        reports = await world.compute.look()
        assert [(each.machine, each.state) for each in reports] == [
            ("gpu-one", "up"), ("behind", "up"), (two.ip, "up"),
        ], reports  # fmt: skip
        (node,) = await world.compute.create(ask(C1, pool="locked", cpus=1))
        assert node.reach["secret"] == f"locked/{two.ip}"
        assert world.compute.secret(node.reach["secret"]) == "swordfish-71"
        everything = "".join(path.read_text() for path in (tmp_path / "state").rglob("*.json"))
        assert "swordfish" not in everything + repr(node) + repr(reports)
        await world.compute.terminate(C1)
    finally:
        await world.shells.close()


async def test_a_pool_is_forgotten_unless_it_is_in_use(world, tmp_path):
    await world.compute.create(ask(C1, gpus=1))
    with pytest.raises(NotSupportedError, match="in use by: one"):
        await world.compute.forget("rack")
    await world.compute.terminate(C1)
    assert await world.compute.forget() == ["rack"]
    kept = json.loads((tmp_path / "state" / "ssh" / "inventory.json").read_text())
    assert kept == {}


async def test_pools_given_along_win_and_are_kept_private(world, tmp_path, rack):
    text = json.dumps({"spare": {"hosts": hosts(rack[1:]), "password": "swordfish-72"}})
    reports = await world.compute.look(text=text)
    assert [(each.pool, each.state) for each in reports] == [("spare", "up")]
    (kept,) = (tmp_path / "state" / "ssh" / "pools").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert set(await world.compute.forget("spare")) == {"spare"}
    with pytest.raises(InvalidSkyPilotConfigError, match="there is no SSH pool 'spare'"):
        await world.compute.look("spare")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rack:\n  host: [a]\n", r"ssh_node_pools.yaml:2:3 \(rack.host\): found unknown field 'host'.*'hosts'"),
        ("rack:\n  hosts:\n  - {ip: a, usr: b}\n", r"yaml:3:\d+ \(rack.hosts\[0\].usr\).*did you mean 'user'"),
        ("rack: {hosts: []}\n", "found a pool without hosts"),
        ("rack: {hosts: [{user: a}]}\n", "found a host without ip"),
        ("rack: {hosts: [-oProxyCommand=x]}\n", "found the host"),
        ("rack: {hosts: ['a b']}\n", "found the host"),
        ("a/b: {hosts: [a]}\n", "found the pool name"),
        ("[1, 2]\n", "allowed: a mapping"),
        ("rack: {hosts: [a]\n", r"yaml:2:1"),
    ],
)
async def test_a_file_that_is_wrong_says_where(tmp_path, text, said):
    (tmp_path / ".sky").mkdir()
    (tmp_path / ".sky" / "ssh_node_pools.yaml").write_text(text)
    world = World(tmp_path / "state", tmp_path)
    with pytest.raises(InvalidSkyPilotConfigError, match=said):
        await world.compute.offers()
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, True)


async def test_no_pools_and_no_answer_are_not_enabled(tmp_path, lab):
    world = World(tmp_path / "state", tmp_path)
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, False) and "sky ssh up" in access.hint
    (host,) = lab.create(1)
    host.stop()
    write_pools(tmp_path, {"rack": {"hosts": hosts([host])}})
    access = await world.compute.check()
    assert not access.enabled and "none of 1 machines can be used" in access.reason and host.ip in access.reason
    assert list(await world.compute.offers()) == []
    with pytest.raises(CapacityRefused, match="cannot be used"):
        await world.compute.create(ask())
    await world.shells.close()


@pytest.mark.parametrize("left", [None, "[{", '{"a": 1}', "[7]"])
async def test_a_lost_record_is_made_anew_from_the_machines(world, rack, left):
    given = ask(C1, nodes=1, gpus=3)
    (node,) = await world.compute.create(given)
    await world.compute.create(ask(C2, cpus=1))
    before = await world.compute.list()
    lost = world.lose(left)
    assert await lost.list() == before
    await lost.look()
    assert sum(len(marks(host)) for host in rack) == 2, "and nothing was ended"
    report = {each.machine: each for each in await lost.look()}[rack[0].ip]
    assert "cluster one" in report.holders and report.free_accelerators == {"H100": 1.0}
    assert await lost.create(given) == (node,) or await lost.create(given) == [node], "it is not made a second time"
    with pytest.raises(CapacityRefused, match="has 1 of 4 H100 free"):
        await lost.create(ask(C3, gpus=2))
    await lost.terminate(C1)
    assert [each.cluster_id for each in await lost.list()] == [C2]
    await lost.terminate(C2)
    assert [marks(host) for host in rack] == [[], []]
    assert await world.again().list() == []


async def test_of_a_silent_machine_the_clusters_records_tell(world, rack):
    given = ask(C1, nodes=2, cpus=1)
    nodes = await world.compute.create(given)
    world.record(given, nodes)
    two = rack[1]
    two.stop()
    try:
        lost = world.lose()
        seen = {each.machine: each for each in await lost.list(C1, regions=["rack"])}
        assert {each.machine: each.id for each in nodes} == {each.machine: each.id for each in seen.values()}
        assert seen[two.ip].state is InstanceState.PENDING
    finally:
        two.start()
    await lost.look()
    room = {each.machine: each for each in await lost.look()}
    assert room[two.ip].free_cpus == room[two.ip].cpus - 1, "it says by now what the node holds"
    await lost.terminate(C1)
    assert [marks(host) for host in rack] == [[], []]


async def test_what_is_gone_from_its_machine_is_not_found_again(world, rack):
    given = ask(C1, nodes=2, cpus=1)
    nodes = await world.compute.create(given)
    world.record(given, nodes)
    rack[1].exec("rm", "-rf", f"/home/{rack[1].user}/.sky")
    assert [each.machine for each in await world.lose().list(C1)] == [rack[0].ip]
    await world.compute.terminate(C1)


async def test_what_a_silent_machine_holds_of_no_cluster_is_listed_once_it_answers(world, rack):
    await world.compute.create(ask(C1, nodes=2, cpus=1))
    rack[1].stop()
    try:
        lost = world.lose()
        assert len(await lost.list()) == 1
        await lost.terminate(C1)
    finally:
        rack[1].start()
    await lost.look()
    (left,) = await lost.list()
    assert (left.cluster_id, left.machine) == (C1, rack[1].ip), "so that the sweep ends it"
    await lost.terminate(C1)
    assert [marks(host) for host in rack] == [[], []]


async def test_nothing_is_ended_or_given_while_the_record_cannot_be_made_anew(world, rack, tmp_path):
    await world.compute.create(ask(C1))
    pools = tmp_path / ".sky" / "ssh_node_pools.yaml"
    good = pools.read_text()
    pools.write_text("rack: {host: [a]}")
    lost = world.lose()
    for call in (lost.list(), lost.terminate(C1), lost.create(ask(C2))):
        with pytest.raises(ProviderDown, match=r"was lost, and cannot be made anew.*'hosts'"):
            await call
    assert sum(len(marks(host)) for host in rack) == 1
    pools.write_text(good)
    assert len(await lost.list()) == 1
    await lost.terminate(C1)


async def test_a_machine_that_is_back_is_taken_at_once(world, rack):
    one, two = rack
    two.stop()
    try:
        assert sorted(report.state for report in await world.compute.look()) == ["silent", "up"]
    finally:
        two.start()
    nodes = await world.compute.create(ask(C1, nodes=2, cpus=1))
    assert {node.machine for node in nodes} == {one.ip, two.ip}
    await world.compute.terminate(C1)


async def test_keys_of_the_configuration_are_known(world):
    world.config["exclusiv"] = True
    with pytest.raises(RequestInvalid, match="did you mean 'exclusive'"):
        await world.compute.create(ask(C1))
    assert "did you mean 'exclusive'" in (await world.compute.check()).reason
    world.config.clear()
    world.config["pod_config"] = {"spec": 1}
    with pytest.raises(NotSupportedError, match="where no pods are made"):
        await world.compute.create(ask(C1))
    world.config["pod_config"] = None
    world.config["allowed_node_pools"] = ["other"]
    assert list(await world.compute.offers()) == []


class TestContract(ComputeContract):
    """The promises of every provider."""

    @pytest.fixture
    async def place(self, world):
        tag = str(os.getpid())
        yield Place(world.compute, lambda id, nodes: ask(id, nodes=nodes, cpus=0.5), most=2, tag=tag)
        for node in await world.compute.list():
            await world.compute.terminate(node.cluster_id)
