"""Clusters inside of a real Slurm that gives nodes to others, loses them, and is asked for another number of them."""

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


def idle(bed, node):
    return bed.host("login").run(f"sinfo -h -n {node} -p batch -o %t").stdout.strip() == "idle"


def not_up(sky):
    return shown(sky)["status"] != "UP"


def told(sky, text):
    return text in sky.good("events", "c").stdout


@pytest.mark.slow
def test_an_idle_worker_that_dies_is_missed_before_slurm_does(home, bed, eventually):
    sky = home
    launch(sky, 2)
    assert shown(sky)["status"] == "UP"
    bed.do("kill", "n2")
    try:
        # Ten seconds are promised; what else this machine does is not.
        eventually(lambda: not_up(sky), 15)
        # In the story, since by now Slurm may have missed it as well.
        assert told(sky, "the agent of node 1")
        eventually(lambda: told(sky, "1 of 2 nodes run: rank 1: Slurm took n2 from the allocation: it failed"), 90)
    finally:
        bed.do("revive", "n2")
    sky.good("down", "-y", "c")
    eventually(lambda: idle(bed, "n2"), 60)


def test_a_worker_that_falls_silent_for_a_while_is_missed_and_found_again(home, bed, eventually):
    sky = home
    launch(sky, 2)
    worker = bed.host("n2")
    began = time.monotonic()
    worker.lab.partition(worker)
    try:
        eventually(lambda: not_up(sky), 40)
        print("MISSED", time.monotonic() - began)
    finally:
        worker.lab.heal(worker)
    eventually(lambda: shown(sky)["status"] == "UP", 60)
    assert jobs(bed) == ["RUNNING sky-c"]
    assert "again" in sky.good("exec", "c", "--num-nodes", "2", "echo again").stdout
    sky.good("down", "-y", "c")


def test_nodes_that_go_to_a_job_of_higher_priority(home, bed, eventually):
    sky = home
    launch(sky, 2)
    theirs = others(bed, "-p", "urgent", "-N", "2", "--exclusive")
    try:
        eventually(lambda: shown(sky) is None, 40)
        assert told(sky, "its machines are gone: Slurm gave its nodes to a job of higher priority (job ")
        assert told(sky, ": PREEMPTED")
    finally:
        bed.host("login").exec("scancel", theirs)
    # What Slurm takes back it would start again elsewhere, as nobody's.
    eventually(lambda: jobs(bed) == [], 30)
    launch(sky, 2)
    assert jobs(bed) == ["RUNNING sky-c"]
    sky.good("down", "-y", "c")
    assert sky.json("status") == []


def test_another_number_of_nodes_is_refused_before_anything_is_touched(home, bed):
    sky = home
    launch(sky, 2)
    before = sky.good("events", "c").stdout
    place = ("--infra", "slurm/bed/batch", "--cpus", "2")
    for count, how in (("1", "shrink"), ("3", "grow")):
        done = sky("launch", "-y", "-c", "c", "--resize", *place, "--num-nodes", count, "true")
        assert done.returncode == 1, done.stdout
        assert f"Cluster 'c' keeps its 2 nodes: an allocation of Slurm does not {how}" in done.stderr
    assert sky.good("events", "c").stdout == before
    assert "still" in sky.good("exec", "c", "--num-nodes", "2", "echo still").stdout
    sky.good("down", "-y", "c")


def test_why_a_launch_waits_is_told_while_it_does(home, bed, eventually):
    sky = home
    theirs = others(bed, "-p", "batch", "-N", "2", "--exclusive")
    eventually(lambda: jobs(bed) == ["RUNNING wrap"])
    place = ("--infra", "slurm/bed/batch", "--cpus", "2")
    process = sky.start("launch", "-y", "-c", "c", *place, "true")
    try:
        eventually(lambda: "waits: " in sky("logs", "--provision", "--no-follow", "c").stdout)
        talk = sky("logs", "--provision", "--no-follow", "c").stdout
        assert "waits: Resources: its turn has come" in talk or "waits: Priority: other jobs come first" in talk
    finally:
        bed.host("login").exec("scancel", theirs)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "waits: " in out + err
    sky.good("down", "-y", "c")
