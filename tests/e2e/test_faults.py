"""What a node tells of a job, as a user sees it, and `sky chaos` on `infra: local`."""

import json
import re
import time

import pytest

pytestmark = pytest.mark.timeout(500)

TASK = """
name: train
resources: {infra: local}
checkpoint: {path: ~/ck, every: 1h, max_size: 1GB}
progress: {pattern: 'step (\\d+)/(\\d+)'}
on_preemption: {grace: 20s, run: 'echo saved >$SKYPILOT_CHECKPOINT_DIR/last'}
run: |
  mkdir -p $SKYPILOT_CHECKPOINT_DIR/s1.tmp
  echo weights >$SKYPILOT_CHECKPOINT_DIR/s1.tmp/model
  touch $SKYPILOT_CHECKPOINT_DIR/s1.tmp/_SUCCESS
  mv $SKYPILOT_CHECKPOINT_DIR/s1.tmp $SKYPILOT_CHECKPOINT_DIR/s1
  echo step 1/4
  exec sleep 600
"""


def newest(sky):
    return max(sky.json("queue", "c"), key=lambda job: job["job_id"])


def said_by_ranks(sky, number, words):
    """Which ranks of a job of several nodes have said something by now."""
    shown = sky("logs", "c", str(number), "--no-follow").stdout
    return set(re.findall(rf"rank=(\d), pid=\d+\) {words}$", shown, re.MULTILINE))


def until(sky, holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds(job := newest(sky)):
        assert time.monotonic() < deadline, (job, sky.good("events", "c").stdout)
        time.sleep(0.2)
    return job


def test_what_a_job_tells_and_what_ends_it(sky, eventually):
    (sky.root / "train.yaml").write_text(TASK)
    sky.good("launch", "-c", "c", "-y", "-d", "train.yaml")
    job = until(sky, lambda job: job["checkpoint"] and job["progress"])
    assert job["progress"] == 0.25 and job["cause"] is None
    assert job["checkpoint"]["name"] == "s1" and job["checkpoint"]["bytes"] == 8 and job["checkpoint"]["warnings"] == []
    table = sky.good("queue", "c").stdout
    assert "PROGRESS" in table and "25%" in table and "CHECKPOINT" in table

    told = sky.json("chaos", "oom", "c", "-y")
    assert told == {"cluster_name": "c", "fault": "oom", "node": 0, "job_id": 1, "struck": told["struck"]}
    job = until(sky, lambda job: job["status"] == "FAILED")
    assert job["cause"] == "out_of_memory" and "out of memory" in job["reason"] and job["exit_codes"] == [137]

    sky.good("exec", "c", "-d", f"touch {sky.root}/begun; sleep 600")
    eventually((sky.root / "begun").exists)
    sky.good("chaos", "kill", "c", "2", "--node", "0", "-y")
    assert until(sky, lambda job: job["status"] == "FAILED")["cause"] is None

    # Runs for as long as the test takes to strike.
    sky.good("exec", "c", "-d", f"until [ -e {sky.root}/struck ]; do sleep 0.1; done")
    until(sky, lambda job: job["job_id"] == 3 and job["status"] == "RUNNING")
    sky.good("chaos", "partition", "c", "--seconds", "2", "-y")
    (sky.root / "struck").touch()
    until(sky, lambda job: job["status"] == "SUCCEEDED")

    sky.good("exec", "c", "-d", "train.yaml")
    until(sky, lambda job: job["job_id"] == 4 and job["progress"])
    # So long its script has time, also where the machine is busy.
    sky.good("chaos", "preempt", "c", "--seconds", "15", "-y")
    eventually(lambda: sky.json("status", "c", "-r")[0]["status"] != "UP")
    assert (sky.node_homes()[0] / "ck" / "last").read_text() == "saved\n"
    story = sky.good("events", "c").stdout
    for words in (
        "killed as for want of memory",
        "the processes of job 2 killed",
        "out of reach for 2 s",
        "its provider says",
        "job 4: its script ended with exit code 0",
    ):
        assert words in story, story


def test_chaos_says_what_it_cannot_do(sky):
    missing = sky("chaos", "kill", "nobody", "-y")
    assert missing.returncode == 1 and "not found" in missing.stderr
    wrong = sky("chaos", "flood", "c", "-y")
    assert wrong.returncode == 2 and "flood" in wrong.stderr


def test_hooks_run_on_the_head_before_it_stops_and_goes(sky):
    marks = sky.root / "marks"
    (sky.root / "task.yaml").write_text(f"""
resources: {{infra: local}}
config:
  hooks:
    - {{run: 'echo $SKYPILOT_HOOK_EVENT $SKYPILOT_GRACE_PERIOD_SECONDS >>{marks}; exit 7', timeout: 9}}
    - {{run: 'echo only at stop >>{marks}', events: [stop]}}
run: echo hi
""")
    sky.good("launch", "-c", "c", "-y", "task.yaml")
    sky.good("stop", "c", "-y")
    assert marks.read_text() == "stop 9\nonly at stop\n"
    assert "stopped; a hook ended with exit code 7; a hook ended with exit code 0" in sky.good("events", "c").stdout
    sky.good("start", "c", "-y")
    sky.good("down", "c", "-y")
    assert marks.read_text() == "stop 9\nonly at stop\ndown 9\n"


def test_faults_on_machines_of_a_pool(sky, lab, eventually):
    machines = lab.create(2)
    hosts = [{"ip": each.ip, "user": each.user, "identity_file": each.key} for each in machines]
    (sky.root / ".sky").mkdir(exist_ok=True)
    (sky.root / ".sky" / "ssh_node_pools.yaml").write_text(json.dumps({"rack": {"hosts": hosts}}))
    task = TASK.replace("infra: local", "infra: ssh/rack, cpus: 0.5")
    (sky.root / "train.yaml").write_text(task)
    sky.good("launch", "-c", "c", "-y", "-d", "--num-nodes", "2", "train.yaml")
    until(sky, lambda job: job["progress"] == 0.25 and job["checkpoint"])
    eventually(lambda: said_by_ranks(sky, 1, "step 1/4") == {"0", "1"})
    told = sky.json("chaos", "oom", "c", "1", "--seed", "5", "-y")
    assert sky.good("events", "c").stdout.count("killed as for want of memory") == 1 and told["node"] in (0, 1)
    assert until(sky, lambda job: job["status"] == "FAILED")["cause"] == "out_of_memory"
    sky.good("exec", "c", "-d", "--num-nodes", "2", "until [ -e /tmp/struck ]; do sleep 0.1; done")
    until(sky, lambda job: job["job_id"] == 2 and job["status"] == "RUNNING")
    sky.good("chaos", "partition", "c", "--node", "1", "--seconds", "2", "-y")
    sky.good("chaos", "kill", "c", "--node", "0", "-y")
    for each in machines:
        each.exec("touch", "/tmp/struck")
    until(sky, lambda job: job["status"] == "SUCCEEDED", 60)
    eventually(lambda: sky.json("status", "c", "-r")[0]["status"] == "UP", 60)
    sky.good("exec", "c", "-d", "--num-nodes", "2", "echo begun; sleep 600")
    # Where it had not begun yet it would begin afterwards.
    eventually(lambda: said_by_ranks(sky, 3, "begun") == {"0", "1"})
    sky.good("chaos", "preempt", "c", "--node", "1", "--seconds", "1", "-y")
    # The machine is still there, so its agent is brought up again; what ran on it is gone.
    job = until(sky, lambda job: job["status"] == "FAILED_DRIVER", 150)
    assert "worker1" in job["reason"]
    assert all(each.exec("true").returncode == 0 for each in machines), "the machines themselves are left alone"
