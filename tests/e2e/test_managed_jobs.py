"""Managed jobs on this machine, through the real command: real nodes, real processes, real losses."""

import contextlib
import json
import os
import re
import signal
import time

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
    follower = sky.start("jobs", "logs", str(number))
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
