"""kill -9 of the server and of agents at random moments: nothing is lost, doubled or orphaned.

Moments are drawn from a seed that the test's name shows, so that a failure can be tried again.
"""

import contextlib
import os
import random
import signal
import time

import pytest

pytestmark = pytest.mark.e2e

SCRIPT = "echo ran >> ~/ran; sleep 0.4; echo ended >> ~/ran"


def kill_server_within(sky, rng, seconds):
    """Kill the server at a random moment of the next `seconds`, if there is one by then."""
    time.sleep(rng.uniform(0, seconds))
    pid = sky.server_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_agents(sky, rng, seconds):
    """Kill every agent, but not the loops that bring them back, at a random moment."""
    time.sleep(rng.uniform(0, seconds))
    for pid, command in sky.node_processes().items():
        if "agent-" in command and "respawn" not in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def lines(sky, number=0):
    file = sky.node_homes()[number] / "ran"
    return file.read_text().split() if file.exists() else []


def jobs(sky, cluster="c"):
    return [(job["job_id"], job["status"]) for job in sky.json("queue", cluster)[::-1]]


def statuses(sky):
    return [(each["name"], each["status"]) for each in sky.json("status")]


@pytest.mark.parametrize("seed", range(4))
def test_server_killed_during_launch(sky, seed):
    rng = random.Random(seed)
    sky.good("api", "start")
    launch = sky.start("launch", "-y", "-c", "c", SCRIPT)
    kill_server_within(sky, rng, 1.2)
    out, err = launch.communicate(timeout=60)
    assert launch.returncode == 0, out + err
    assert statuses(sky) == [("c", "UP")]
    assert jobs(sky) == [(1, "SUCCEEDED")]
    assert lines(sky) == ["ran", "ended"]
    assert len(sky.node_homes()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_server_killed_during_exec(sky, seed):
    rng = random.Random(100 + seed)
    sky.good("launch", "-y", "-c", "c")
    execute = sky.start("exec", "c", SCRIPT)
    kill_server_within(sky, rng, 0.8)
    out, err = execute.communicate(timeout=60)
    assert execute.returncode == 0, out + err
    assert [status for _, status in jobs(sky)] == ["SUCCEEDED"]
    assert lines(sky) == ["ran", "ended"]


@pytest.mark.parametrize("seed", range(3))
def test_server_killed_during_stop_and_down(sky, seed):
    rng = random.Random(200 + seed)
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "echo kept > ~/kept")
    stop = sky.start("stop", "-y", "c")
    kill_server_within(sky, rng, 0.5)
    assert stop.wait(60) == 0, stop.communicate()
    assert statuses(sky) == [("c", "STOPPED")]
    assert not sky.node_processes()
    assert [(home / "kept").read_text() for home in sky.node_homes()] == ["kept\n", "kept\n"]
    down = sky.start("down", "-y", "c")
    kill_server_within(sky, rng, 0.5)
    assert down.wait(60) == 0, down.communicate()
    assert statuses(sky) == []
    assert sky.node_homes() == []
    for process in (stop, down):
        process.stdout.close()
        process.stderr.close()


def test_a_running_job_goes_on_without_a_server(sky, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "sleep 1; echo ended >> ~/ran")
    os.kill(sky.server_pid(), signal.SIGKILL)
    eventually(lambda: lines(sky) == ["ended"])
    assert jobs(sky) == [(1, "SUCCEEDED")]


@pytest.mark.parametrize("seed", range(3))
def test_agents_killed_during_a_job(sky, seed):
    rng = random.Random(300 + seed)
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2")
    execute = sky.start("exec", "c", "--num-nodes", "2", SCRIPT)
    kill_agents(sky, rng, 0.8)
    out, err = execute.communicate(timeout=60)
    assert execute.returncode == 0, out + err
    assert [status for _, status in jobs(sky)] == ["SUCCEEDED"]
    assert [lines(sky, 0), lines(sky, 1)] == [["ran", "ended"]] * 2


def test_agents_killed_during_launch_and_stop(sky):
    rng = random.Random(400)
    launch = sky.start("launch", "-y", "-c", "c", SCRIPT)
    kill_agents(sky, rng, 1.5)
    out, err = launch.communicate(timeout=60)
    assert launch.returncode == 0, out + err
    assert lines(sky) == ["ran", "ended"]
    stop = sky.start("stop", "-y", "c")
    kill_agents(sky, rng, 0.3)
    out, err = stop.communicate(timeout=60)
    assert stop.returncode == 0, out + err
    assert statuses(sky) == [("c", "STOPPED")]
    assert not sky.node_processes()


def test_server_and_agents_killed_together(sky):
    launch = sky.start("launch", "-y", "-c", "c", SCRIPT)
    rng = random.Random(500)
    kill_server_within(sky, rng, 1.0)
    kill_agents(sky, rng, 0.1)
    out, err = launch.communicate(timeout=60)
    assert launch.returncode == 0, out + err
    assert jobs(sky) == [(1, "SUCCEEDED")]
    assert lines(sky) == ["ran", "ended"]
