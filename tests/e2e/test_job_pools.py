"""Pools of workers on this machine, through the real command: real nodes, real processes, real losses."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SETUP = "echo set up; echo $RANDOM$RANDOM > ~/mark"


def queue(sky):
    return {job["job_id"]: job for job in sky.json("jobs", "queue", "-a")}


def pool(sky, name="p"):
    (found,) = sky.json("jobs", "pool", "status", name)
    return found


def workers(sky, name="p"):
    return {each["replica_id"]: each for each in pool(sky, name)["replica_info"]}


def statuses(sky, name="p"):
    return [each["status"] for each in workers(sky, name).values()]


def apply(sky, *words, name="p", **config):
    task = {"name": name, "resources": {"infra": "local", "cpus": 1}, "setup": SETUP, **config}
    (sky.root / "pool.yaml").write_text(json.dumps(task))
    return sky.good("jobs", "pool", "apply", "pool.yaml", "-y", *words)


def submit(sky, *words, name="p"):
    done = sky.good("jobs", "launch", "-y", "-d", "-p", name, *words)
    return [int(each) for each in re.search(r"Managed Job ID: ([\d, ]+)", done.stdout)[1].split(",")]


def ready(sky, count, name="p"):
    return statuses(sky, name) == ["READY"] * count


def over(sky, *numbers):
    found = queue(sky)
    return all(found[number]["schedule_state"] == "DONE" for number in numbers)


def nothing_left(sky):
    return not sky.node_processes() and sky.json("status") == [] and sky.json("jobs", "pool", "status") == []


def kill_worker(sky, cluster_id):
    """What a power cut of a machine does."""
    assert sky.cut_power(lambda pid, command: cluster_id in command or cluster_id in _cwd(pid))


def _cwd(pid):
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


def test_jobs_take_workers_that_were_set_up_once(sky, eventually):
    (sky.root / "wd").mkdir()
    (sky.root / "wd" / "hello").write_text("hello from the pool's own folder\n")
    apply(sky, pool={"workers": 2}, workdir="wd")
    eventually(lambda: ready(sky, 2))
    told = pool(sky)
    assert (told["status"], told["version"], told["ready_workers"], told["target_workers"]) == ("READY", 1, 2, 2)
    ran = sky.root / "ran"
    script = f"echo $SKYPILOT_JOB_RANK/$SKYPILOT_NUM_JOBS $(cat ~/mark) begun >> {ran}; sleep 0.5; cat hello"
    numbers = submit(sky, "--num-jobs", "5", script)
    assert numbers == [1, 2, 3, 4, 5]
    eventually(lambda: over(sky, *numbers))
    found = queue(sky)
    assert {job["status"] for job in found.values()} == {"SUCCEEDED"}
    assert {job["pool"] for job in found.values()} == {"p"}
    assert {job["current_cluster_name"] for job in found.values()} <= {"p-1", "p-2"}
    lines = [line.split() for line in ran.read_text().splitlines()]
    assert sorted(line[0] for line in lines) == [f"{rank}/5" for rank in range(5)]
    assert len({line[1] for line in lines}) <= 2, "each worker was set up once"
    assert "the pool's own folder" in sky.good("jobs", "logs", "3").stdout
    assert "set up" in sky.good("jobs", "pool", "logs", "p", "1", "--no-follow").stdout
    assert "worker 2 is ready" in sky.good("jobs", "pool", "logs", "p", "--controller", "--no-follow").stdout
    assert sky.json("status") == [], "workers are not shown among clusters"
    refused = sky("down", "p-1", "-y")
    assert refused.returncode == 1
    assert "worker of a pool" in refused.stderr
    held = submit(sky, "-n", "held", "sleep 600")
    told = sky.good("status").stdout
    assert told.startswith("Clusters\nNo existing clusters.\n\nManaged jobs\nID ")
    jobs, _, pools = told.partition("\n\nPools\n")
    assert [line.split()[0] for line in jobs.splitlines()[5:]] == [str(number) for number in held], (
        "ended ones are left out"
    )
    assert pools.splitlines()[1].split()[0] == "p" and pools.splitlines()[1].endswith("2/2")
    assert sky.good("status", "--no-show-managed-jobs", "--no-show-pools").stdout == "Clusters\nNo existing clusters.\n"
    assert "Managed jobs" not in sky("status", "nobody").stdout
    sky.good("jobs", "cancel", "-a", "-y")
    eventually(lambda: over(sky, *held))
    sky.good("jobs", "pool", "down", "p", "-y")
    eventually(lambda: nothing_left(sky))


def test_a_worker_that_dies_is_replaced_and_its_job_goes_on_elsewhere(sky, eventually):
    apply(sky, pool={"workers": 2})
    eventually(lambda: ready(sky, 2))
    (number,) = submit(sky, f"echo home=$HOME; while [ ! -e {sky.root}/go ]; do sleep 0.1; done")
    eventually(lambda: "home=/" in sky("jobs", "logs", str(number), "--no-follow").stdout)
    (used,) = [each for each in workers(sky).values() if each["used_by"] == number]
    home = Path(re.search(r"home=(\S+)", sky("jobs", "logs", str(number), "--no-follow").stdout)[1])
    kill_worker(sky, home.parent.parent.name)
    eventually(lambda: queue(sky)[number]["recovery_count"] == 1, 60)
    (sky.root / "go").touch()
    eventually(lambda: over(sky, number), 60)
    job = queue(sky)[number]
    assert (job["status"], job["recovery_count"]) == ("SUCCEEDED", 1)
    assert job["current_cluster_name"] != used["name"]
    eventually(lambda: ready(sky, 2), 60)
    assert used["replica_id"] not in workers(sky)
    sky.good("jobs", "pool", "down", "p", "-y")
    eventually(lambda: nothing_left(sky))


def test_the_server_is_killed_in_the_middle(sky, eventually):
    apply(sky, pool={"workers": 2})
    ran = sky.root / "ran"
    numbers = submit(sky, "--num-jobs", "6", f"echo $SKYPILOT_JOB_RANK >> {ran}; sleep 1")
    for _ in range(3):
        eventually(lambda: sky.server_pid() is not None)
        with contextlib.suppress(ProcessLookupError):
            os.kill(sky.server_pid(), signal.SIGKILL)
        eventually(lambda: len(queue(sky)) == 6)
    eventually(lambda: over(sky, *numbers), 90)
    assert {job["status"] for job in queue(sky).values()} == {"SUCCEEDED"}
    assert sorted(ran.read_text().split()) == ["0", "1", "2", "3", "4", "5"], "each ran once"
    eventually(lambda: ready(sky, 2))
    os.kill(sky.server_pid(), signal.SIGKILL)
    sky.good("jobs", "pool", "down", "p", "-y")
    eventually(lambda: nothing_left(sky))


@pytest.mark.parametrize("mode", ["rolling", "blue_green"])
def test_an_update_replaces_workers_and_lets_jobs_end(sky, eventually, mode):
    apply(sky, pool={"workers": 2})
    eventually(lambda: ready(sky, 2))
    (number,) = submit(sky, f"while [ ! -e {sky.root}/go ]; do sleep 0.1; done; echo ended")
    eventually(lambda: queue(sky)[number]["status"] == "RUNNING")
    apply(sky, "--mode", mode, pool={"workers": 2}, setup="echo another; touch ~/new")
    assert pool(sky)["version"] == 2

    def replaced():
        found = workers(sky).values()
        new = [each for each in found if each["version"] == 2 and each["status"] == "READY"]
        old = [(each["status"], each["used_by"]) for each in found if each["version"] == 1]
        return len(new) == 2 and old == [("SHUTTING_DOWN", number)]

    eventually(replaced, 60)
    (later,) = submit(sky, "ls ~/new")
    eventually(lambda: over(sky, later))
    assert queue(sky)[later]["status"] == "SUCCEEDED"
    (sky.root / "go").touch()
    eventually(lambda: ready(sky, 2))
    assert queue(sky)[number]["status"] == "SUCCEEDED"
    # Only another number: the workers stay, and one more comes.
    before = set(workers(sky))
    sky.good("jobs", "pool", "apply", "-p", "p", "--workers", "3", "-y")
    eventually(lambda: ready(sky, 3))
    assert before < set(workers(sky))
    assert pool(sky)["version"] == 3
    sky.good("jobs", "pool", "down", "-a", "-y")
    eventually(lambda: nothing_left(sky))


def test_the_size_follows_the_queue(sky, eventually):
    apply(
        sky,
        pool={
            "min_workers": 0,
            "max_workers": 2,
            "queue_length_threshold": 1,
            "upscale_delay_seconds": 0,
            "downscale_delay_seconds": 1,
        },
    )
    eventually(lambda: pool(sky)["status"] == "NO_REPLICA")
    numbers = submit(sky, "--num-jobs", "4", f"while [ ! -e {sky.root}/go ]; do sleep 0.1; done")
    eventually(lambda: len(workers(sky)) == 2 and ready(sky, 2), 60)
    (sky.root / "go").touch()
    eventually(lambda: over(sky, *numbers), 60)
    eventually(lambda: workers(sky) == {}, 60)
    told = pool(sky)
    assert (told["target_workers"], told["status"]) == (0, "NO_REPLICA")
    sky.good("jobs", "pool", "down", "p", "-y")
    eventually(lambda: nothing_left(sky))


def test_a_pool_with_jobs_stays_unless_they_are_to_end_too(sky, eventually):
    apply(sky, pool={"workers": 1})
    numbers = submit(sky, "--num-jobs", "2", "echo begun; sleep 1000")
    eventually(lambda: queue(sky)[numbers[0]]["status"] == "RUNNING")
    why = sky.good("jobs", "queue", "--why", str(numbers[1])).stdout
    assert "all 1 of 1 workers of the pool p are taken" in why
    refused = sky("jobs", "pool", "down", "p", "-y")
    assert refused.returncode == 1
    assert "2 managed jobs that have not ended: 2, 1" in refused.stderr
    sky.good("jobs", "cancel", str(numbers[0]), "-y")
    eventually(lambda: over(sky, numbers[0]))
    assert queue(sky)[numbers[0]]["status"] == "CANCELLED"
    eventually(lambda: queue(sky)[numbers[1]]["status"] == "RUNNING")
    assert not [line for line in sky.node_processes().values() if "sleep 1000" in line][1:], "one of them runs"
    sky.good("jobs", "pool", "down", "p", "-y", "-p")
    eventually(lambda: queue(sky)[numbers[1]]["status"].startswith(("CANCELLED", "FAILED")))
    eventually(lambda: nothing_left(sky))
    assert sky("jobs", "launch", "-y", "-d", "-p", "p", "true").returncode == 1


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"resources": {"infra": "local", "cpus": "4096+"}}, "do not fit the task"),
        ({"num_nodes": 2}, "asks for 2 nodes"),
        ({"setup": "true"}, "cannot have setup"),
        ({"workdir": "."}, "cannot have workdir"),
        ({"resources": {"job_recovery": {"keep_on_failure": True}}}, "keep_on_failure"),
    ],
)
def test_jobs_that_do_not_fit_a_worker_are_refused(pool_of_one, task, words):
    sky = pool_of_one
    (sky.root / "job.yaml").write_text(json.dumps({"run": "true", **task}))
    done = sky("jobs", "launch", "-y", "-d", "-p", "p", "job.yaml")
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    assert queue(sky) == {}


@pytest.fixture(scope="module")
def pool_of_one(shared_sky):
    apply(shared_sky, pool={"workers": 1})
    yield shared_sky
    shared_sky("jobs", "pool", "down", "-a", "-p", "-y")


def test_a_setup_that_fails_is_not_tried_for_ever(sky, eventually):
    apply(sky, pool={"workers": 1}, setup="echo no good; exit 3")
    eventually(lambda: "exit code 3" in (pool(sky)["reason"] or ""), 60)
    apply(sky, pool={"workers": 1}, setup="echo better")
    eventually(lambda: ready(sky, 1), 60)
    assert pool(sky)["version"] == 2
    sky.good("jobs", "pool", "down", "p", "-y")
    eventually(lambda: nothing_left(sky))
