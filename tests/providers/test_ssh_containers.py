"""Containers of a pool's machine go with their node, also where the node's agent can no longer end them."""

import asyncio
import shutil
import tempfile

import pytest
from ssh_world import C1, World, ask, hosts, write_pools

from sky.core.model.clusters import Cluster, Phase
from sky.server.fleet import NodeFleet

#: An image of a shell and what tasks need of programs, made of the machine's own.
TINY = r"""
set -e
programs="/bin/sh /bin/cat /bin/mkdir /bin/rm /bin/sleep /bin/mktemp"
libraries=$(for each in $programs; do ldd $each; done | grep -o '/[^ ]*' | sort -u)
mkdir -p /tmp/root/tmp; chmod 1777 /tmp/root/tmp
for each in $programs $libraries; do mkdir -p "/tmp/root${each%/*}"; cp -L "$each" "/tmp/root$each"; done
tar -C /tmp/root -cf - . | podman import - tiny
podman run -d --name stranger --network host --label sky.node=another tiny /bin/sleep 1000
"""


@pytest.fixture
def machine(lab):
    if shutil.which("podman") is None:
        pytest.skip("no podman on this machine")
    disk = tempfile.mkdtemp(prefix="podman", dir="/var/tmp")
    hidden = [path for path in ("/usr/bin/docker", "/usr/local/bin/docker") if shutil.which(path)]
    (host,) = lab.create("machine", bind=[f"{disk}:/var/lib/containers:rw"], hide=hidden)
    done = host.exec("sh", "-c", TINY)
    assert done.returncode == 0, done.stderr
    yield host
    host.destroy()
    shutil.rmtree(disk, ignore_errors=True)


def listed(host, *words):
    return host.exec("podman", "ps", "-a", "--format", "{{.Names}}", *words).stdout.split()


async def test_containers_of_a_node_whose_agent_is_silent_go_with_it(machine, tmp_path):
    write_pools(tmp_path, {"rack": {"hosts": hosts([machine])}})
    world = World(tmp_path / "state", tmp_path)
    (node,) = await world.compute.create(ask())
    cluster = Cluster(C1, "one", "u", "d", Phase.TERMINATING, 1, 0.0, 0.0, 1, instances=(node,))
    fleet = NodeFleet(None, world.keys)
    await fleet.bring_up(cluster)
    boxed = {"image": "tiny", "run_options": [], "login": None}
    head = await fleet.head(cluster)
    await head.submit("k", {"run": "echo in; sleep 1001", "task_id": "k", "container": boxed})
    async with asyncio.timeout(60):
        while not machine.run("pgrep -f '^sleep 1001'").stdout.strip():
            await asyncio.sleep(0.05)
    assert len(listed(machine)) == 2 and len(listed(machine, "--filter", f"label=sky.node={node.id}")) == 1
    stopped = machine.run(f"kill -STOP $(cat ~/{node.reach['home']}/.sky/agent/lock)")
    assert stopped.returncode == 0, stopped.stderr
    await fleet.quiesce(cluster)
    assert len(listed(machine)) == 2, "nobody was there to end it"
    await world.compute.terminate(C1)
    assert listed(machine) == ["stranger"], "what is not the node's stays"
    assert machine.exec("pgrep", "-f", "^sleep 1001").stdout == ""
    assert machine.run("ls ~/.sky/nodes").stdout == ""
    await fleet.forget(C1)
    await world.shells.close()
