"""What a job on a cluster may rely on, through the real command: variables, order, gangs, cancellation, codes."""

import json
import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Interface 2.9: what every task finds in its environment, by phase.
BOTH = {"SKYPILOT_TASK_ID", "SKYPILOT_CLUSTER_INFO", "SKYPILOT_USER", "SKYPILOT_INTERNAL_JOB_ID"}
SETUP = BOTH | {"SKYPILOT_SETUP_NODE_RANK", "SKYPILOT_SETUP_NODE_IPS", "SKYPILOT_SETUP_NUM_GPUS_PER_NODE"}
RUN = BOTH | {
    *("SKYPILOT_NODE_RANK", "SKYPILOT_NODE_IPS", "SKYPILOT_NUM_NODES", "SKYPILOT_NUM_GPUS_PER_NODE"),
}

#: Writes the environment of a process, as JSON, into the node's home.
DUMP = "import json, os, sys; json.dump(dict(os.environ), open(os.path.expanduser(sys.argv[1]), 'w'))"


def pretend(sky, **local):
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "config.yaml").write_text(json.dumps({"local": local}))


def states(sky, cluster="c"):
    return {job["job_id"]: job["status"] for job in sky.json("queue", cluster)}


def commands_with(sky, word):
    return [command for command in sky.node_processes().values() if word in command]


def python(sky, program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=sky.env, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_variables_of_setup_and_run(sky):
    pretend(sky, accelerators={"H100": 2})
    (sky.root / "t.yaml").write_text(
        json.dumps(
            {
                "name": "vars",
                "num_nodes": 3,
                "resources": {"infra": "local", "accelerators": "H100:2"},
                "setup": f'python3 -c "{DUMP}" ~/setup.json',
                "run": f'python3 -c "{DUMP}" ~/run.json',
            }
        )
    )
    sky.good("launch", "-y", "-c", "c", "t.yaml")
    homes = sky.node_homes()
    assert len(homes) == 3
    setups = [json.loads((home / "setup.json").read_text()) for home in homes]
    runs = [json.loads((home / "run.json").read_text()) for home in homes]
    for rank, (setup, run, home) in enumerate(zip(setups, runs, homes, strict=True)):
        assert set(setup) >= SETUP and set(run) >= RUN
        assert (setup["SKYPILOT_SETUP_NODE_RANK"], run["SKYPILOT_NODE_RANK"]) == (str(rank), str(rank))
        assert (setup["SKYPILOT_SETUP_NUM_GPUS_PER_NODE"], run["SKYPILOT_NUM_GPUS_PER_NODE"]) == ("2", "2")
        assert run["SKYPILOT_NUM_NODES"] == "3"
        assert run["SKYPILOT_INTERNAL_JOB_ID"] == setup["SKYPILOT_INTERNAL_JOB_ID"] == "1"
        assert run["HOME"] == str(home)
    (ips,) = {run["SKYPILOT_NODE_IPS"] for run in runs} | {setup["SKYPILOT_SETUP_NODE_IPS"] for setup in setups}
    assert len(set(ips.split("\n"))) == 3
    assert ips.split("\n")[0] == sky.good("status", "--ip", "c").stdout.strip(), "the head comes first"
    (task_id,) = {each["SKYPILOT_TASK_ID"] for each in (*setups, *runs)}
    assert re.fullmatch(r"sky-\d[\w-]*_c(_1)?", task_id)
    info = json.loads(runs[0]["SKYPILOT_CLUSTER_INFO"])
    assert info.keys() >= {"cluster_name", "cloud", "region", "zone"}
    assert (info["cluster_name"], info["cloud"]) == ("c", "local")


def test_no_variable_of_the_servers_owner_reaches_a_job(sky):
    sky.env |= {"AWS_SECRET_ACCESS_KEY": "of-the-owner", "MY_TOKEN": "of-the-owner"}
    done = sky.good("launch", "-y", "-c", "c", "env")
    assert "SKYPILOT_NODE_RANK=0" in done.stdout
    assert "of-the-owner" not in done.stdout


def test_first_come_first_served_with_backfill_that_starves_nobody(sky, eventually):
    pretend(sky, cpus=4, accelerators={"H100": 2})
    sky.good("launch", "-y", "-c", "c", "--infra", "local", "--gpus", "H100:2")
    wait = "until [ -e ~/{0} ]; do sleep 0.05; done"
    sky.good("exec", "-d", "c", "--gpus", "H100:1", wait.format("go-1"))
    eventually(lambda: states(sky)[1] == "RUNNING")
    sky.good("exec", "-d", "c", "--gpus", "H100:2", wait.format("go-2"))  # the head of the queue: does not fit yet
    sky.good("exec", "-d", "c", "--gpus", "H100:1", "echo third")  # would fit, and would hold the head up
    sky.good("exec", "c", "echo fourth")  # needs nothing that the head waits for
    assert states(sky) == {1: "RUNNING", 2: "PENDING", 3: "PENDING", 4: "SUCCEEDED"}
    (home,) = sky.node_homes()
    (home / "go-1").touch()
    eventually(lambda: states(sky)[2] == "RUNNING")
    assert states(sky)[3] == "PENDING"
    (home / "go-2").touch()
    eventually(lambda: set(states(sky).values()) == {"SUCCEEDED"})


def test_a_job_that_waits_for_cpus_runs_when_they_are_free(sky, eventually):
    pretend(sky, cpus=1)
    sky.good("launch", "-y", "-c", "c", "--infra", "local")
    wait = "until [ -e ~/go ]; do sleep 0.05; done"
    for _ in range(3):  # half a CPU each
        sky.good("exec", "-d", "c", wait)
    eventually(lambda: [states(sky)[number] for number in (1, 2)] == ["RUNNING"] * 2)
    assert states(sky)[3] == "PENDING"
    (sky.node_homes()[0] / "go").touch()
    eventually(lambda: set(states(sky).values()) == {"SUCCEEDED"})


def test_setup_that_fails_on_one_node_ends_the_job(sky):
    (sky.root / "t.yaml").write_text(
        json.dumps(
            {
                "num_nodes": 2,
                "resources": {"infra": "local"},
                "setup": "[ $SKYPILOT_SETUP_NODE_RANK = 0 ] || exit 7",
                "run": "echo never > ~/ran",
            }
        )
    )
    done = sky("launch", "-y", "-c", "c", "t.yaml")
    assert done.returncode == 100
    (job,) = sky.json("queue", "c")
    assert job["status"] == "FAILED_SETUP" and "7" in job["reason"]
    assert not [home for home in sky.node_homes() if (home / "ran").exists()]
    assert sky("logs", "c", "1").returncode == 100
    assert "FAILED_SETUP" in sky("logs", "c", "1", "--status").stdout


#: A process that leaves its session, its group and its parent, and ignores polite signals.
DAEMON = (
    "import os, signal, time\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    "open(os.path.expanduser('~/daemon.pid'), 'w').write(str(os.getpid()))\n"
    "time.sleep(600)\n"
)


def test_cancel_reaches_what_became_a_daemon_on_every_node(sky, eventually):
    (sky.root / "w").mkdir()
    (sky.root / "w" / "sky_daemon.py").write_text(DAEMON)
    sky.good("launch", "-y", "-d", "-c", "c", "--num-nodes", "2", "--workdir", "w", "python3 sky_daemon.py; sleep 600")
    eventually(lambda: len([home for home in sky.node_homes() if (home / "daemon.pid").exists()]) == 2)
    eventually(lambda: len(commands_with(sky, "sky_daemon.py")) >= 2)
    sky.good("cancel", "-y", "c")  # no ids: the newest that runs
    eventually(lambda: states(sky) == {1: "CANCELLED"})
    eventually(lambda: commands_with(sky, "sky_daemon.py") == commands_with(sky, "sleep 600") == [])
    assert sky("logs", "c", "1").returncode == 103


def test_a_daemon_of_one_job_survives_the_cancel_of_another(sky, eventually):
    sky.good("launch", "-y", "-d", "-c", "c", "sleep 611")
    sky.good("exec", "-d", "c", "sleep 622")
    eventually(lambda: states(sky) == {1: "RUNNING", 2: "RUNNING"})
    eventually(lambda: commands_with(sky, "sleep 611") and commands_with(sky, "sleep 622"))
    sky.good("cancel", "-y", "c", "2")
    eventually(lambda: states(sky) == {1: "RUNNING", 2: "CANCELLED"})
    assert commands_with(sky, "sleep 611") and not commands_with(sky, "sleep 622")


def test_codes_of_logs_and_of_the_sdk_are_those_of_the_interface(sky, eventually):
    sky.good("launch", "-y", "-c", "c", "true")
    assert sky("exec", "c", "exit 9").returncode == 100
    sky.good("exec", "-d", "c", "sleep 600")
    sky.good("exec", "-d", "c", "sleep 600")
    sky.good("cancel", "-y", "c", "4")
    eventually(lambda: states(sky) == {1: "SUCCEEDED", 2: "FAILED", 3: "RUNNING", 4: "CANCELLED"})
    wanted = {"1": 0, "2": 100, "3": 101, "9": 102, "4": 103}
    assert {job: sky("logs", "c", job, "--no-follow").returncode for job in wanted} == wanted
    program = (
        "import io, sky\n"
        "print(*(int(sky.tail_logs('c', job, follow=False, output_stream=io.StringIO())) for job in (1, 2, 3, 9, 4)))"
    )
    assert python(sky, program).split() == ["0", "100", "101", "102", "103"]


def test_logs_per_node_and_together(sky):
    sky.good("launch", "-y", "-c", "c", "--num-nodes", "3", "--name", "trio", "echo said by $SKYPILOT_NODE_RANK")
    together = sky.good("logs", "c", "1").stdout
    said = re.findall(r"^\((\w+), rank=(\d), pid=\d+\) said by (\d)$", together, re.MULTILINE)
    assert sorted(said) == [("head", "0", "0"), ("worker1", "1", "1"), ("worker2", "2", "2")]
    for rank in range(3):
        alone = sky.good("logs", "c", "1", "-w", str(rank)).stdout
        assert re.findall(r"said by (\d)", alone) == [str(rank)]
    path = json.loads(sky.good("logs", "c", "1", "--sync-down", "-o", "json").stdout)["1"]
    files = {file.name for file in (sky.root / "sky_logs").rglob("*") if file.is_file()}
    assert "run.log" in files, (path, files)
    assert sky.good("logs", "c", "1", "--tail", "1").stdout.count("said by") <= 1
