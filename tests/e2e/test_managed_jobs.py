"""Managed jobs on this machine, through the real command: real nodes, real processes, real losses."""

import contextlib
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def queue(sky):
    return {job["job_id"]: job for job in sky.json("jobs", "queue", "-a")}


def job(sky, number=1):
    return queue(sky)[number]


def status(sky, number=1):
    return job(sky, number)["status"]


def submit(sky, *words):
    done = sky.good("jobs", "launch", "-y", "-d", "--infra", "local", *words)
    return int(re.search(r"Managed Job ID: (\d+)", done.stdout)[1])


def kill_nodes(sky, only=""):
    """What a power cut of machines does: keepers, agents and jobs of the nodes are gone at once."""
    for pid, command in sky.node_processes().items():
        if only in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def nothing_left(sky):
    return not sky.node_processes() and sky.json("status") == []


def done(sky, number=1):
    return job(sky, number)["schedule_state"] == "DONE"


def test_a_job_that_succeeds(sky, eventually):
    ran = sky.good("jobs", "launch", "-y", "-n", "good", "--infra", "local", "echo hi; echo $SKYPILOT_MANAGED_JOB_ID")
    assert "Managed Job ID: 1\n" in ran.stdout
    assert re.search(r"\(good, pid=\d+\) hi\n\(good, pid=\d+\) 1\n", ran.stdout)
    assert ran.stdout.endswith("Managed job finished (status: SUCCEEDED).\n")
    eventually(lambda: done(sky))
    told = job(sky)
    assert (told["status"], told["recovery_count"], told["infra"]) == ("SUCCEEDED", 0, "local")
    assert told["current_cluster_name"] == "good-1"
    eventually(lambda: nothing_left(sky))
    assert "hi\n" in sky.good("jobs", "logs", "1").stdout, "the log outlives the cluster"


def test_a_job_whose_code_fails(sky, eventually):
    ran = sky("jobs", "launch", "-y", "--infra", "local", "echo before; exit 3")
    assert ran.returncode == 100
    assert "Managed job finished (status: FAILED)." in ran.stdout
    eventually(lambda: done(sky))
    told = job(sky)
    assert (told["exit_codes"], told["recovery_count"]) == ([3], 0)
    assert "exit code 3" in told["failure_reason"]
    assert sky("jobs", "logs", "--no-follow").returncode == 100
    eventually(lambda: nothing_left(sky))


def test_restarts_after_errors_are_counted(sky, eventually):
    (sky.root / "t.yaml").write_text(
        json.dumps(
            {
                "name": "often",
                "resources": {
                    "infra": "local",
                    "job_recovery": {"max_restarts_on_errors": 1, "recover_on_exit_codes": 7},
                },
                "run": f"echo x >> {sky.root}/ran; n=$(wc -l < {sky.root}/ran); [ $n -lt 3 ] && exit 7; exit 5",
            }
        )
    )
    assert sky("jobs", "launch", "-y", "t.yaml").returncode == 100
    told = job(sky)
    # Twice for its exit code, which costs nothing, then once as allowed.
    assert (told["recovery_count"], told["restarts_on_errors"], told["exit_codes"]) == (3, 1, [5])
    assert (sky.root / "ran").read_text().count("x") == 4


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_whose_machines_are_lost_recovers(sky, eventually, nodes):
    once = f"test -e {sky.root}/again && echo second && exit 0; echo first; sleep 1000"
    number = submit(sky, "-n", "spot", "--num-nodes", str(nodes), once)
    eventually(lambda: status(sky) == "RUNNING")
    eventually(lambda: "first" in sky("jobs", "logs", "1", "--no-follow").stdout)
    follower, decisions = sky.start("jobs", "logs", str(number)), sky.start("jobs", "logs", "--controller", str(number))
    assert decisions.stdout is not None and "submitted" in decisions.stdout.readline()
    (sky.root / "again").touch()
    begun = time.monotonic()
    kill_nodes(sky)
    eventually(lambda: status(sky) in ("RECOVERING", "SUCCEEDED"))
    noticed = time.monotonic() - begun
    eventually(lambda: done(sky))
    told = job(sky)
    assert (told["status"], told["recovery_count"]) == ("SUCCEEDED", 1)
    assert noticed < 30
    out, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert "first" in out
    assert "second" in out
    decided, _ = decisions.communicate(timeout=30)
    assert decisions.returncode == 0
    assert "lost" in decided, "what is decided later is told as it comes"
    eventually(lambda: nothing_left(sky))


def test_the_server_is_killed_in_the_middle(sky, eventually):
    submit(sky, f"echo begun; while [ ! -e {sky.root}/go ]; do sleep 0.1; done; echo x >> {sky.root}/ran; echo ended")
    eventually(lambda: status(sky) == "RUNNING")
    os.kill(sky.server_pid(), signal.SIGKILL)
    (sky.root / "go").touch()
    followed = sky.good("jobs", "logs", "1")
    assert "ended" in followed.stdout
    eventually(lambda: done(sky))
    assert (status(sky), job(sky)["recovery_count"]) == ("SUCCEEDED", 0)
    assert (sky.root / "ran").read_text() == "x\n"
    eventually(lambda: nothing_left(sky))


@pytest.mark.parametrize("pause", [0.0, 0.3, 2.0])
def test_cancelled_jobs_leave_nothing(sky, eventually, pause):
    submit(sky, "echo begun; sleep 1000")
    time.sleep(pause)  # a moment of its life, not a wait for anything
    sky.good("jobs", "cancel", "1", "-y")
    eventually(lambda: done(sky))
    assert status(sky) == "CANCELLED"
    assert sky("jobs", "logs", "1").returncode == 103
    eventually(lambda: nothing_left(sky))


@pytest.mark.parametrize("seed", range(2))
def test_the_server_is_killed_again_and_again_with_jobs_in_every_state(sky, eventually, seed):
    """Each job runs once, none is lost, and nothing is left."""
    rng = random.Random(seed)
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "config.yaml").write_text(json.dumps({"jobs": {"running_at_once": 3}}))
    ran = sky.root / "ran"
    script = f"echo $SKYPILOT_JOB_RANK begun >> {ran}; sleep 0.7; echo $SKYPILOT_JOB_RANK ended >> {ran}"
    sky.good("jobs", "launch", "-y", "-d", "-n", "many", "--infra", "local", "--num-jobs", "6", script)
    cancelled = submit(sky, "-n", "long", "sleep 1000")
    for kill in range(4):
        time.sleep(rng.uniform(0.1, 1.5))  # a moment of their lives, not a wait for anything
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(sky.server_pid(), signal.SIGKILL)
        if kill == 1:
            sky.good("jobs", "cancel", "-y", str(cancelled))
    eventually(lambda: all(each["schedule_state"] == "DONE" for each in queue(sky).values()), 90)
    told = queue(sky)
    assert {number: each["status"] for number, each in told.items()} == {
        **dict.fromkeys(range(1, 7), "SUCCEEDED"),
        cancelled: "CANCELLED",
    }
    assert sum(each["recovery_count"] for each in told.values()) == 0
    assert sorted(ran.read_text().splitlines()) == sorted(
        f"{rank} {word}" for rank in range(6) for word in ("begun", "ended")
    )
    eventually(lambda: nothing_left(sky))


def test_a_pipeline_from_a_file_and_listings(sky, eventually):
    (sky.root / "p.yaml").write_text(
        "name: line\n---\nname: a\nresources: {infra: local}\nrun: echo one\n---\nname: b\n"
        "resources: {infra: local}\nrun: echo two\n"
    )
    ran = sky.good("jobs", "launch", "-y", "p.yaml")
    assert re.search(r"\(a, pid=\d+\) one\n(.*\n)*\(b, pid=\d+\) two\n", ran.stdout)
    shown = sky.good("jobs", "queue", "-v").stdout
    assert re.search(r"1 +- +line +2 tasks .*SUCCEEDED", shown)
    assert re.search(r"└ 1 +0 +a ", shown)
    assert "two" not in sky.good("jobs", "logs", "1", "a").stdout
    eventually(lambda: all(each["schedule_state"] == "DONE" for each in sky.json("jobs", "queue", "-a")))
    why = sky.good("jobs", "queue", "--why", "1").stdout
    assert "looking for a place" in why
    assert sky.good("events", "1").stdout in why
    assert sky("jobs", "logs", "99").returncode == 102
    assert sky("jobs", "cancel", "-y", "99").returncode == 1
    paths = sky.json("jobs", "logs", "1", "--sync-down")
    assert "one" in Path(paths["1"], "run.log").read_text()
    assert sky.json("jobs", "queue", "--status", "FAILED") == []
    assert len(sky.json("jobs", "queue", "--since", "1h", "--infra", "loc")) == 2
