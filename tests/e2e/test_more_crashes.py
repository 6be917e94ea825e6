"""kill -9 where `test_crashes.py` does not go: during start, cancel, autostop and down, and of nodes that go away.

Moments are drawn from a seed that the test's name shows, so that a failure can be tried again.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_server_within(sky, rng, seconds):
    time.sleep(rng.uniform(0, seconds))
    pid = sky.server_pid()
    if pid is not None:
        kill(pid)


def python(sky, program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=sky.env, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(process):
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == 0, out + err


def statuses(sky):
    return {row["name"]: row["status"] for row in sky.json("status")}


@pytest.mark.parametrize("seed", range(2))
def test_server_killed_during_start(sky, seed):
    rng = random.Random(600 + seed)
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "echo kept > ~/kept")
    sky.good("stop", "-y", "c")
    start = sky.start("start", "-y", "c")
    kill_server_within(sky, rng, 0.6)
    ended(start)
    assert statuses(sky) == {"c": "UP"}
    assert sky.good("exec", "c", "--num-nodes", "2", "cat ~/kept").stdout.count("kept") == 2


@pytest.mark.parametrize("seed", range(2))
def test_server_killed_during_cancel(sky, eventually, seed):
    rng = random.Random(700 + seed)
    sky.good("launch", "-y", "-d", "-c", "c", "--num-nodes", "2", "sleep 633")
    eventually(lambda: sky.json("queue", "c")[0]["status"] == "RUNNING")
    cancel = sky.start("cancel", "-y", "c", "1")
    kill_server_within(sky, rng, 0.4)
    ended(cancel)
    eventually(lambda: sky.json("queue", "c")[0]["status"] == "CANCELLED")
    assert not [command for command in sky.node_processes().values() if "sleep 633" in command]


def test_a_cluster_stops_itself_without_a_server_and_that_is_seen(sky, eventually):
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "echo kept > ~/kept")
    sky.good("exec", "-d", "c", "until [ -e ~/go ]; do sleep 0.05; done")
    sky.good("autostop", "-y", "-i", "0", "--wait-for", "jobs", "c")
    kill(sky.server_pid())
    head, worker = sky.node_homes()
    (head / "go").touch()
    eventually((head / ".sky" / "agent" / "stopped.json").exists)  # nobody else is there to have done it
    eventually(lambda: statuses(sky) == {"c": "STOPPED"})
    assert (worker / "kept").read_text() == "kept\n"
    sky.good("start", "-y", "c")
    assert sky.good("exec", "c", "--num-nodes", "2", "cat ~/kept").stdout.count("kept") == 2


def test_a_cluster_that_stopped_itself_leaves_no_process(sky, eventually):
    sky.good("launch", "-y", "-c", "c", "-i", "0", "--infra", "local", "true")
    eventually(lambda: statuses(sky) == {"c": "STOPPED"})
    eventually(lambda: sky.node_processes() == {})


@pytest.mark.parametrize("seed", range(3))
def test_agents_and_server_killed_during_down(sky, seed):
    rng = random.Random(800 + seed)
    sky.good("launch", "-y", "-d", "-c", "c", "--num-nodes", "3", "sleep 644")
    down = sky.start("down", "-y", "c")
    time.sleep(rng.uniform(0, 0.4))
    for pid, command in sky.node_processes().items():
        if "agent-" in command and "respawn" not in command:
            kill(pid)
    kill_server_within(sky, rng, 0.2)
    ended(down)
    assert statuses(sky) == {}
    assert sky.node_processes() == {}
    assert list((sky.state / "local").glob("*")) == []


def kill_node(sky, number):
    """Every process of a node at once, which is what infra local has for a machine that dies."""
    victim = sky.node_homes()[number]
    for pid, command in sky.node_processes().items():
        with contextlib.suppress(OSError):
            if str(Path(f"/proc/{pid}/cwd").readlink()).startswith(str(victim)) or str(victim.parent) in command:
                kill(pid)


def test_a_node_that_dies_is_told_and_mended(sky):
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "3", "echo kept > ~/kept")
    kill_node(sky, 2)
    (row,) = sky.json("status", "-r", "c")
    assert row["status"] == "UNHEALTHY" and "rank 2" in row["reason"]
    sky.good("start", "-y", "c")
    assert statuses(sky) == {"c": "UP"}
    assert sky.good("exec", "c", "--num-nodes", "3", "cat ~/kept").stdout.count("kept") == 3


def test_the_end_of_a_job_is_recorded_though_another_node_died(sky, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "--num-nodes", "2")
    sky.good("exec", "-d", "c", "until [ -e ~/go ]; do sleep 0.05; done")
    kill_node(sky, 1)
    assert sky.json("status", "-r", "c")[0]["status"] == "UNHEALTHY"
    (sky.node_homes()[0] / "go").touch()
    # Through the SDK: the command shows no queue of a cluster that is not UP.
    queue = "import sky; print(sky.get(sky.queue('c'))[0].status.value)"
    eventually(lambda: python(sky, queue).strip() == "SUCCEEDED")


def test_databases_are_in_wal_mode(sky):
    sky.good("launch", "-y", "-c", "c", "--infra", "local", "true")
    ledgers = [path for path in sky.node_homes()[0].rglob("*.db") if path.is_file()]
    assert ledgers
    for path in (sky.state / "state.db", *ledgers):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",), path
