"""Clusters inside of a real Slurm that gives nodes to others, loses them, and is asked for another number of them."""

import json
import time

import pytest

pytestmark = pytest.mark.e2e


#: The partition `urgent` takes nodes from the jobs of `batch`, and Slurm would start those again.
SLURM = ("--preempt", "requeue")


@pytest.fixture
def bed(slurm_bed):
    return slurm_bed


@pytest.fixture
def home(sky, bed):
    """A user's home with that cluster in it."""
    login = bed.host("login")
    (sky.root / ".slurm").mkdir()
    host = f"Host bed\n  HostName {login.ip}\n  User {login.user}\n  IdentityFile {login.key}\n"
    (sky.root / ".slurm" / "config").write_text(host)
    return sky


def launch(sky, nodes, *words, name="c"):
    place = ("--infra", "slurm/bed/batch", "--cpus", "2", "--num-nodes", str(nodes))
    return sky.good("launch", "-y", "-c", name, *place, *words, "true")


def shown(sky, name="c"):
    """The cluster as `sky status` has it, None if it has none."""
    return next((each for each in sky.json("status") if each["name"] == name), None)


def jobs(bed):
    return bed.host("login").run("squeue -h -o '%T %j'").stdout.splitlines()


def others(bed, *options):
    """A job of somebody else's; its number."""
    done = bed.host("login").exec("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", "sleep 600")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_idle_worker_that_dies_is_missed_before_slurm_does(home, bed, eventually):
    sky = home
    launch(sky, 2)
    assert shown(sky)["status"] == "UP"
    began = time.monotonic()
    bed.do("kill", "n2")
    try:
        eventually(lambda: shown(sky)["status"] != "UP", 15)
        print("missed after %.1f s" % (time.monotonic() - began))
        print(shown(sky))
        eventually(lambda: "Slurm took n2 from the allocation" in sky.good("events", "c").stdout, 90)
        print(sky.good("events", "c").stdout)
    finally:
        bed.do("revive", "n2")
    sky.good("down", "-y", "c")
    idle = bed.host("login")
    eventually(lambda: idle.run("sinfo -h -n n2 -p batch -o %t").stdout.strip() == "idle", 60)


def test_nodes_that_go_to_a_job_of_higher_priority(home, bed, eventually):
    sky = home
    launch(sky, 2)
    theirs = others(bed, "-p", "urgent", "-N", "2", "--exclusive")
    try:
        eventually(lambda: shown(sky) is None, 40)
        print(sky.good("events", "c").stdout)
    finally:
        bed.host("login").exec("scancel", theirs)
    eventually(lambda: jobs(bed) == [], 30)
    launch(sky, 2)
    assert jobs(bed) == ["RUNNING sky-c"]
    sky.good("down", "-y", "c")
    assert json.loads(sky.good("status", "-o", "json").stdout) == []
