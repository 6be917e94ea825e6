"""What outlives what: disks a stop, requests a server, nothing at all a `down`; and who finds whom again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def python(sky, program, *words):
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=sky.env, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sockets_below(sky, *folders):
    """Unix sockets that are listened on, of this state directory or of the given folders."""
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if len(line.split()) == 8]
    return {name for name in names if any(name.startswith(str(folder)) for folder in (sky.state, *folders))}


def test_stop_keeps_the_disk_of_every_node_and_start_gives_it_back(sky):
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "echo of $SKYPILOT_NODE_RANK > ~/kept")
    addresses = sky.good("exec", "c", "echo $SKYPILOT_NODE_IPS").stdout
    sky.good("stop", "-y", "c")
    assert sky.node_processes() == {}
    assert [(home / "kept").read_text() for home in sky.node_homes()] == ["of 0\n", "of 1\n"]
    assert [(row["name"], row["status"]) for row in sky.json("status")] == [("c", "STOPPED")]
    refused = sky("exec", "c", "true")
    assert refused.returncode == 1 and "sky start c" in refused.stderr
    sky.good("start", "-y", "c")
    done = sky.good("exec", "c", "--num-nodes", "2", "cat ~/kept")
    assert "of 0" in done.stdout and "of 1" in done.stdout
    assert "127." in addresses
    jobs = {job["job_id"]: job["status"] for job in sky.json("queue", "c")}
    assert jobs == {1: "SUCCEEDED", 2: "SUCCEEDED", 3: "SUCCEEDED"}, "the queue is part of what is kept"


def test_down_leaves_no_process_no_folder_and_no_socket(sky, eventually):
    runtime = sky.root / "run"
    runtime.mkdir(mode=0o700)
    sky.env["XDG_RUNTIME_DIR"] = str(runtime)
    hides = "import os, time; os.setsid() if os.fork() == 0 else os._exit(0); time.sleep(600)"
    sky.good("launch", "-y", "-d", "-c", "c", "--num-nodes", "2", f'python3 -c "{hides}"; sleep 600')
    eventually(lambda: len([c for c in sky.node_processes().values() if "os.setsid" in c]) >= 2)
    before = sockets_below(sky, runtime)
    assert len(before) >= 3, "the server's and one of each agent"
    sky.good("down", "-y", "c")
    assert sky.node_processes() == {}
    assert list((sky.state / "local").glob("*")) == []
    assert [path for path in runtime.rglob("*") if path.is_socket()] == []
    assert len(sockets_below(sky, runtime)) == 1, "only the server's own is left"
    assert sky.json("status") == []
    assert "'c' not found" in sky.good("status", "c").stdout
    sky.good("api", "stop")
    eventually(lambda: sockets_below(sky, runtime) == set())
    assert [path for path in sky.state.rglob("*") if path.is_socket()] == []


def test_a_request_in_the_middle_survives_kill_and_is_answered_to_another_process(sky):
    sky.good("api", "start")
    submit = (
        "import sky; print(sky.launch(sky.Task(run='echo once >> ~/ran', num_nodes=2, setup='sleep 0.5',"
        " resources=sky.Resources(infra='local')), cluster_name='c'))"
    )
    request_id = python(sky, submit)
    os.kill(sky.server_pid(), signal.SIGKILL)
    (row,) = sky.json("api", "status", "-a", request_id)
    assert row["request_id"] == request_id and row["name"] == "launch"
    fetch = "import sys, sky; job, handle = sky.get(sys.argv[1]); print(job, handle.cluster_name)"
    assert python(sky, fetch, request_id) == "1 c"
    os.kill(sky.server_pid(), signal.SIGKILL)
    assert python(sky, fetch, request_id) == "1 c", "an answer outlives the server too"
    assert python(sky, fetch, request_id[:10]) == "1 c", "and a unique prefix names it"
    sky.good("logs", "c", "1")
    assert [(home / "ran").read_text() for home in sky.node_homes()] == ["once\n", "once\n"]


def test_a_failed_request_tells_every_process_the_same_class(sky):
    submit = "import sky; print(sky.down('nowhere'))"
    request_id = python(sky, submit)
    fetch = (
        "import sys, sky\n"
        "try:\n    sky.get(sys.argv[1])\n"
        "except sky.exceptions.ClusterDoesNotExist as error:\n"
        "    print(type(error).__name__, isinstance(error, ValueError), error)"
    )
    told = python(sky, fetch, request_id)
    assert told.startswith("ClusterDoesNotExist True") and "nowhere" in told
    os.kill(sky.server_pid(), signal.SIGKILL)
    assert python(sky, fetch, request_id) == told


def test_a_launch_with_the_same_request_id_happens_once(sky):
    """What a client does that lost the answer: it says the same thing again."""
    sky.good("api", "start")
    body = json.dumps({"task": {"run": "echo once >> ~/ran", "resources": {"infra": "local"}}, "cluster_name": "c"})
    program = (
        "import http.client, socket, sys\n"
        "for _ in range(3):\n"
        "    connection = http.client.HTTPConnection('sky')\n"
        "    connection.sock = socket.socket(socket.AF_UNIX); connection.sock.connect(sys.argv[1])\n"
        "    connection.request('POST', '/launch', sys.argv[2].encode(), {'X-Skypilot-Request-Id': 'f' * 32,"
        " 'Content-Type': 'application/json'})\n"
        "    answer = connection.getresponse(); print(answer.status, answer.read()[:200])\n"
    )
    said = python(sky, program, str(sky.state / "api.sock"), body).splitlines()
    assert all(line.startswith("200") for line in said), said
    rows = [row for row in sky.json("api", "status", "-a") if row["name"] == "launch"]
    assert len(rows) == 1, (said, rows)
    python(sky, "import sys, sky; sky.get(sys.argv[1])", rows[0]["request_id"])
    sky("logs", "c", "1")
    assert (sky.node_homes()[0] / "ran").read_text() == "once\n"


def test_the_server_is_found_again_by_a_second_process_and_by_the_sdk(sky):
    sky.good("status")
    first = sky.server_pid()
    assert first is not None
    sky.good("status", "-v")
    assert python(sky, "import sky; sky.get(sky.status()); print(sky.api_info().pid)") == str(first)
    assert sky.server_pid() == first


def test_the_story_of_a_cluster_is_in_plain_words(sky):
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "2", "true")
    for pid in [pid for pid in sky.node_processes() if (Path(f"/proc/{pid}/cwd").resolve()).match("*/1/home")]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (row,) = sky.json("status", "-r", "c")
    assert row["status"] == "UNHEALTHY" and "1 of 2 nodes" in row["reason"]
    assert python(sky, "import sky; print(sky.get(sky.status('c'))[0].status.value)") == "INIT"
    assert "1 of 2 nodes" in sky.good("status", "-v", "c").stdout
    sky.good("start", "-y", "c")
    sky.good("stop", "-y", "c")
    sky.good("start", "-y", "c")
    sky.good("down", "-y", "c")
    told = sky.good("events", "c").stdout
    words = ("asked for 2x", "nodes running", "up", "1 of 2 nodes", "stopp", "terminat")
    places = [told.find(word) for word in words]
    assert -1 not in places, (words, told)
    assert "Traceback" not in told and "{" not in told


def test_autostop_waits_for_what_it_was_told_to(sky, eventually):
    def state(name):
        return [row["status"] for row in sky.json("status", name)]

    until = "touch ~/begun; until [ -e ~/go ]; do sleep 0.05; done"
    sky.good("launch", "-y", "-d", "-c", "patient", "-i", "0", "--wait-for", "jobs", until)
    (home,) = sky.node_homes()
    eventually((home / "begun").exists)
    sky.good("launch", "-y", "-d", "-c", "hasty", "-i", "0", "--wait-for", "none", "sleep 600")
    eventually(lambda: state("hasty") == ["STOPPED"])
    assert state("patient") == ["UP"]
    (home / "go").touch()
    eventually(lambda: state("patient") == ["STOPPED"])
    sky.good("start", "-y", "-i", "30", "--down", "patient")
    (row,) = sky.json("status", "patient")
    assert (row["autostop"], row["to_down"]) == (30, True)


def test_a_cluster_that_goes_after_its_job_has_shown_its_log(sky, eventually):
    for name in ("a", "b", "c"):
        done = sky.good("launch", "-y", "--down", "-c", name, "echo last-words")
        assert "last-words" in done.stdout
    eventually(lambda: sky.json("status") == [])
