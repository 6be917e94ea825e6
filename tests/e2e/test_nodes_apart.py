"""Machines that are somewhere else: what a cut network, a dead machine and a slow line do to work under way."""

import json
import re
import threading
import time

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Seconds for which the network is cut, and the lines of the job: ten a second, so that it goes on before and after.
CUT_S, LINES = 60, 640


@pytest.fixture
def pool(sky, lab):
    """Three machines of a pool, and the command in a home that knows them."""
    hosts = lab.create(3)
    listed = {"lab": {"user": "sky", "identity_file": hosts[0].key, "hosts": [host.ip for host in hosts]}}
    (sky.root / ".sky").mkdir()
    (sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps(listed))
    sky.good("ssh", "up")
    return hosts


def status(sky, name):
    (found,) = sky.json("status", name)
    return found


@pytest.mark.slow
def test_a_cut_network_stops_no_job_and_loses_no_line(sky, lab, pool, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "--infra", "ssh/lab", "--num-nodes", "2",
             f"for i in $(seq 1 {LINES}); do echo line $i of $SKYPILOT_NODE_RANK; sleep 0.1; done")  # fmt: skip
    follower = sky.start("logs", "c", "1")
    said = []
    reader = threading.Thread(target=lambda: said.extend(follower.stdout), daemon=True)
    reader.start()
    eventually(lambda: len(said) > 20)
    for host in pool:
        lab.partition(host)
    cut = time.monotonic()
    # The truth is told while the network is cut, and well before it is whole again.
    eventually(lambda: status(sky, "c")["status"] != "UP", CUT_S / 2)
    assert status(sky, "c")["reason"]
    queued = sky.json("queue", "c")
    assert queued[0]["status"] == "RUNNING"
    while time.monotonic() < cut + CUT_S:
        time.sleep(0.5)
    lab.heal(*pool)
    eventually(lambda: status(sky, "c")["status"] == "UP", 60)
    follower.wait(120)
    reader.join(10)
    for stream in (follower.stdout, follower.stderr):
        stream.close()
    for rank in range(2):
        numbers = [int(found[1]) for line in said if (found := re.search(rf"line (\d+) of {rank}", line))]
        assert numbers == list(range(1, LINES + 1)), "no gap and no repeat"
    assert sky.json("queue", "c")[0]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("which", ["head", "idle worker"])
def test_a_dead_machine_is_noticed_within_ten_seconds(sky, lab, pool, eventually, which):
    sky.good("launch", "-y", "-c", "c", "--infra", "ssh/lab", "--num-nodes", "2", "sleep 3")
    if which == "head":
        sky.good("exec", "-d", "c", "sleep 600")
    (head,) = [host for host in pool if host.ip == status(sky, "c")["head_ip"]]
    (worker,) = [host for host in pool if host is not head and host.run("ls ~/.sky/nodes").stdout.strip()]
    dead = head if which == "head" else worker
    begun = time.time()
    dead.stop()
    eventually(lambda: status(sky, "c")["status"] != "UP", 20)
    # By the server's own record: when this test gets to look is another matter.
    told = sky.json("events", "c")
    noticed = next(each["time"] for each in told if (each["entity"], each["before"]) == ("cluster", "UP"))
    assert noticed - begun < 10, told
    assert sky("down", "-y", "c").returncode == 0
