"""Jobs on a real agent: queue, environment, logs, cancellation, gangs."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from contextlib import suppress

import pytest

from sky.agent.processes import started
from sky.remote.errors import AgentError

DAEMON = """
import os, signal, time
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.environ["HOME"] + "/pid", "w").write(f"{os.getpid()}\\n")
time.sleep(600)
"""


async def test_a_job_runs_and_its_log_and_story_can_be_read_back(cluster):
    job_id = await cluster.submit("echo hello; echo problem >&2; pwd", name="greet")
    status, log = await cluster.result(job_id)
    job = await cluster.head.job(job_id)
    prefix = f"(greet, pid={job['pid']}) "
    assert status == "SUCCEEDED"
    assert log == f"{prefix}hello\n{prefix}problem\n{prefix}{cluster.nodes[0].home}\n"
    assert job["exit_codes"] == [0] and job["reason"] is None and job["resources"] == "1x[CPU:0.5]"
    assert job["submitted_at"] <= job["start_at"] <= job["end_at"]
    events, _ = await cluster.head.events(0)
    assert [event["status"] for event in events] == ["PENDING", "RUNNING", "SUCCEEDED"]


async def test_setup_comes_first_and_its_failure_ends_the_job(cluster):
    good = await cluster.submit("echo running", setup="echo setting up")
    status, log = await cluster.result(good)
    assert status == "SUCCEEDED"
    assert re.fullmatch(r"\(setup pid=\d+\) setting up\n\(task, pid=\d+\) running\n", log)
    assert await cluster.log(good, which="setup") == b"setting up\n"
    bad = await cluster.submit("echo never", setup="echo oops; exit 4")
    status, log = await cluster.result(bad)
    job = await cluster.head.job(bad)
    assert status == "FAILED_SETUP" and "never" not in log and job["exit_codes"] == [4]
    assert "exit code 4" in job["reason"]


async def test_setup_alone_is_a_job(cluster):
    status, log = await cluster.result(await cluster.submit(None, setup="echo only"))
    assert status == "SUCCEEDED" and "only" in log


async def test_the_last_command_decides_and_signals_count_above_128(cluster):
    codes = []
    for script in ("false; true", "exit 42", "kill -9 $$"):
        job = await cluster.until(await cluster.submit(script))
        codes.append((job["status"], job["exit_codes"]))
    assert codes == [("SUCCEEDED", [0]), ("FAILED", [42]), ("FAILED", [137])]


async def test_environment_of_setup_and_run(cluster):
    script = "env | grep -E '^(SKYPILOT|MINE|TOKEN|HOME|SKY_NODE_ID|CUDA)' | sort"
    job_id = await cluster.submit(
        script, setup=script, envs={"MINE": "a b"}, secrets={"TOKEN": "s3cret"}, task_id="sky-1_x_1"
    )
    _, log = await cluster.result(job_id)
    setup = dict(line.split(") ", 1)[1].split("=", 1) for line in log.splitlines() if line.startswith("(setup"))
    run = dict(line.split(") ", 1)[1].split("=", 1) for line in log.splitlines() if line.startswith("(task"))
    for values, prefix in ((setup, "SKYPILOT_SETUP_"), (run, "SKYPILOT_")):
        assert values[prefix + "NODE_RANK"] == "0" and values[prefix + "NODE_IPS"] == "127.0.0.1"
        assert values[prefix + "NUM_GPUS_PER_NODE"] == "0" and values["MINE"] == "a b" and values["TOKEN"] == "s3cret"
        assert values["SKYPILOT_TASK_ID"] == "sky-1_x_1" and values["SKYPILOT_INTERNAL_JOB_ID"] == str(job_id)
        assert values["SKYPILOT_USER"] == "tester" and values["HOME"] == str(cluster.nodes[0].home)
        assert json.loads(values["SKYPILOT_CLUSTER_INFO"])["cluster_name"] == "testing"
    assert run["SKYPILOT_NUM_NODES"] == "1" and "CUDA_VISIBLE_DEVICES" not in run


def files_with(text, root):
    """Files that hold it, of those that the agent does not take away meanwhile."""
    found = []
    for path in root.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and text in path.read_bytes():
                found.append(path)
    return found


async def test_secrets_are_on_disk_only_while_the_job_lives(cluster):
    job_id = await cluster.submit("read x < ~/go; true", secrets={"TOKEN": "hunter2hunter2"}, setup="mkfifo ~/go")
    await cluster.until(job_id, "RUNNING")
    root = cluster.nodes[0].home / ".sky"
    holding = files_with(b"hunter2hunter2", root)
    assert [path.parent.name for path in holding] == ["secrets"] and holding[0].stat().st_mode & 0o777 == 0o600
    (cluster.nodes[0].home / "go").write_text("x\n")
    await cluster.until(job_id)
    assert files_with(b"hunter2hunter2", root) == []


async def test_submitting_a_key_twice_gives_the_same_job_even_after_a_restart(cluster):
    spec = {"run": "echo once >> ~/count", "task_id": "t"}
    first = await cluster.head.submit("the-key", spec)
    again = await cluster.head.submit("the-key", spec)
    await cluster.until(first[0])
    cluster.kill_agent(await cluster.nodes[0].pid())
    later = await cluster.head.submit("the-key", spec)
    assert (first[1], again, later) == (True, (first[0], False), (first[0], False))
    assert (cluster.nodes[0].home / "count").read_text() == "once\n"


async def test_the_same_task_id_twice_keeps_both_logs(cluster):
    one, two = await cluster.submit("echo one", task_id="same"), await cluster.submit("echo two", task_id="same")
    assert "one" in (await cluster.result(one))[1] and "two" in (await cluster.result(two))[1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"cpus": 64}, "never give"),
        ({"num_nodes": 2}, "never give"),
        ({"accelerators": {"H100": 1}}, "no accelerators"),
        ({"memory_gb": 100}, "never give"),
        ({"accelerators": {"H100": 1.5}}, "whole number"),
        ({"task_id": "../up"}, "plain name"),
        ({"envs": {"A B": "x"}}, "bad variable name"),
        ({"envs": {"A": 1}}, "must be text"),
        ({"run": 5}, "must be text"),
    ],
)
async def test_a_job_that_can_never_run_is_refused_with_the_reason(cluster, spec, words):
    with pytest.raises(AgentError, match=words):
        await cluster.submit(**spec)
    assert await cluster.head.jobs() == []


async def test_first_come_first_served_and_parallel_as_far_as_slots_go(start_cluster):
    cluster = await start_cluster(cpus=1)
    jobs = [await cluster.submit(f"echo {number} >> ~/order", cpus=1) for number in range(5)]
    for job_id in jobs:
        assert (await cluster.until(job_id))["status"] == "SUCCEEDED"
    assert (cluster.nodes[0].home / "order").read_text().split() == list("01234")
    ended = [(job["start_at"], job["end_at"]) for job in await cluster.head.jobs(jobs)]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ended))


async def test_shares_of_accelerators_see_the_device_they_got(start_cluster):
    cluster = await start_cluster(accelerators={"name": "H100", "count": 2, "indices": [4, "GPU-abc"]})
    script = "echo $CUDA_VISIBLE_DEVICES/$SKYPILOT_NUM_GPUS_PER_NODE; read x < ~/go"
    os.mkfifo(cluster.nodes[0].home / "go")
    half = {"accelerators": {"h100": 0.5}}
    jobs = [await cluster.submit(script, **half), await cluster.submit(script, **half)]
    jobs.append(await cluster.submit(script, accelerators={"H100": 1}))
    blocked = await cluster.submit("echo $CUDA_VISIBLE_DEVICES/$SKYPILOT_NUM_GPUS_PER_NODE", accelerators={"H100": 2})
    for job_id in jobs:
        await cluster.said(job_id, b"/1")
    assert (await cluster.head.job(blocked))["status"] == "PENDING"
    logs = []
    for job_id in jobs:
        await cluster.head.cancel([job_id])
        logs.append((await cluster.result(job_id))[1].split(") ")[1].split("\n")[0])
    assert logs == ["4/1", "4/1", "GPU-abc/1"]
    assert "4,GPU-abc/2" in (await cluster.result(blocked))[1]


async def test_cancel_reaches_a_grandchild_that_became_a_daemon(cluster):
    job_id = await cluster.submit(f"python3 - <<'END'\n{DAEMON}END\necho started; sleep 600", cancel_grace=0.3)
    data, *_ = await cluster.head.read_log(job_id, wait=20)
    assert b"started" in data
    pid_file = cluster.nodes[0].home / "pid"
    while not pid_file.exists() or not pid_file.read_text().endswith("\n"):
        await asyncio.sleep(0.01)
    pid = int(pid_file.read_text())
    assert await cluster.head.cancel([job_id]) == [job_id]
    job = await cluster.head.job(job_id)
    assert job["status"] == "CANCELLED"
    assert not started(pid)  # gone, or a zombie that waits for its reaper


async def test_cancel_gives_time_to_clean_up(cluster):
    script = "trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    job_id = await cluster.submit(script)
    assert b"ready" in (await cluster.head.read_log(job_id, wait=20))[0]
    assert await cluster.head.cancel() == [job_id]
    status, log = await cluster.result(job_id)
    assert status == "CANCELLED" and "cleaned" in log


async def test_waiting_jobs_are_cancelled_at_once(start_cluster):
    cluster = await start_cluster(cpus=1)
    running, waiting = await cluster.submit("sleep 600", cpus=1), await cluster.submit("true", cpus=1)
    assert await cluster.head.cancel([waiting]) == [waiting]
    assert (await cluster.head.job(waiting))["status"] == "CANCELLED"
    assert await cluster.log(waiting) == b""
    assert await cluster.head.cancel(all=True) == [running]
    assert await cluster.head.cancel([running, 999]) == []


async def test_a_gang_knows_its_members_and_finds_them(start_cluster):
    cluster = await start_cluster(3)
    script = "echo $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES at $(echo $SKYPILOT_NODE_IPS)"
    job_id = await cluster.submit(script, num_nodes=3, setup="echo set $SKYPILOT_SETUP_NODE_RANK")
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED"
    lines = [re.sub(r"pid=\d+", "pid=P", line) for line in log.splitlines()]
    ips = "127.0.0.1 127.0.0.2 127.0.0.3"
    assert sorted(lines[:3]) == [f"(setup pid=P) set {rank}" for rank in range(3)]
    assert sorted(lines[3:]) == sorted(
        f"({name}, rank={rank}, pid=P) {rank} of 3 at {ips}" for rank, name in enumerate(["head", "worker1", "worker2"])
    )
    assert await cluster.log(job_id, which="node", rank=2) == f"2 of 3 at {ips}\n".encode()
    assert (cluster.nodes[1].home / "sky_logs").exists()


async def test_setup_runs_on_those_nodes_only_that_are_new(start_cluster):
    cluster = await start_cluster(3)
    setup = "echo set $SKYPILOT_SETUP_NODE_RANK"
    job_id = await cluster.submit("true", num_nodes=3, setup=setup, fresh=[0, 2])
    status, log = await cluster.result(job_id)
    assert status == "SUCCEEDED"
    assert sorted(re.findall(r"set \d", log)) == ["set 0", "set 2"]
    failing = await cluster.submit("echo never", num_nodes=3, setup="exit 4", fresh=[1])
    status, log = await cluster.result(failing)
    assert (status, (await cluster.head.job(failing))["exit_codes"]) == ("FAILED_SETUP", [0, 4, 0])


async def test_a_head_whose_work_is_ended_begins_nothing_any_more(start_cluster):
    cluster = await start_cluster(2, cpus=1)
    running = await cluster.submit("sleep 600", num_nodes=2, cpus=1, cancel_grace=0.2)
    waiting = await cluster.submit("true", cpus=1)
    await cluster.until(running, "RUNNING")
    await cluster.head.kill_all(grace=0.2, queue=True, patience=60)
    assert (await cluster.head.job(running))["status"] == "FAILED_DRIVER"
    assert (await cluster.head.job(waiting))["status"] == "CANCELLED"
    with pytest.raises(AgentError, match="takes no more jobs"):
        await cluster.submit("true")


async def test_a_node_that_is_gone_does_not_hold_up_the_end_of_the_others(start_cluster):
    cluster = await start_cluster(2, lost_after=600)
    job_id = await cluster.submit("echo up; sleep 600", num_nodes=2, cancel_grace=0.2)
    await cluster.until(job_id, "RUNNING")
    await cluster.nodes[1].end()
    async with asyncio.timeout(60):
        await cluster.head.kill_all(grace=0.2, queue=True, patience=60)
    assert (await cluster.head.job(job_id))["status"] == "FAILED_DRIVER"


async def test_the_first_failing_rank_ends_the_others(start_cluster):
    cluster = await start_cluster(3)
    script = '[ "$SKYPILOT_NODE_RANK" = 1 ] && exit 7; echo waiting; sleep 600'
    job_id = await cluster.submit(script, num_nodes=3)
    status, log = await cluster.result(job_id)
    job = await cluster.head.job(job_id)
    assert status == "FAILED" and job["exit_codes"] == [137, 7, 137]
    assert "rank 1 (worker1) with exit code 7" in job["reason"] and job["reason"] in log


async def test_setup_failing_on_one_node_ends_it_on_all(start_cluster):
    cluster = await start_cluster(2)
    job_id = await cluster.submit(
        "echo never", num_nodes=2, setup="[ $SKYPILOT_SETUP_NODE_RANK = 1 ] && exit 3; sleep 600"
    )
    status, log = await cluster.result(job_id)
    assert status == "FAILED_SETUP" and "never" not in log
    assert (await cluster.head.job(job_id))["exit_codes"] == [137, 3]


async def test_a_lost_node_fails_the_job_and_is_named(start_cluster):
    cluster = await start_cluster(2, lost_after=0.5)
    job_id = await cluster.submit("echo up; sleep 600", num_nodes=2, cancel_grace=0.2)
    await cluster.until(job_id, "RUNNING")
    await cluster.nodes[1].end()
    job = await cluster.until(job_id)
    assert job["status"] == "FAILED_DRIVER" and "worker1 (127.0.0.2) was lost" in job["reason"]


async def test_events_wait_for_the_first(cluster):
    _, since = await cluster.head.events(0)
    waiting = asyncio.ensure_future(cluster.head.events(since, wait=20))
    job_id = await cluster.submit("true")
    events, _ = await waiting
    assert events[0]["job_id"] == job_id and events[0]["kind"] == "job"


async def test_workers_keep_no_queue(start_cluster):
    cluster = await start_cluster(2)
    with pytest.raises(AgentError, match="kept by the head"):
        await cluster.nodes[1].client.jobs()


async def test_the_workdir_is_the_working_directory_when_there_is_one(cluster):
    _, log = await cluster.result(await cluster.submit("pwd", workdir=True))
    assert log.rstrip().endswith(str(cluster.nodes[0].home / "sky_workdir"))
