"""What jobs do when their node will be taken away, and the faults that bring that about."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from sky.remote.errors import AgentError

#: Ends a node as the cut of its power would, once the test says so: all processes that carry its mark.
POWER_CUT = (
    r'for i in $(seq 1200); do [ -e "$2" ] && break; sleep 0.05; done; '
    r'for p in /proc/[0-9]*; do grep -qz "SKY_NODE_ID=$1" $p/environ 2>/dev/null && kill -9 ${p#/proc/}; done; :'
)

SAVER = """
import os, signal, sys, time
def save(*_):
    open(os.path.expanduser("~/saved"), "w").write("weights")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
open(os.path.expanduser("~/ready"), "w").close()
while True:
    time.sleep(60)
"""


async def there(path, seconds=90.0):
    deadline = asyncio.get_running_loop().time() + seconds
    while not path.exists():
        assert asyncio.get_running_loop().time() < deadline, f"{path} is not there"
        await asyncio.sleep(0.02)


async def told(cluster, kind, count=1, seconds=90.0):
    """The events of a kind once there are so many."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        events = [each for each in (await cluster.head.events(0))[0] if each["kind"] == kind]
        if len(events) >= count:
            return events
        assert asyncio.get_running_loop().time() < deadline, (await cluster.head.events(0))[0]
        await asyncio.sleep(0.05)


def mortal(node_id, cut):
    return {"down": ["/bin/sh", "-c", POWER_CUT, "sky-end", node_id, str(cut)], "stop": []}


async def preempt(node, seconds):
    await node.client.call("chaos", {"fault": "preempt", "seconds": seconds})


async def test_a_notice_gives_the_job_a_signal_and_its_script_a_moment(start_cluster):
    cluster = await start_cluster(power_off={"down": ["true"], "stop": []})
    home = cluster.nodes[0].home
    until_it_is_forgotten = "while [ -e ~/.sky/agent/tasks/leaving.run.care ]; do sleep 0.05; done"
    script = 'echo "$SKYPILOT_HOOK_EVENT $SKYPILOT_CHECKPOINT_DIR" >~/hook; test -s "$SKYPILOT_PREEMPTION_NOTICE"'
    scripts = [{"run": each, "timeout": 60} for each in (until_it_is_forgotten, script)]
    goodbye = {"signal": "TERM", "grace": 60, "scripts": scripts}
    program = f"cat >~/saver.py <<'EOT'\n{SAVER}\nEOT\n{sys.executable} ~/saver.py; echo the shell waited"
    job_id = await cluster.submit(program, "leaving", care={"path": "~/ck", "farewell": goodbye})
    await there(home / "ready")
    await preempt(cluster.nodes[0], 60)
    job = await cluster.until(job_id)
    assert job["status"] == "SUCCEEDED" and (home / "saved").read_text() == "weights"
    assert b"the shell waited" in await cluster.log(job_id)
    hooks = await told(cluster, "hook", 3)
    assert [each["text"] for each in hooks] == [
        "SIGTERM was sent to 1 process(es)", *["its script ended with exit code 0"] * 2
    ]  # fmt: skip
    assert all(each["of_job"] == job_id and each["status"] == "preemption" for each in hooks)
    assert (home / "hook").read_text() == f"preemption {home}/ck\n"
    (notice,) = await told(cluster, "notice")
    assert notice["what"] == "terminate" and 0 < notice["deadline"] - notice["at"] <= 60
    assert json.loads((home / ".sky" / "notice.json").read_text())["what"] == "terminate"


async def test_a_script_has_no_longer_than_the_machine_and_runs_once(start_cluster):
    cluster = await start_cluster(power_off={"down": ["true"], "stop": []})
    goodbye = {"scripts": [{"run": "echo x >>~/times; sleep 60", "timeout": 3000}]}
    job_id = await cluster.submit("mkfifo ~/go; read x <~/go", care={"farewell": goodbye})
    await cluster.until(job_id, "RUNNING")
    await there(cluster.nodes[0].home / "go")
    for _ in range(2):
        await preempt(cluster.nodes[0], 3)
    (hook,) = await told(cluster, "hook")
    assert "exit code 124 (it took longer than" in hook["text"]
    assert (cluster.nodes[0].home / "times").read_text() == "x\n"
    job = await cluster.seen(job_id, lambda facts: "noticed_at" in facts)
    assert job["status"] == "RUNNING", "no task is ended by a notice alone"


async def test_a_preempted_node_is_gone_with_all_that_runs_on_it(start_cluster, tmp_path):
    cluster = await start_cluster(2, lost_after=0.5, power_off={"down": ["true"], "stop": []})
    for rank, node in enumerate(cluster.nodes):
        node.config["power_off"] = mortal(node.config["node_id"], tmp_path / "cut")
        if rank:
            await node.start()
    job_id = await cluster.submit("exec sleep 600", num_nodes=2)
    await cluster.until(job_id, "RUNNING")
    await preempt(cluster.nodes[1], 0.5)
    await told(cluster, "notice")
    (tmp_path / "cut").touch()
    job = await cluster.until(job_id)
    assert job["status"] == "FAILED_DRIVER" and "worker1" in job["reason"] and "noticed_at" in job["facts"]


async def test_killing_and_starving_a_job_differ_in_what_is_told_of_it(cluster):
    for fault, cause in (("kill", None), ("oom", "out_of_memory")):
        key = f"struck-{fault}"
        job_id = await cluster.submit("sleep 600; echo after", key=key)
        await cluster.until(job_id, "RUNNING")
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            try:
                assert await cluster.head.strike(fault, key=key)
                break
            except AgentError:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)  # it is just being started
        job = await cluster.until(job_id)
        assert (job["status"], job["exit_codes"], job["facts"].get("cause")) == ("FAILED", [137], cause)


async def test_a_killed_agent_comes_back_and_its_job_has_not_noticed(cluster):
    job_id = await cluster.submit("mkfifo ~/go; read x <~/go")
    await there(cluster.nodes[0].home / "go")
    before = await cluster.nodes[0].pid()
    await cluster.head.strike("kill")
    deadline = asyncio.get_running_loop().time() + 60
    while await cluster.nodes[0].pid() == before:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    (cluster.nodes[0].home / "go").write_text("x\n")
    assert (await cluster.until(job_id))["status"] == "SUCCEEDED"


async def test_a_short_partition_is_waited_through_and_a_long_one_is_not(start_cluster):
    cluster = await start_cluster(2, lost_after=2.0)
    job_id = await cluster.submit("sleep 2", num_nodes=2)
    await cluster.until(job_id, "RUNNING")
    await cluster.head.strike("partition", rank=1, seconds=0.5)
    assert (await cluster.until(job_id))["status"] == "SUCCEEDED"
    job_id = await cluster.submit("sleep 600", num_nodes=2)
    await cluster.until(job_id, "RUNNING")
    await cluster.head.strike("partition", rank=1, seconds=20)
    job = await cluster.until(job_id)
    assert job["status"] == "FAILED_DRIVER" and "cut off by `sky chaos`" in job["reason"]


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ({"fault": "flood"}, "InvalidRequest"),
        ({"fault": "oom"}, "InvalidRequest"),
        ({"fault": "kill", "key": "nobody"}, "JobNotFound"),
        ({"fault": "partition", "rank": 1}, "InvalidRequest"),
        ({"fault": "preempt"}, "NotSupported"),
    ],
)
async def test_faults_that_make_no_sense_are_refused(cluster, args, kind):
    with pytest.raises(AgentError) as caught:
        await cluster.head.call("chaos", args)
    assert caught.value.type == kind


async def test_machines_of_a_cloud_are_spared(start_cluster):
    cluster = await start_cluster(infra={"cloud": "aws", "region": "r", "zone": None})
    with pytest.raises(AgentError, match="one's own"):
        await cluster.head.strike("kill")


async def test_hooks_of_an_end_run_once_per_claim(cluster):
    home = cluster.nodes[0].home
    scripts = [("echo $SKYPILOT_HOOK_EVENT >>~/ran", 60.0), ("exit 3", 60.0), ("sleep 60", 0.2)]
    said = await cluster.head.hooks("stop", "stop-1", scripts)
    assert [each.partition(" code ")[2][:3] for each in said] == ["0", "3", "124"]
    assert await cluster.head.hooks("stop", "stop-1", scripts) == said
    cluster.kill_agent(await cluster.nodes[0].pid())
    await cluster.nodes[0].pid()  # the next one is there: for hooks it is not waited for long
    assert await cluster.head.hooks("stop", "stop-1", scripts) == []
    assert (home / "ran").read_text() == "stop\n"
    assert await cluster.head.hooks("stop", "stop-2", [("echo again >>~/ran", 60.0)]) == [
        "a hook ended with exit code 0"
    ]
    assert (home / "ran").read_text() == "stop\nagain\n"
