"""Launch, exec, stop, start, down, autostop and cancel through the loops, on real nodes."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sky.core.errors import ClusterDoesNotExist, ClusterNotUpError
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import requests as request_life
from sky.core.lifecycle.machine import Table, UnexpectedEvent
from sky.core.model.clusters import Phase
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.engine import work
from sky.engine.jobs import JobWork
from sky.engine.waiting import until
from sky.providers.local import processes
from sky.server.fleet import HeadAgent


async def launched(ask, cluster="c", **task):
    request = await ask("launch", {"task": {"run": "true", **task}, "cluster_name": cluster})
    assert request.status is RequestStatus.SUCCEEDED, request.error
    return request.result["job_id"]


async def reaches(plane, cluster, *phases, timeout=60):
    record = (await plane.clusters([cluster]))[0]

    async def load():
        return await plane.store.clusters.get(record.id)

    async with asyncio.timeout(timeout):
        return await until(plane.signals, f"cluster:{record.id}", load, lambda now: now.phase in phases)


async def test_a_launch_runs_setup_and_run_on_every_node(plane, ask, log_of):
    job_id = await launched(
        ask, num_nodes=2, setup="echo set-$SKYPILOT_SETUP_NODE_RANK", run="echo ran-$SKYPILOT_NODE_RANK"
    )
    text = await log_of("c", job_id)
    assert [word in text for word in ("set-0", "set-1", "ran-0", "ran-1")] == [True] * 4
    (job,) = await plane.jobs("c")
    assert (job.status, job.exit_codes) == (JobStatus.SUCCEEDED, (0, 0))


async def test_four_nodes_on_one_machine(plane, ask, log_of):
    job_id = await launched(ask, num_nodes=4, run='echo "rank $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES"')
    text = await log_of("c", job_id)
    assert [f"rank {rank} of 4" in text for rank in range(4)] == [True] * 4
    assert (await plane.job_outcome("c", job_id)).exit_codes == (0, 0, 0, 0)


async def test_the_end_in_the_log_is_the_end_on_record(plane, ask, log_of):
    await launched(ask)
    for _ in range(5):
        request = await ask("exec", {"task": {"run": "exit 3"}, "cluster_name": "c"})
        await log_of("c", request.result["job_id"])
        assert (await plane.job_outcome("c", request.result["job_id"])).status is JobStatus.FAILED


async def test_exec_does_not_run_setup(plane, ask, log_of):
    await launched(ask)
    request = await ask("exec", {"task": {"setup": "echo SETUP", "run": "echo RUN"}, "cluster_name": "c"})
    text = await log_of("c", request.result["job_id"])
    assert "RUN" in text
    assert "SETUP" not in text


async def test_exec_needs_a_cluster_that_is_up(ask):
    missing = await ask("exec", {"task": {"run": "true"}, "cluster_name": "none"})
    assert missing.error["type"] == "ClusterDoesNotExist"
    await launched(ask)
    await ask("stop", {"cluster_name": "c"})
    stopped = await ask("exec", {"task": {"run": "true"}, "cluster_name": "c"})
    assert stopped.error["type"] == "ClusterNotUpError"
    assert "sky start c" in stopped.error["message"]


async def test_stop_keeps_files_and_start_brings_them_back(plane, ask, log_of):
    job_id = await launched(ask, run="echo kept > ~/file")
    await log_of("c", job_id)
    assert (await ask("stop", {"cluster_name": "c"})).status is RequestStatus.SUCCEEDED
    assert (await ask("start", {"cluster_name": "c"})).status is RequestStatus.SUCCEEDED
    again = await ask("exec", {"task": {"run": "cat ~/file"}, "cluster_name": "c"})
    assert "kept" in await log_of("c", again.result["job_id"])


async def test_down_leaves_nothing(plane, ask, state):
    await launched(ask, run="sleep 600", num_nodes=2)
    cluster = (await plane.clusters(["c"]))[0]
    assert (await ask("down", {"cluster_name": "c"})).status is RequestStatus.SUCCEEDED
    assert await plane.clusters() == []
    assert [processes.of_node(node.id) for node in cluster.instances] == [[], []]
    assert list((state / "local").glob("*")) == []
    with pytest.raises(ClusterDoesNotExist):
        await plane.jobs("c")


async def test_launch_is_done_once_by_request_id(plane):
    body = {"task": {"run": "true"}, "cluster_name": "c"}
    first = await plane.submit("launch", body, user="u", request_id="same-id")
    second = await plane.submit("launch", body, user="u", request_id="same-id")
    await plane.wait("same-id", 60)
    assert first.id == second.id
    assert len(await plane.jobs("c")) == 1


async def test_launching_on_what_is_up_reuses_it(plane, ask):
    assert [await launched(ask), await launched(ask)] == [1, 2]
    assert len(await plane.clusters()) == 1


async def test_launching_on_what_is_stopped_starts_it(plane, ask):
    await launched(ask)
    await ask("stop", {"cluster_name": "c"})
    assert await launched(ask) == 2
    assert (await plane.clusters(["c"]))[0].phase is Phase.UP


async def test_a_task_too_big_for_the_cluster_is_refused(ask):
    await launched(ask)
    request = await ask("launch", {"task": {"run": "true", "num_nodes": 2}, "cluster_name": "c"})
    assert request.error["type"] == "ResourcesMismatchError"


async def test_no_place_says_why(ask):
    request = await ask(
        "launch", {"task": {"run": "true", "resources": {"accelerators": "A100:8"}}, "cluster_name": "c"}
    )
    assert request.error["type"] == "ResourcesUnavailableError"
    assert "asked for A100:8, it has H100:2" in request.error["message"]


async def test_other_clouds_are_not_here_yet(ask):
    request = await ask("launch", {"task": {"run": "true", "resources": {"infra": "azure"}}, "cluster_name": "c"})
    assert "not supported yet on azure" in request.error["message"]


async def test_a_job_that_asks_for_more_than_there_is_is_refused(ask):
    await launched(ask, resources={"accelerators": "H100:1"})
    request = await ask("exec", {"task": {"run": "true", "resources": {"accelerators": "H100:2"}}, "cluster_name": "c"})
    assert request.error["type"] == "ResourcesMismatchError"


async def test_devices_are_shared_in_fractions(plane, ask, log_of):
    await launched(ask, resources={"accelerators": "H100:1"})
    # Each waits for the other, so neither ends unless both run at the same time.
    meet = "echo here >> ~/halves; until [ $(wc -l < ~/halves) = 2 ]; do sleep 0.05; done"
    task = {"run": f"echo dev=$CUDA_VISIBLE_DEVICES; {meet}", "resources": {"accelerators": "H100:0.5"}}
    ids = [(await ask("exec", {"task": task, "cluster_name": "c"})).result["job_id"] for _ in range(2)]
    texts = await asyncio.gather(*(log_of("c", number) for number in ids))
    assert all("dev=0" in text for text in texts)
    assert {(await plane.job_outcome("c", number)).status for number in ids} == {JobStatus.SUCCEEDED}


async def test_cancel_ends_the_processes(plane, ask):
    job_id = await launched(ask, run="sleep 600 & sleep 600")
    cluster = (await plane.clusters(["c"]))[0]
    request = await ask("cancel", {"cluster_name": "c", "job_ids": [job_id]})
    assert request.result == {"cancelled": [job_id]}
    assert (await plane.job_outcome("c", job_id)).status is JobStatus.CANCELLED
    names = {_name(pid) for pid in processes.of_node(cluster.instances[0].id)}
    assert "bash" not in names


async def test_autodown_removes_an_idle_cluster(plane, ask):
    request = await ask("launch", {"task": {"run": "true"}, "cluster_name": "c", "down": True})
    record = await plane.store.clusters.by_request(request.id)

    async def load():
        return await plane.store.clusters.get(record.id)

    async with asyncio.timeout(60):
        gone = await until(plane.signals, f"cluster:{record.id}", load, lambda now: not now.alive)
    assert gone.reason == "autodown"


@pytest.mark.parametrize(("down", "opened"), [(False, 1), (True, 2)])
async def test_a_launch_that_meets_an_autostop_brings_the_cluster_up_again(
    plane, ask, monkeypatch, log_of, down, opened
):
    await launched(ask)
    real, met = JobWork._try, []

    async def meets(self, cluster, job, order):
        if isinstance(order, job_life.Submit) and not met:
            met.append(cluster.id)
            told = {"cluster_name": "c", "idle_minutes": 0, "down": down, "wait_for": "none"}
            assert (await ask("autostop", told, 30)).error is None
            async with asyncio.timeout(60):
                while (await plane.store.clusters.get(cluster.id)).phase is Phase.UP:
                    await asyncio.sleep(0.01)
        return await real(self, cluster, job, order)

    monkeypatch.setattr(JobWork, "_try", meets)
    task = {"run": "echo through", "resources": {"infra": "local", "cpus": 1}}
    done = await ask("launch", {"task": task, "cluster_name": "c"}, 90)
    assert done.error is None and met
    assert "through" in await log_of("c", done.result["job_id"])
    assert "it was stopping for want of work" in plane.progress_file(done.id).read_text()
    assert len(await plane.store.clusters.since(0.0)) == opened


@pytest.mark.parametrize("name", ["launch", "start", "autostop"])
async def test_who_asks_for_an_autostop_waits_until_the_head_has_heard_of_it(plane, ask, monkeypatch, name):
    await launched(ask)
    if name == "start":
        await ask("stop", {"cluster_name": "c"})
    set_autostop = HeadAgent.set_autostop

    async def slowly(head, autostop):
        await asyncio.sleep(0.5)
        await set_autostop(head, autostop)

    monkeypatch.setattr(HeadAgent, "set_autostop", slowly)
    own = {"idle_minutes": 7} if name == "autostop" else {"idle_minutes_to_autostop": 7, "task": {"run": "true"}}
    assert (await ask(name, {"cluster_name": "c", **own})).error is None
    (cluster,) = await plane.clusters(["c"])
    told = await (await plane._fleet.head(cluster))._client.autostop_get()
    assert told["idle_minutes"] == 7


async def test_autostop_stops_and_keeps_the_files(plane, ask):
    await launched(ask, run="echo kept > ~/file")
    await ask("autostop", {"cluster_name": "c", "idle_minutes": 0})
    stopped = await reaches(plane, "c", Phase.STOPPED)
    assert stopped.reason == "autostopped"
    await ask("start", {"cluster_name": "c"})
    request = await ask("exec", {"task": {"run": "cat ~/file"}, "cluster_name": "c"})
    assert request.result == {"job_id": 2, "cluster_name": "c"}, request.error


async def test_a_killed_node_degrades_the_cluster_with_a_reason_and_start_mends_it(plane, ask):
    await launched(ask, num_nodes=2)
    cluster = (await plane.clusters(["c"]))[0]
    processes.end_all(cluster.instances[1].id, None)
    (seen,) = await plane.clusters(["c"], refresh=True)
    assert seen.phase is Phase.DEGRADED
    assert "1 of 2 nodes run" in seen.reason
    assert (await ask("start", {"cluster_name": "c"})).status is RequestStatus.SUCCEEDED
    assert (await plane.clusters(["c"]))[0].phase is Phase.UP


async def test_a_killed_agent_comes_back_and_the_job_goes_on(plane, ask, log_of):
    job_id = await launched(ask, run="echo begun; sleep 1; echo done")
    cluster = (await plane.clusters(["c"]))[0]
    for pid in processes.of_node(cluster.instances[0].id):
        if "agent-" in _command(pid) and "respawn" not in _command(pid):
            os.kill(pid, signal.SIGKILL)
    text = await log_of("c", job_id)
    assert text.count("begun") == 1
    assert text.count("done") == 1
    assert (await plane.job_outcome("c", job_id)).status is JobStatus.SUCCEEDED


TIDY = "trap 'sleep 0.5; echo tidied > ~/tidied; exit 0' TERM; echo ready > ~/ready; while :; do sleep 0.05; done"


async def test_a_graceful_stop_lets_jobs_tidy_up(plane, ask, state):
    job_id = await launched(ask, run=TIDY)
    (home,) = (state / "local").glob("*/0/home")
    while not (home / "ready").exists():
        await asyncio.sleep(0.01)
    done = await ask("stop", {"cluster_name": "c", "graceful": True, "graceful_timeout": 20})
    assert done.status is RequestStatus.SUCCEEDED, done.error
    assert (home / "tidied").read_text() == "tidied\n"
    assert (await plane.job_outcome("c", job_id)).status is JobStatus.CANCELLED


async def test_a_graceful_stop_does_not_wait_for_ever(plane, ask, state):
    await launched(ask, run="trap '' TERM; echo ready > ~/ready; while :; do sleep 0.05; done")
    (home,) = (state / "local").glob("*/0/home")
    while not (home / "ready").exists():
        await asyncio.sleep(0.01)
    request = await plane.submit("stop", {"cluster_name": "c", "graceful": True, "graceful_timeout": 0.2}, user="u")
    assert (await plane.wait(request.id, 60)).status is RequestStatus.SUCCEEDED
    assert "still run after 0.2 s" in plane.progress_file(request.id).read_text()


async def test_cancelling_a_launch_leaves_no_machine(plane, state):
    request = await plane.submit("launch", {"task": {"run": "true", "num_nodes": 4}, "cluster_name": "c"}, user="u")
    while await plane.store.clusters.by_request(request.id) is None:
        await asyncio.sleep(0)
    await plane.cancel_requests([request.id], user="u")
    assert (await plane.wait(request.id, 60)).status is RequestStatus.CANCELLED
    record = await plane.store.clusters.by_request(request.id)

    async def load():
        return await plane.store.clusters.get(record.id)

    async with asyncio.timeout(60):
        await until(plane.signals, f"cluster:{record.id}", load, lambda now: not now.alive)
    assert list((state / "local").glob("*")) == []


async def test_following_a_log_ends_with_the_job_when_the_cluster_goes_down(plane, ask):
    job_id = await launched(ask, run="echo begun; sleep 600")
    record = await plane.job_outcome("c", job_id)
    pieces = []

    async def follow():
        async for piece in plane.job_log("c", job_id, follow=True):
            pieces.append(piece)  # noqa: PERF401 - looked at while it grows

    following = asyncio.create_task(follow())
    while not pieces:
        await asyncio.sleep(0.01)
    await ask("down", {"cluster_name": "c"})
    await asyncio.wait_for(following, 60)
    assert pieces[-1].ended
    assert (await plane.job(record.id)).status is JobStatus.FAILED_DRIVER


async def test_logs_of_a_stopped_cluster_say_why_not(plane, ask, log_of):
    job_id = await launched(ask)
    await ask("stop", {"cluster_name": "c"})
    with pytest.raises(ClusterNotUpError):
        await log_of("c", job_id)


async def test_the_story_is_told(plane, ask):
    await launched(ask)
    texts = [entry.text for entry in await plane.stories("c")]
    assert texts[:3] == ["asked for 1x localhost on local", "1 node running; starting the agent", "up"]


async def test_git_workdir(plane, ask, log_of, tmp_path):
    repo = tmp_path / "repo"
    for command in (
        f"git init -q -b main {repo}",
        f"git -C {repo} -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
        f"sh -c 'echo hello > {repo}/f'",
        f"git -C {repo} add f",
        f"git -C {repo} -c user.name=a -c user.email=a@b commit -q -m y",
    ):
        process = await asyncio.create_subprocess_shell(command)
        assert await process.wait() == 0
    job_id = await launched(
        ask, workdir={"url": f"file://{repo}", "ref": "main"}, run="cat f; echo at=$GIT_COMMIT_HASH"
    )
    text = await log_of("c", job_id)
    job = await plane.job_outcome("c", job_id)
    assert "hello" in text
    assert len(job.git_commit) == 40
    assert f"at={job.git_commit}" in text


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _name(pid):
    return _command(pid).split(" ")[0].rpartition("/")[2]


async def test_a_request_does_not_begin_with_old_news(plane, ask):
    await launched(ask)

    async def talk_of(name, **body):
        request = await ask(name, {"cluster_name": "c", **body})
        said = plane.progress_file(request.id)
        return said.read_text().splitlines() if said.exists() else []

    assert await talk_of("launch", task={"run": "true"}) == []
    assert await talk_of("stop") == ["c: stopping", "c: stopped"]
    started = await talk_of("start")
    assert (started[0], started.count("c: up")) == ("c: starting", 1)
    assert await talk_of("autostop", idle_minutes=10) == ["c: autostop after 10 idle min"]
    assert (await talk_of("down"))[0] == "c: terminating"


async def test_a_request_that_could_not_be_told_something_says_so_in_the_events_of_its_cluster(plane, ask, monkeypatch):
    step = Table.step

    def picky(table, entity, event, now):
        if isinstance(event, request_life.Begun) and entity.status is RequestStatus.SUCCEEDED:
            raise UnexpectedEvent("request: no rule for it")
        return step(table, entity, event, now)

    monkeypatch.setattr(work, "LEASE_S", 0.2)
    monkeypatch.setattr(Table, "step", picky)
    request = await ask("launch", {"task": {"run": "true"}, "cluster_name": "c"})
    await plane._post.send("request", plane.store.requests, request.id, request_life.Begun())

    async def told():
        return [line for line in await plane.stories("c") if line.text.startswith(work.SET_ASIDE)]

    async with asyncio.timeout(60):
        (line,) = await until(plane.signals, f"request:{request.id}", told, bool)
    assert "Begun" in line.text
    assert {each.entity for each in await plane.stories("c")} >= {"cluster", "request"}
