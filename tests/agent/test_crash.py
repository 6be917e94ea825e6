"""The agent is killed with SIGKILL, and its respawn loop brings it back: nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

from sky.agent.processes import started
from sky.remote.errors import AgentUnreachable


async def kill(cluster, node=0):
    """Kill the agent, and wait until the next one answers."""
    pid = await cluster.nodes[node].pid()
    cluster.kill_agent(pid)
    while await cluster.nodes[node].pid() == pid:
        await asyncio.sleep(0.01)


async def test_a_running_job_outlives_the_agent_and_is_recorded_once(cluster):
    home = cluster.nodes[0].home
    os.mkfifo(home / "go")
    job_id = await cluster.submit(
        "echo start >> ~/runs; echo before; read x < ~/go; echo after; printf unfinished; exit 5"
    )
    assert b"before" in (await cluster.head.read_log(job_id, wait=20))[0]
    await kill(cluster)
    assert (await cluster.head.job(job_id))["status"] == "RUNNING"
    await asyncio.to_thread((home / "go").write_text, "x\n")
    status, log = await cluster.result(job_id)
    pid = (await cluster.head.job(job_id))["pid"]
    assert status == "FAILED" and (await cluster.head.job(job_id))["exit_codes"] == [5]
    assert "".join(f"(task, pid={pid}) {word}" for word in ("before\n", "after\n", "unfinished\n")) in log
    assert log.count("before") == log.count("after") == log.count("unfinished") == 1
    assert (home / "runs").read_text() == "start\n"
    events, _ = await cluster.head.events(0)
    assert [event["status"] for event in events] == ["PENDING", "RUNNING", "FAILED"]


async def test_a_job_that_ends_while_no_agent_lives_keeps_its_exit_code(cluster):
    home = cluster.nodes[0].home
    os.mkfifo(home / "go")
    job_id = await cluster.submit("echo one; read x < ~/go; echo two; exit 9")
    await cluster.head.read_log(job_id, wait=20)
    agent = await cluster.nodes[0].pid()
    loop = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(loop, 9)
    os.kill(agent, 9)
    (task,) = [job["pid"] for job in [{"pid": int(next((home / ".sky/agent/tasks").rglob("*.run.pid")).read_text())}]]
    await asyncio.to_thread((home / "go").write_text, "x\n")
    while started(task):
        await asyncio.sleep(0.01)
    await cluster.nodes[0].start()
    status, log = await cluster.result(job_id)
    assert status == "FAILED" and (await cluster.head.job(job_id))["exit_codes"] == [9]
    assert [line.split(") ")[1] for line in log.splitlines()[:2]] == ["one", "two"]


async def test_the_queue_keeps_its_order_and_every_job_runs_once_under_random_kills(start_cluster):
    cluster = await start_cluster(cpus=1)
    jobs = [
        await cluster.submit(
            f"echo {number} >> ~/order; for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.01; done", cpus=1
        )
        for number in range(12)
    ]
    chance = random.Random(7)
    for _ in range(6):
        await asyncio.sleep(chance.uniform(0.01, 0.2))  # a random moment is what this test is about
        with suppress(ProcessLookupError):
            await kill(cluster)
    for job_id in jobs:
        status, log = await cluster.result(job_id)
        assert status == "SUCCEEDED"
        assert [line.split(") ")[1] for line in log.splitlines()] == [f"line {i}" for i in range(1, 9)]
    assert (cluster.nodes[0].home / "order").read_text().split() == [str(number) for number in range(12)]


async def test_a_follower_sees_each_byte_once_across_kills(cluster):
    go = cluster.nodes[0].home / "go"
    os.mkfifo(go)
    # After each tenth it waits, so that each kill finds it with more to say, which it says while no agent is there.
    job_id = await cluster.submit(
        "for i in $(seq 1 40); do echo number $i; [ $((i % 10)) -gt 0 ] || read x < ~/go; sleep 0.02; done"
    )
    seen, offset, eof = b"", 0, False
    kills = 0
    while not eof:
        with suppress(AgentUnreachable):  # the next agent takes its time
            data, offset, eof, _ = await cluster.head.read_log(job_id, offset=offset, wait=10)
            seen += data
        if seen.count(b"\n") == 10 * (kills + 1):
            kills += 1
            cluster.kill_agent(await cluster.nodes[0].pid())
            await asyncio.to_thread(go.write_text, "x\n")
    assert kills == 4
    assert [line.split(b") ")[1] for line in seen.splitlines()] == [b"number %d" % i for i in range(1, 41)]


async def test_a_gang_goes_on_when_the_head_and_then_a_worker_lose_their_agents(start_cluster):
    cluster = await start_cluster(2)
    for node in cluster.nodes:
        os.mkfifo(node.home / "go")
    job_id = await cluster.submit(
        "echo up $SKYPILOT_NODE_RANK; read x < ~/go; echo done $SKYPILOT_NODE_RANK", num_nodes=2
    )
    log, offset = b"", 0
    while log.count(b"up") < 2:
        data, offset, _, _ = await cluster.head.read_log(job_id, offset=offset, wait=10)
        log += data
    await kill(cluster, 0)
    await kill(cluster, 1)
    for node in cluster.nodes:
        await asyncio.to_thread((node.home / "go").write_text, "x\n")
    status, text = await cluster.result(job_id)
    assert status == "SUCCEEDED" and (await cluster.head.job(job_id))["exit_codes"] == [0, 0]
    assert sorted(line.split(") ")[1] for line in text.splitlines()) == ["done 0", "done 1", "up 0", "up 1"]


async def test_a_cancellation_outlives_the_agent(cluster):
    job_id = await cluster.submit("trap '' TERM; echo ready; while :; do sleep 0.05; done", cancel_grace=1.0)
    assert b"ready" in (await cluster.head.read_log(job_id, wait=20))[0]
    cancelling = asyncio.ensure_future(cluster.head.cancel([job_id]))
    pid = await cluster.nodes[0].pid()
    cluster.kill_agent(pid)
    await cancelling
    await cluster.head.cancel([job_id])
    assert (await cluster.until(job_id))["status"] == "CANCELLED"


async def test_a_restarted_node_fails_what_ran_and_keeps_what_waited(start_cluster):
    cluster = await start_cluster(cpus=1)
    running, waiting = await cluster.submit("sleep 600", cpus=1), await cluster.submit("echo my turn", cpus=1)
    await cluster.until(running, "RUNNING")
    assert await cluster.head.read_log(running) is not None
    tasks = cluster.nodes[0].home / ".sky/agent/tasks"
    while not [path for path in tasks.rglob("*.run.pid") if path.read_text()]:
        await asyncio.sleep(0.01)
    await cluster.nodes[0].end()
    await cluster.nodes[0].start()
    job = await cluster.until(running)
    assert job["status"] == "FAILED_DRIVER" and "the node restarted while the job ran" in job["reason"]
    status, log = await cluster.result(waiting)
    assert status == "SUCCEEDED" and "my turn" in log


async def test_stopping_the_cluster_fails_what_runs_and_keeps_what_waits(start_cluster):
    cluster = await start_cluster(cpus=1)
    running, waiting = await cluster.submit("sleep 600", cpus=1), await cluster.submit("echo my turn", cpus=1)
    await cluster.until(running, "RUNNING")
    await cluster.head.kill_all()
    job = await cluster.head.job(running)
    assert job["status"] == "FAILED_DRIVER" and "stopped" in job["reason"]
    assert (await cluster.head.job(waiting))["status"] == "PENDING"
    await cluster.nodes[0].end()
    await cluster.nodes[0].start()
    assert (await cluster.result(waiting))[0] == "SUCCEEDED"


async def test_gangs_with_setup_end_as_they_should_whatever_is_killed_when(start_cluster):
    cluster = await start_cluster(2, cpus=1)
    setup = "echo setup $SKYPILOT_SETUP_NODE_RANK; echo s >> ~/ran"
    good = "for i in 1 2 3; do echo r$SKYPILOT_NODE_RANK line $i; sleep 0.02; done; echo r >> ~/ran"
    bad = "[ $SKYPILOT_NODE_RANK = 1 ] && exit 6; sleep 600"
    jobs = [
        await cluster.submit(bad if number % 3 == 2 else good, setup=setup, num_nodes=2, cpus=1) for number in range(6)
    ]
    chance = random.Random(11)
    for _ in range(8):
        await asyncio.sleep(chance.uniform(0.0, 0.15))  # a random moment is what this test is about
        node = chance.randrange(2)
        cluster.kill_agent(await cluster.nodes[node].pid())
    for number, job_id in enumerate(jobs):
        status, log = await cluster.result(job_id)
        lines = [line.split(") ", 1)[1] for line in log.splitlines() if line.startswith("(")]
        assert lines[:2] in (["setup 0", "setup 1"], ["setup 1", "setup 0"])
        job = await cluster.head.job(job_id)
        if number % 3 == 2:
            assert (status, job["exit_codes"]) == ("FAILED", [137, 6])
            assert log.count("run failed") == 1
        else:
            assert (status, job["exit_codes"]) == ("SUCCEEDED", [0, 0])
            assert [line for line in lines if line.startswith("r0")] == [f"r0 line {i}" for i in (1, 2, 3)]
            assert [line for line in lines if line.startswith("r1")] == [f"r1 line {i}" for i in (1, 2, 3)]
    for node in cluster.nodes:
        assert sorted((node.home / "ran").read_text().split()) == ["r"] * 4 + ["s"] * 6
