"""One node of a managed job's gang is lost, and replaced: real nodes, real processes, real losses, on this machine."""

import contextlib
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

#: Each node counts to twelve, writing each number down, and goes on behind what was written by an attempt before; it
#: holds a lock for as long as any process of it lives.
GANG = """
name: gang
num_nodes: 2
resources: {{infra: local}}
checkpoint: {{path: '{root}/checkpoints', every: 1h}}
setup: echo $SKYPILOT_SETUP_NODE_RANK >> {root}/setups; touch ~/prepared
run: |
  set -e
  test -e ~/prepared
  exec 9> {root}/runs-$SKYPILOT_NODE_RANK
  flock -n 9 || exit 99
  echo $SKYPILOT_NODE_RANK >> {root}/begun
  kept=$SKYPILOT_CHECKPOINT_DIR/$SKYPILOT_NODE_RANK
  at=$(cat $kept 2>/dev/null || echo 0)
  while [ $at -lt 12 ]; do
    at=$((at + 1)); echo $at >> {root}/counted-$SKYPILOT_NODE_RANK
    echo $at > $kept.tmp; mv $kept.tmp $kept
    while [ $at -ge 6 ] && [ ! -e {root}/go ]; do touch {root}/waits-$SKYPILOT_NODE_RANK; sleep 0.1; done
    sleep 0.05
  done
  echo ended at $at
"""


def job(sky):
    return sky.json("jobs", "queue", "-a")[0]


def told(sky, number):
    """What a job has said by now."""
    return sky("jobs", "logs", str(number), "--no-follow").stdout


def lines(path):
    return path.read_text().split() if path.exists() else []


def launch(sky, eventually):
    (sky.root / "gang.yaml").write_text(GANG.format(root=sky.root))
    done = sky.good("jobs", "launch", "-y", "-d", "gang.yaml")
    assert re.search(r"Managed Job ID: 1", done.stdout)
    eventually(lambda: all((sky.root / f"waits-{rank}").exists() for rank in range(2)))
    # Who loses a node before the server has heard that all of them are set up runs the setup of all again.
    eventually(lambda: job(sky)["status"] == "RUNNING")


def lose(sky, rank):
    """What a power cut of one machine does."""
    assert sky.cut_power(lambda pid, _: node_of(pid).endswith(f"-{rank}"))


def node_of(pid):
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if each.startswith(b"SKY_NODE_ID="):
                return each.decode().partition("=")[2]
    return ""


def ended_well(sky, eventually, rank):
    # Who counts on before that may be ended between a number and its checkpoint.
    eventually(lambda: len(lines(sky.root / "begun")) == 4, 120)
    (sky.root / "go").touch()
    eventually(lambda: job(sky)["schedule_state"] == "DONE", 120)
    ended, why = job(sky), sky.good("jobs", "queue", "--why", "1").stdout
    assert (ended["status"], ended["recovery_count"]) == ("SUCCEEDED", 1), why
    assert f"replacing 1 of 2 nodes (rank {rank}) on local" in why
    assert lines(sky.root / "setups") == ["0", "1", str(rank)] or lines(sky.root / "setups") == ["1", "0", str(rank)]
    assert sorted(lines(sky.root / "begun")) == ["0", "0", "1", "1"], "begun anew on all nodes"
    for each in range(2):
        counted = [int(line) for line in lines(sky.root / f"counted-{each}")]
        assert counted == list(range(1, 13)), "nothing is done twice, nothing is left out"
    eventually(lambda: not sky.node_processes() and sky.json("status") == [])


@pytest.mark.parametrize("rank", [1, 0])
def test_one_lost_node_is_replaced_and_the_others_are_kept(sky, eventually, rank):
    launch(sky, eventually)
    lose(sky, rank)
    ended_well(sky, eventually, rank)


@pytest.mark.parametrize("seed", range(3))
def test_the_server_is_killed_in_the_middle_of_a_repair(sky, eventually, seed):
    rng = random.Random(seed)
    launch(sky, eventually)
    rank = rng.choice((0, 1))
    lose(sky, rank)
    for _ in range(3):
        time.sleep(rng.uniform(0.05, 1.0))  # a moment of the repair, not a wait for anything
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(sky.server_pid(), signal.SIGKILL)
        job(sky)
    ended_well(sky, eventually, rank)


def test_a_fault_on_request_by_the_number_of_the_job(sky, eventually):
    launch(sky, eventually)
    struck = sky.json("chaos", "preempt", "1", "--node", "1", "--seconds", "0", "-y")
    assert (struck["cluster_name"], struck["fault"], struck["node"], struck["job_id"]) == ("gang-1", "preempt", 1, None)
    eventually(lambda: job(sky)["recovery_count"] == 1)
    ended_well(sky, eventually, 1)
    over = sky("chaos", "kill", "1", "-y")
    assert over.returncode != 0 and "has no cluster just now" in over.stderr
    assert "Managed job 7 not found" in sky("chaos", "kill", "7", "-y").stderr


def test_the_processes_of_a_job_are_killed_by_its_number(sky, eventually):
    sky.good("jobs", "launch", "-y", "-d", "--infra", "local", f"touch {sky.root}/begun; sleep 1000")
    eventually(lambda: job(sky)["status"] == "RUNNING" and (sky.root / "begun").exists())
    sky.good("chaos", "kill", "1", "-y")
    eventually(lambda: job(sky)["schedule_state"] == "DONE")
    assert job(sky)["status"] == "FAILED", "its machine is well, so it failed by itself"


def test_a_cluster_goes_by_itself_where_no_server_ends_it(sky, eventually):
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "config.yaml").write_text("jobs: {orphan_after: 15}\n")
    hold = f"touch {sky.root}/begun; while [ ! -e {sky.root}/go ]; do sleep 0.1; done"
    sky.good("jobs", "launch", "-y", "-d", "--infra", "local", hold)
    eventually(lambda: job(sky)["status"] == "RUNNING" and (sky.root / "begun").exists())
    os.kill(sky.server_pid(), signal.SIGKILL)
    (sky.root / "go").touch()
    eventually(lambda: not sky.node_processes(), 90)
    # Whether it had ended well nobody has heard: it is begun anew.
    eventually(lambda: job(sky)["schedule_state"] == "DONE")
    assert (job(sky)["status"], job(sky)["recovery_count"]) == ("SUCCEEDED", 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_of_a_pool_is_lost_and_another_takes_its_place(sky, lab, eventually):
    machines = lab.create(3)
    hosts = [{"ip": each.ip, "user": each.user, "identity_file": each.key} for each in machines]
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": hosts}}))
    run = "\n".join(
        (
            "echo begun >> ~/begun; echo rank $SKYPILOT_NODE_RANK is at work",
            "[ $SKYPILOT_INTERNAL_JOB_ID = 1 ] && exec sleep 1000",
            "echo rank $SKYPILOT_NODE_RANK begun $(wc -l < ~/begun) times, set up $(wc -l < ~/setups) times",
        )
    )
    task = {"name": "gang", "num_nodes": 2, "resources": {"infra": "ssh/rack", "cpus": 0.5}, "run": run}
    (sky.root / "gang.yaml").write_text(json.dumps({**task, "setup": "echo set >> ~/setups"}))
    sky.good("jobs", "launch", "-y", "-d", "gang.yaml")
    eventually(lambda: job(sky)["status"] == "RUNNING", 90)
    found = "grep -lz ^SKYPILOT_NODE_RANK=1 /proc/[0-9]*/environ 2>/dev/null"
    eventually(lambda: any(each.exec("sh", "-c", found).stdout.strip() for each in machines), 60)
    worker = next(each for each in machines if each.exec("sh", "-c", found).stdout.strip())
    eventually(lambda: all(f"rank {rank} is at work" in told(sky, 1) for rank in range(2)), 60)
    worker.stop()
    eventually(lambda: job(sky)["schedule_state"] == "DONE", 240)
    why = sky.good("jobs", "queue", "--why", "1").stdout
    assert (job(sky)["status"], job(sky)["recovery_count"]) == ("SUCCEEDED", 1), why
    assert "replacing 1 of 2 nodes (rank 1) on ssh/rack" in why
    log = sky.good("jobs", "logs", "1").stdout
    assert "rank 0 begun 2 times, set up 1 times" in log
    assert "rank 1 begun 1 times, set up 1 times" in log


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("where", "kind"),
    [("aws/us-east-1/us-east-1a", "m5.xlarge"), ("gcp/us-central1/us-central1-a", "e2-standard-4")],
    ids=["aws", "gcp"],
)
def test_a_spot_machine_is_taken_back_and_its_neighbour_is_kept(clouds, eventually, where, kind):
    sky, wire = clouds.sky, clouds.wires[where[:3]]
    run = "\n".join(
        (
            "echo begun >> ~/begun; echo rank $SKYPILOT_NODE_RANK is at $(hostname -I)",
            "[ $SKYPILOT_INTERNAL_JOB_ID = 1 ] && exec sleep 1000",
            "echo rank $SKYPILOT_NODE_RANK begun $(wc -l < ~/begun) times, set up $(wc -l < ~/setups) times",
        )
    )
    resources = {"infra": where, "instance_type": kind, "use_spot": True}
    task = {"name": "spot", "num_nodes": 2, "resources": resources, "setup": "echo set >> ~/setups", "run": run}
    (sky.root / "spot.yaml").write_text(json.dumps(task))
    sky.good("jobs", "launch", "-y", "-d", "spot.yaml")
    eventually(lambda: job(sky)["status"] == "RUNNING", 120)
    number = job(sky)["job_id"]
    eventually(lambda: all(f"rank {rank} is at" in told(sky, number) for rank in range(2)), 60)
    (address,) = re.findall(r"rank 1 is at (\S+)", told(sky, number))
    (worker,) = [each["name"] for each in wire.hosts() if each["ip"] == address]
    wire.do("preempt", worker)
    eventually(lambda: job(sky)["schedule_state"] == "DONE", 240)
    why = sky.good("jobs", "queue", "--why", str(number)).stdout
    assert (job(sky)["status"], job(sky)["recovery_count"]) == ("SUCCEEDED", 1), why
    assert f"replacing 1 of 2 nodes (rank 1) on {where}" in why
    log = sky.good("jobs", "logs", str(number)).stdout
    assert "rank 0 begun 2 times, set up 1 times" in log
    assert "rank 1 begun 1 times, set up 1 times" in log
