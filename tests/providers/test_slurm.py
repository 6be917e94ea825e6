"""Slurm, the real one: allocations asked for, waited for, refused, lost, ended; and the agent inside of them."""

import asyncio
import os
import shlex
import time
from dataclasses import replace

import pytest
from slurm_world import SHAPE, SlurmWorld, cluster_of

from sky.core.errors import (
    CapacityRefused,
    NotSupportedError,
    ProviderDown,
    RequestInvalid,
)
from sky.core.model.clusters import InstanceState
from sky.server.fleet import NodeFleet
from sky.sim.compute_contract import ComputeContract, Place

C1, C2 = f"c1-{os.getpid()}", f"c2-{os.getpid()}"


@pytest.fixture
async def world(tmp_path, slurm_bed):
    made = SlurmWorld(tmp_path, slurm_bed)
    yield made
    for cluster in (C1, C2):
        await made.compute.terminate(cluster)
    await made.shells.close()
    assert made.queue() == []


async def until(true, seconds=40.0):
    end = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < end
        await asyncio.sleep(0.3)


async def nothing_left(host, node):
    """Whether an allocation has left neither a process nor a folder there."""
    job = node.reach["job"]
    script = f"grep -lz ^SLURM_JOB_ID={job}$ /proc/[0-9]*/environ; ls -d /tmp/.sky-*-job-{job}"
    return not host.exec("sh", "-c", script).stdout.strip()


async def test_partitions_are_zones_and_shapes_are_offers(world):
    access = await world.compute.check()
    assert access.enabled and access.account.startswith("bed: slurm-wlm")
    assert f"batch: 2 nodes of {SHAPE}" in access.account
    found = {offer.zone: offer for offer in await world.compute.offers()}
    batch = found["batch"]
    assert (batch.region, batch.instance_type, batch.cpus, batch.memory_gb) == ("bed", SHAPE, 16, 62.5)
    assert (dict(batch.accelerators), batch.price_hourly, batch.shared) == ({"H100": 8.0}, 0.0, True)
    world.config["pricing"] = {"cpu": 0.5, "accelerators": {"H100": 2}}
    assert {offer.price_hourly for offer in await world.compute.offers()} == {24.0}
    world.config["allowed_clusters"] = ["another"]
    assert await world.compute.offers() == [] and not (await world.compute.check()).enabled
    world.config.clear()


async def test_an_allocation_is_a_cluster(world):
    nodes = await world.compute.create(world.ask(C1, nodes=2, gpus=4, memory=10))
    assert [(node.rank, node.state, node.reach["node"]) for node in nodes] == [
        (0, InstanceState.RUNNING, "n1"), (1, InstanceState.RUNNING, "n2"),
    ]  # fmt: skip
    assert [node.ip for node in nodes] == [world.bed.host(name).ip for name in ("n1", "n2")]
    assert {node.reach["devices"] for node in nodes} == {"0,1,2,3"}
    job = nodes[0].reach["job"]
    asked = world.slurm(f"scontrol -o show job {job}")
    assert "TresPerNode=gres:gpu:h100:4" in asked and "MinMemoryNode=10G" in asked and "Requeue=0" in asked
    assert await world.compute.create(world.ask(C1, nodes=2, gpus=4, memory=10)) == nodes
    # A server that lost its record asks Slurm; one of another installation sees nothing.
    assert await world.again("lost").list() == nodes
    stranger = SlurmWorld(world.home / "stranger", world.bed)
    assert await stranger.compute.list() == []
    await stranger.compute.terminate(C1)
    await stranger.shells.close()
    assert world.queue() == ["RUNNING sky-" + C1[-3:]]
    await world.compute.terminate(C1)
    assert world.queue() == []
    assert {node.state for node in await world.compute.list(C1)} <= {InstanceState.TERMINATED, InstanceState.STOPPING}


async def test_the_agent_lives_inside_and_leaves_nothing(world):
    ask = world.ask(C1, gpus=2, cpus=4)
    nodes = await world.compute.create(ask)
    cluster = cluster_of(world, ask, nodes)
    fleet = NodeFleet(lambda name: world.home / name, world.keys, lambda cloud, name: None)
    try:
        began = time.monotonic()
        await fleet.bring_up(cluster)
        assert time.monotonic() - began < 10
        head = await fleet.head(cluster)
        await head.ping()
        channel = fleet.channel(cluster, nodes[0])
        done = await channel.run(["/bin/sh", "-c", 'cat; echo "$1 $KEY" >&2; exit 7', "x", "a b"], env={"KEY": "v w"},
                                 input=b"\0\xff" * 100_000)  # fmt: skip
        assert (done.rc, done.stdout, done.stderr) == (7, b"\0\xff" * 100_000, b"a b v w\n")
        n1 = world.bed.host("n1")
        assert world.slurm("ls ~/.sky/nodes").split() == [f"{C1}-0"]
        assert n1.exec("sh", "-c", f"grep -lz ^SKY_NODE_ID={C1}-0 /proc/[0-9]*/environ").stdout
        fresh = NodeFleet(lambda name: world.home / name, world.keys, lambda cloud, name: None)
        await fresh.bring_up(cluster)
        await (await fresh.head(cluster)).ping()
        await fresh.forget(C1)
        # Slurm's own end, without us: nothing of it outlives the allocation.
        world.slurm(f"scancel {nodes[0].reach['job']}")
        await until(lambda: nothing_left(n1, nodes[0]), 90)
        (seen,) = await world.compute.list(C1)
        assert seen.state is InstanceState.TERMINATED and "cancelled" in seen.reason
        await world.compute.terminate(C1)
        assert world.slurm("ls ~/.sky/nodes 2>/dev/null || true") == ""
    finally:
        await fleet.forget(C1)


async def test_what_a_killed_keeper_left_is_ended_by_the_next(world):
    n1, ask = world.bed.host("n1"), world.ask(C1, zone="debug")
    (node,) = await world.compute.create(ask)
    fleet = NodeFleet(lambda name: world.home / name, world.keys, lambda cloud, name: None)
    await fleet.bring_up(cluster_of(world, ask, [node]))
    await fleet.forget(C1)
    folder = f"/tmp/.sky-*-job-{node.reach['job']}"
    keeper = n1.exec("sh", "-c", f"cat {folder}/keeper").stdout.strip()
    # Out of Slurm's sight, where it follows parents only.
    escaped = f"SLURM_JOB_ID={node.reach['job']} setsid sleep 300 >/dev/null 2>&1 </dev/null &"
    assert n1.exec("runuser", "-u", world.login.user, "--", "sh", "-c", escaped).returncode == 0
    n1.exec("kill", "-9", keeper)
    await ended(world)
    assert not await nothing_left(n1, node)
    (after,) = await world.compute.create(world.ask(C1, key="again", zone="debug"))
    await until(lambda: nothing_left(n1, node), 10)
    assert n1.exec("sh", "-c", f"cat /tmp/.sky-*-job-{after.reach['job']}/keeper").stdout.strip() not in ("", keeper)


async def test_homes_that_are_not_shared(world):
    hosts = [world.bed.host(name) for name in ("n1", "n2")]
    for host in hosts:
        mount = f"mount -t tmpfs tmpfs /home/{host.user} && chown {host.user}: /home/{host.user}"
        done = host.exec("sh", "-c", mount)
        if done.returncode:
            pytest.skip(done.stderr)
    try:
        ask = world.ask(C1, nodes=2)
        nodes = await world.compute.create(ask)
        fleet = NodeFleet(lambda name: world.home / name, world.keys, lambda cloud, name: None)
        for node in nodes:
            done = await fleet.channel(cluster_of(world, ask, nodes), node).run(
                ["/bin/sh", "-c", f"mkdir -p .sky/nodes/{node.id}/x && chmod 500 .sky/nodes/{node.id}/x && hostname"]
            )
            assert done.stdout.decode().strip() == node.reach["node"]
        await fleet.forget(C1)
        assert [host.exec("ls", f"/home/{host.user}/.sky/nodes").stdout.strip() for host in hosts] == [
            f"{C1}-0", f"{C1}-1",
        ]  # fmt: skip
        await world.compute.terminate(C1)
        assert [host.exec("ls", f"/home/{host.user}/.sky/nodes").stdout.strip() for host in hosts] == ["", ""]
        # And where Slurm ends the allocation, of which the login node sees no more than that.
        nodes = await world.compute.create(ask)
        cluster = cluster_of(world, ask, nodes)
        await fleet.bring_up(cluster)
        assert not await (await fleet.head(cluster)).ping(), "all hear of each other"
        assert [host.exec("ls", f"/home/{host.user}/.sky/nodes").stdout.strip() for host in hosts] == [
            f"{C1}-0", f"{C1}-1",
        ]  # fmt: skip
        await fleet.forget(C1)
        world.slurm(f"scancel {nodes[0].reach['job']}")

        async def clean():
            return not any(host.exec("ls", f"/home/{host.user}/.sky/nodes").stdout.strip() for host in hosts)

        await until(clean)
    finally:
        for host in hosts:
            host.exec("umount", "-l", f"/home/{host.user}")


async def test_folders_of_the_configuration(world):
    n1, user = world.bed.host("n1"), world.login.user
    base, tmp = f"/home/{user}/of/work", "/var/tmp/of-nodes"
    world.config.update({"workdir": "~/of/work", "cluster_configs": {"bed": {"workdir": base, "tmpdir": tmp}}})
    ask = world.ask(C1)
    nodes = await world.compute.create(ask)
    assert (nodes[0].reach["home"], nodes[0].reach["tmp"]) == (f"{base}/.sky/nodes/{C1}-0", tmp)
    assert await world.again("state").list(C1) == nodes, "on record"
    assert await world.again("lost").list(C1) == nodes, "and known without it"
    world.again("state")
    cluster = cluster_of(world, ask, nodes)
    fleet = NodeFleet(lambda name: world.home / name, world.keys, lambda cloud, name: None)
    await fleet.bring_up(cluster)
    client = fleet._client(cluster, nodes[0])
    said = await client.run("echo $HOME $TMPDIR; touch ~/mark", timeout=20, env={})
    assert said[1].decode().split() == [f"{base}/.sky/nodes/{C1}-0", tmp]
    assert world.slurm(f"ls {base}/.sky/nodes/{C1}-0/mark; ls -d ~/.sky/nodes 2>/dev/null || true").count("\n") == 1
    assert "agent.sock" in n1.exec("sh", "-c", f"ls {tmp}/.sky-*").stdout
    await fleet.forget(C1)
    await world.compute.terminate(C1)
    assert world.slurm(f"ls {base}/.sky") == "" and n1.exec("sh", "-c", f"ls -A {tmp}").stdout == ""
    world.config.update({"workdir": "~/of/home", "cluster_configs": {}})
    (node,) = await world.compute.create(world.ask(C1, key="again"))
    assert node.reach["home"] == f"of/home/.sky/nodes/{C1}-0"
    done = await fleet.channel(cluster, node).run(["/bin/sh", "-c", f"mkdir -p $HOME/of/home/.sky/nodes/{C1}-0"])
    assert done.rc == 0 and world.slurm("ls of/home/.sky/nodes") == f"{C1}-0\n"
    await fleet.forget(C1)
    await world.compute.terminate(C1)
    assert world.slurm("ls of/home/.sky") == ""


async def ended(world):
    """The reason, once the allocation has ended."""
    seen = []

    async def over():
        seen[:] = await world.compute.list(C1)
        return all(node.state is InstanceState.TERMINATED for node in seen)

    await until(over, 90)
    (reason,) = {node.reason for node in seen}
    return reason


async def test_why_an_allocation_ended(world):
    (node,) = await world.compute.create(world.ask(C1))
    world.login.exec("scancel", node.reach["job"])
    assert await ended(world) == f"the allocation was cancelled (job {node.reach['job']}: CANCELLED)"
    # Once Slurm has forgotten the job, its accounts know; this bed keeps none.
    job = node.reach["job"]
    known = f'[ "$5" = {job} ] && [ "$7" = JobID,State,Reason ] && echo "{job}|CANCELLED by 1007|None"'
    for name, script in (("squeue", "exit 0"), ("sacct", known)):
        lines = f"#!/bin/sh\n{script}\n"
        world.login.exec(
            "sh", "-c", f"printf %s {shlex.quote(lines)} >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}"
        )
    try:
        forgotten = await world.compute.list(C1)
    finally:
        world.login.exec("rm", "/usr/local/bin/squeue", "/usr/local/bin/sacct")
    assert [each.reason for each in forgotten] == [
        f"the allocation was cancelled (job {node.reach['job']}: CANCELLED by 1007)"
    ]
    (node,) = await world.compute.create(world.ask(C1, key="timed"))
    world.login.exec("scontrol", "update", f"JobId={node.reach['job']}", "EndTime=now")
    assert "time limit was reached" in await ended(world)


async def test_an_allocation_that_is_suspended_goes_on(world):
    (node,) = await world.compute.create(world.ask(C1))
    assert world.login.exec("scontrol", "suspend", node.reach["job"]).returncode == 0
    (seen,) = await world.compute.list(C1)
    assert (seen.state, seen.machine) == (InstanceState.PENDING, node.machine), "neither stopped nor gone"
    assert seen.reason == f"Slurm has suspended job {node.reach['job']}, and lets it go on later"
    assert world.login.exec("scontrol", "resume", node.reach["job"]).returncode == 0
    assert await world.compute.list(C1) == [node]


async def test_an_allocation_whose_first_node_dies(world):
    (node,) = await world.compute.create(world.ask(C1, zone="debug"))
    world.bed.do("kill", "n1")
    try:
        assert await ended(world) == f"a node of the allocation failed (job {node.reach['job']}: NODE_FAIL, NodeDown)"
        await world.compute.terminate(C1)
    finally:
        world.bed.do("revive", "n1")
        # A machine without power cleans nothing up.
        world.bed.host("n1").exec("sh", "-c", "rm -rf /tmp/.sky-*")

        async def back():
            return world.slurm("sinfo -h -n n1 -p batch -o %t").strip() == "idle"

        await until(back, 60)


async def test_waiting_says_why_and_not_for_ever(world):
    await world.compute.create(world.ask(C1, nodes=2, gpus=8))
    world.config["provision_timeout"] = 4
    with pytest.raises(
        CapacityRefused, match=r"no nodes of partition batch within \d s \((Resources|Priority)"
    ) as caught:
        await world.compute.create(world.ask(C2, gpus=1))
    assert caught.value.scope == "zone"
    assert any("waits: Resources: its turn has come" in line or "waits: Priority" in line for line in world.said)
    assert world.queue() == ["RUNNING sky-" + C1[-3:]]
    world.config["provision_timeout"] = -1
    waiting = asyncio.ensure_future(world.compute.create(world.ask(C2, gpus=1)))

    async def pends():
        return [node.state for node in await world.compute.list(C2)] == [InstanceState.PENDING]

    await until(pends)
    await world.compute.terminate(C1)
    (node,) = await waiting
    assert node.state is InstanceState.RUNNING


async def test_a_launch_that_is_called_off_leaves_nothing(world):
    await world.compute.create(world.ask(C1, nodes=2, gpus=8))
    waiting = asyncio.ensure_future(world.compute.create(world.ask(C2, gpus=1, pinned=True)))

    async def queued():
        return len(world.queue()) == 2

    await until(queued)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert world.queue() == ["RUNNING sky-" + C1[-3:]]


@pytest.mark.parametrize(
    ("asked", "config", "kind", "scope", "said"),
    [
        ({"nodes": 2, "zone": "debug"}, {}, RequestInvalid, "zone", "PartitionNodeLimit"),
        ({"nodes": 3}, {}, RequestInvalid, "zone", "configuration is not available|PartitionNodeLimit|Node count"),
        ({"memory": 500}, {}, RequestInvalid, "zone", "Memory specification|not available"),
        ({}, {"sbatch_options": {"constraint": "nothing"}}, RequestInvalid, "request", "feature"),
        ({}, {"sbatch_options": ["--reservation=nothing"]}, RequestInvalid, "request", "reservation"),
        ({"shape": "1cpu-1gb"}, {}, CapacityRefused, "zone", "no nodes of 1cpu-1gb"),
        ({}, {"cpu_partition": "debug"}, CapacityRefused, "zone", "to partition debug"),
    ],
)
async def test_what_can_never_be_is_said_at_once(world, asked, config, kind, scope, said):
    world.config.update(config)
    with pytest.raises(kind, match=said) as caught:
        await world.compute.create(world.ask(C1, **asked))
    assert caught.value.scope == scope
    assert world.queue() == []


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        ({"submit_as_user": True}, NotSupportedError, "submit_as_user"),
        ({"sbatch_options": {"nodes": 3}}, RequestInvalid, "follows from the task"),
        ({"sbatch_options": {"a b; rm": 3}}, RequestInvalid, "long names"),
        ({"sbatch_options": 3}, RequestInvalid, "allowed: a mapping"),
        ({"prometheus": {"port": 9090}}, NotSupportedError, "prometheus"),
        ({"tmpdir": "tmp"}, RequestInvalid, "tmpdir: found 'tmp'; allowed: an absolute path"),
        ({"tmpdir": "/x" * 8 + "y" * 60}, RequestInvalid, "too long"),
        ({"workdir": "/a/../b"}, RequestInvalid, "workdir: found '/a/../b'.*may begin with ~/"),
        ({"workdir": "/a b"}, RequestInvalid, "workdir"),
        ({"provision_timout": 3}, RequestInvalid, "did you mean 'provision_timeout'"),
        ({"cluster_configs": {"bed": {"partition_configs": {"batch": {"submit_as_user": True}}}}}, NotSupportedError,
         "submit_as_user"),
    ],
)  # fmt: skip
async def test_configuration_that_cannot_be_used(world, config, kind, said):
    world.config.update(config)
    with pytest.raises(kind, match=said):
        await world.compute.create(world.ask(C1))
    world.config.clear()


async def test_options_of_the_user_reach_slurm(world):
    world.config["sbatch_options"] = {"time": "00:30:00", "exclusive": True}
    (node,) = await world.compute.create(world.ask(C1, zone="debug"))
    asked = world.slurm(f"scontrol -o show job {node.reach['job']}")
    assert "TimeLimit=00:30:00" in asked and "OverSubscribe=NO" in asked and "NumCPUs=16" in asked


async def test_a_node_that_dies_is_told(world):
    nodes = await world.compute.create(world.ask(C1, nodes=2))
    world.bed.do("kill", "n2")
    try:

        async def told():
            states = {node.reach["node"]: node for node in await world.compute.list(C1)}
            return states["n2"].state is InstanceState.TERMINATED and "failed" in states["n2"].reason

        await until(told)
        first = (await world.compute.list(C1))[0]
        assert (first.state, first.reach["job"]) == (InstanceState.RUNNING, nodes[0].reach["job"])
        began = time.monotonic()
        await world.compute.terminate(C1)
        assert time.monotonic() - began < 20
    finally:
        world.bed.do("revive", "n2")

        async def back():
            return world.slurm("sinfo -h -n n2 -p batch -o %t").strip() == "idle"

        await until(back, 60)


async def test_a_login_node_that_is_away(world):
    path = world.home / ".slurm" / "config"
    path.write_text(path.read_text().replace(world.login.ip, world.login.ip.rpartition(".")[0] + ".250"))
    access = await world.compute.check()
    assert not access.enabled and "bed: the login node of bed cannot be reached" in access.reason
    assert await world.compute.offers() == []
    with pytest.raises(ProviderDown, match="cannot be reached"):
        await world.compute.list(C1)
    path.write_text("")
    access = await world.compute.check()
    assert (access.enabled, access.credentials) == (False, True)
    path.unlink()
    assert (await world.compute.check()).credentials is False


class TestContract(ComputeContract):
    """The promises of every provider."""

    @pytest.fixture
    async def place(self, world):
        yield Place(world.compute, lambda id, nodes: world.ask(id, nodes=nodes, cpus=1), most=2, tag=str(os.getpid()))
        for id in {node.cluster_id for node in await world.compute.list()}:
            await world.compute.terminate(id)

    async def test_a_cluster_grows_and_shrinks(self, place):
        """An allocation does neither, and says so; it stays as it is."""
        id = place.cluster("size")
        made = await place.compute.create(place.ask(id, 2))
        with pytest.raises(RequestInvalid, match="does not grow"):
            await place.compute.create(replace(place.ask(id, 3), key="more", ranks=(2,)))
        with pytest.raises(NotSupportedError, match="does not shrink"):
            await place.compute.terminate(id, ranks=(1,))
        assert await place.compute.list(id) == made
