"""Machines that are there already, as a user has them: a pool reached by SSH, and a Slurm cluster."""

import json
import re

import pytest


@pytest.fixture
def rack(sky, lab):
    """Two machines in a pool of the user's."""
    machines = lab.create(2)
    hosts = [{"ip": each.ip, "user": each.user, "identity_file": each.key} for each in machines]
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": hosts}}))
    return machines


def left(host):
    """What a machine still has of ours."""
    return host.exec(
        "sh", "-c", f"ls /home/{host.user}/.sky/nodes 2>/dev/null; grep -lz ^SKY_NODE_ID= /proc/[0-9]*/environ"
    ).stdout.split()


def test_a_pool_from_a_look_to_the_end(sky, rack):
    done = sky.good("ssh", "up")
    assert "rack" in done.stdout and done.stdout.count(" up ") == 2
    assert "2 of 2 machines answer" in sky.good("check", "ssh").stdout
    say = 'echo rank $SKYPILOT_NODE_RANK on $(hostname) in $(basename "$HOME")'
    done = sky.good("launch", "-y", "-c", "pair", "--infra", "ssh/rack", "--cpus", "0.5", "--num-nodes", "2", say)
    assert "rank 0 on h" in done.stdout and "rank 1 on h" in done.stdout
    # A second cluster finds room beside the first.
    done = sky.good("launch", "-y", "-c", "one", "--infra", "ssh/rack", "--cpus", "0.5", "pwd; echo $SKYPILOT_NODE_IPS")
    assert "/.sky/nodes/" in done.stdout
    holders = {each["machine"]: each["holders"] for each in sky.json("ssh", "up")}
    assert sorted(len(each) for each in holders.values()) == [1, 2]
    assert "again" in sky.good("exec", "pair", "echo again").stdout
    refused = sky("ssh", "down")
    assert refused.returncode == 1 and "one, pair" in refused.stderr
    refused = sky("launch", "-y", "-c", "three", "--infra", "ssh/rack", "--num-nodes", "3", "true")
    assert refused.returncode == 1 and "each node of a cluster is on a machine of its own" in refused.stderr
    sky.good("down", "-y", "one", "pair")
    assert [left(host) for host in rack] == [[], []]
    assert "Forgotten: rack" in sky.good("ssh", "down").stdout


def test_what_runs_in_a_pool_outlives_the_record_of_it(sky, rack, eventually):
    """The server ends, its record of who has what is lost, and another server starts: nobody's job is ended."""
    one, two = rack
    smi = 'for n in 0 1; do echo "$n, 81559, NVIDIA H100 80GB HBM3"; done'
    one.exec("sh", "-c", f"printf '%s\n' '#!/bin/sh' '{smi}' >/usr/bin/nvidia-smi && chmod 755 /usr/bin/nvidia-smi")
    two.exec("rm", "-f", "/usr/bin/nvidia-smi")
    say = "echo begun; until [ -f ~/enough ]; do sleep 0.1; done; echo through"
    sky.good("launch", "-y", "-d", "-c", "long", "--infra", "ssh/rack", "--gpus", "H100:1", "--cpus", "0.5", say)
    eventually(lambda: [each["status"] for each in sky.json("queue", "long")] == ["RUNNING"])
    sky.good("api", "stop")
    (sky.state / "ssh" / "slots.json").unlink()
    assert [each["status"] for each in sky.json("status", "--refresh")] == ["UP"]
    told = sky.good("check", "ssh").stdout
    assert "1/2 H100" in told and "in use by cluster long" in told
    refused = sky("launch", "-y", "-c", "more", "--infra", "ssh/rack", "--gpus", "H100:2", "true")
    assert refused.returncode == 1 and "H100" in refused.stderr
    beside = sky.good(
        "launch", "-y", "-c", "beside", "--infra", "ssh/rack", "--gpus", "H100:1", "--cpus", "0.5",
        "echo on device $CUDA_VISIBLE_DEVICES; echo homes: $(ls ~/..)",
    )  # fmt: skip
    assert "on device 1" in beside.stdout
    assert len(re.findall(r"homes: \S+ \S+", beside.stdout)) == 1, beside.stdout
    assert [each["status"] for each in sky.json("queue", "long")] == ["RUNNING"], "and it goes on"
    one.run("for node in ~/.sky/nodes/*; do touch $node/enough; done")
    assert "through" in sky.good("logs", "long").stdout
    sky.good("down", "-y", "long", "beside")
    assert [left(host) for host in rack] == [[], []]


def test_a_pool_that_is_named_and_not_there_says_why(sky):
    done = sky("launch", "-y", "--infra", "ssh/rack", "true")
    assert done.returncode == 1 and "no ~/.sky/ssh_node_pools.yaml" in done.stderr
    done = sky("ssh", "up", "--infra", "aws/us-east-1")
    assert done.returncode == 1 and "allowed: a pool" in done.stderr
    file = sky.root / "pools.yaml"
    file.write_text("rack:\n  hots: [a]\n  password: swordfish-73\n")
    done = sky("ssh", "up", "--file", str(file))
    assert done.returncode == 1 and ":2:3" in done.stderr and "did you mean 'hosts'" in done.stderr
    everything = b"".join(path.read_bytes() for path in sky.state.rglob("*") if path.is_file())
    assert b"swordfish" not in everything


def test_slurm_from_a_look_to_the_end(sky, slurm_bed, eventually):
    login = slurm_bed.host("login")
    (sky.root / ".slurm").mkdir()
    (sky.root / ".slurm" / "config").write_text(
        f"Host bed\n  HostName {login.ip}\n  User {login.user}\n  IdentityFile {login.key}\n"
    )
    assert "nodes of 16cpu-62gb-h100x8" in sky.good("check", "slurm").stdout
    say = "echo rank $SKYPILOT_NODE_RANK on $(hostname) with $CUDA_VISIBLE_DEVICES"
    where = ("--infra", "slurm/bed/batch", "--gpus", "H100:4")
    done = sky.good("launch", "-y", "-c", "pair", *where, "--num-nodes", "2", say)
    assert "rank 0 on n1 with 0,1,2,3" in done.stdout and "rank 1 on n2 with 0,1,2,3" in done.stdout
    assert login.run("squeue -h -o '%j %T %D'").stdout == "sky-pair RUNNING 2\n"
    done = sky.good("exec", "pair", "--num-nodes", "1", "srun -N2 hostname | sort")
    assert "n1" in done.stdout and "n2" in done.stdout
    assert [each["status"] for each in sky.json("queue", "pair")] == ["SUCCEEDED", "SUCCEEDED"]
    refused = sky("launch", "-y", "-c", "never", "--infra", "slurm/bed/debug", "--num-nodes", "2", "true")
    assert refused.returncode == 1 and "PartitionNodeLimit" in refused.stderr
    sky.good("down", "-y", "pair")
    # A node that is slow to give itself back is not waited for.
    eventually(lambda: login.run("squeue -h").stdout == "")
    assert login.run("ls .sky/nodes 2>/dev/null || true").stdout == ""
    assert left(slurm_bed.host("n1")) == []
