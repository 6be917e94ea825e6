"""kill -9 of the server and of agents at random moments: nothing is lost, doubled or orphaned.

Moments are drawn from a seed that the test's name shows, so that a failure can be tried again.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

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
    out, err = launch.communicate(timeout=120)
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
    out, err = execute.communicate(timeout=120)
    assert execute.returncode == 0, out + err
    assert [status for _, status in jobs(sky)] == ["SUCCEEDED"]
    assert lines(sky) == ["ran", "ended"]


@pytest.mark.parametrize("seed", range(3))
def test_server_killed_during_stop_and_down(sky, seed):
    rng = random.Random(200 + seed)
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "echo kept > ~/kept")
    stop = sky.start("stop", "-y", "c")
    kill_server_within(sky, rng, 0.5)
    assert stop.wait(120) == 0, stop.communicate()
    assert statuses(sky) == [("c", "STOPPED")]
    assert not sky.node_processes()
    assert [(home / "kept").read_text() for home in sky.node_homes()] == ["kept\n", "kept\n"]
    down = sky.start("down", "-y", "c")
    kill_server_within(sky, rng, 0.5)
    assert down.wait(120) == 0, down.communicate()
    assert statuses(sky) == []
    assert sky.node_homes() == []
    for process in (stop, down):
        process.stdout.close()
        process.stderr.close()


def test_a_running_job_goes_on_without_a_server(sky, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "sleep 1; echo ended >> ~/ran")
    os.kill(sky.server_pid(), signal.SIGKILL)
    eventually(lambda: lines(sky) == ["ended"])
    # The next server shows what is on record until it has heard from the node.
    eventually(lambda: jobs(sky) == [(1, "SUCCEEDED")])


@pytest.mark.parametrize("seed", range(3))
def test_agents_killed_during_a_job(sky, seed):
    rng = random.Random(300 + seed)
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2")
    execute = sky.start("exec", "c", "--num-nodes", "2", SCRIPT)
    kill_agents(sky, rng, 0.8)
    out, err = execute.communicate(timeout=120)
    assert execute.returncode == 0, out + err
    assert [status for _, status in jobs(sky)] == ["SUCCEEDED"]
    assert [lines(sky, 0), lines(sky, 1)] == [["ran", "ended"]] * 2


def test_agents_killed_during_launch_and_stop(sky):
    rng = random.Random(400)
    launch = sky.start("launch", "-y", "-c", "c", SCRIPT)
    kill_agents(sky, rng, 1.5)
    out, err = launch.communicate(timeout=120)
    assert launch.returncode == 0, out + err
    assert lines(sky) == ["ran", "ended"]
    stop = sky.start("stop", "-y", "c")
    kill_agents(sky, rng, 0.3)
    out, err = stop.communicate(timeout=120)
    assert stop.returncode == 0, out + err
    assert statuses(sky) == [("c", "STOPPED")]
    assert not sky.node_processes()


def test_server_and_agents_killed_together(sky):
    sky.good("api", "start")
    launch = sky.start("launch", "-y", "-c", "c", SCRIPT)
    rng = random.Random(500)
    kill_server_within(sky, rng, 1.0)
    kill_agents(sky, rng, 0.1)
    out, err = launch.communicate(timeout=120)
    assert launch.returncode == 0, out + err
    assert jobs(sky) == [(1, "SUCCEEDED")]
    assert lines(sky) == ["ran", "ended"]


def end_everything(sky):
    """What a reboot does: the server, the keepers, the agents and the jobs are gone at once, files stay."""
    os.kill(sky.server_pid(), signal.SIGKILL)
    sky.cut_power()


def test_a_reboot_of_the_machine(sky, eventually):
    sky.good("launch", "-y", "-c", "c", "-i", "60", "--num-nodes", "2", "echo kept > ~/kept")
    sky.good("exec", "-d", "c", "sleep 600")
    # One that had not begun yet would begin afterwards.
    eventually(lambda: any("sleep 600" in line for line in sky.node_processes().values()))
    end_everything(sky)
    eventually(lambda: not sky.node_processes())
    eventually(lambda: [each["status"] for each in sky.json("status", "-r")] == ["STOPPED"])
    sky.good("start", "-y", "c")
    assert statuses(sky) == [("c", "UP")]
    eventually(lambda: jobs(sky) == [(1, "SUCCEEDED"), (2, "FAILED_DRIVER")])
    sky.good("exec", "c", "test -f ~/kept")
    sky.good("down", "-y", "c")
    assert not sky.node_processes()


def removed(folder):
    """A folder, removed but for what was written into it meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def test_deleted_folder_of_a_running_node_leaves_no_process(sky, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "sleep 600")
    eventually(lambda: not removed(sky.state / "local").exists())
    eventually(lambda: sky.json("status", "-r") == [])
    eventually(lambda: not sky.node_processes())


@pytest.mark.slow
def test_a_hung_agent_holds_up_no_other_cluster_and_is_replaced(sky, eventually):
    sky.good("launch", "-y", "-c", "hung")
    sky.good("launch", "-y", "-c", "well")
    owner = {each["name"]: each for each in sky.json("status")}
    agents = {pid: line for pid, line in sky.node_processes().items() if "agent-" in line and "respawn" not in line}
    hung = next(pid for pid, line in agents.items() if "--node" in line)
    os.kill(hung, signal.SIGSTOP)
    begun = time.monotonic()
    # Side by side: a while later the cluster is known to be out of reach, and takes no job until its agent is replaced.
    for process in [sky.start("exec", name, "true") for name in owner]:
        said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert time.monotonic() - begun < 100
    assert sorted(statuses(sky)) == [("hung", "UP"), ("well", "UP")]


SECRET = "hunter2-is-not-shown"


def test_secrets_are_told_to_nobody(sky):
    task = sky.root / "task.yaml"
    task.write_text('secrets:\n  TOKEN: null\nrun: |\n  test -n "$TOKEN" && exit 3\n')
    done = sky("launch", "-y", "-c", "c", "--secret", f"TOKEN={SECRET}", str(task))
    assert done.returncode == 100, done.stdout + done.stderr
    said = [done.stdout, done.stderr, sky("events", "c", "-o", "json").stdout, sky("status", "-v").stdout]
    said += [sky("queue", "c", "-o", "json").stdout, sky("api", "status", "-a", "-o", "json").stdout]
    files = [sky.state / "server.log", *(sky.state / "requests").iterdir()]
    files += [path for home in sky.node_homes() for path in home.rglob("*.log")]
    files += [home / ".sky" / "agent" / "node.json" for home in sky.node_homes()]
    said += [path.read_text(errors="replace") for path in files if path.is_file()]
    with contextlib.closing(sqlite3.connect(f"file:{sky.state}/state.db?mode=ro", uri=True)) as store:
        for table in ("stories", "letters", "orders", "state_values"):
            said += [str(row) for row in store.execute(f"SELECT * FROM {table}")]
    assert not [text for text in said if SECRET in text]
    assert (sky.state / "state.db").stat().st_mode & 0o077 == 0
