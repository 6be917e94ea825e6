"""Managed jobs through a whole control plane: real store, real local nodes, real agents."""

import asyncio
from dataclasses import replace

import pytest

from sky.core.lifecycle import clusters as cluster_life
from sky.core.model.managed_jobs import Stage
from sky.core.policy.recovery import Choice
from sky.core.ports import JobQuery
from sky.engine import recovering
from sky.engine.managed_jobs import cluster_id_of, cluster_name_of
from sky.engine.nudges import Nudges
from sky.engine.waiting import until
from sky.sim.managed_job_contract import managed
from sky.store.leases import LeasedRows


def body(*tasks, **more):
    read = [{"resources": {"infra": "local", "cpus": 1}, **task} for task in tasks]
    return {"dag": {"tasks": read, "edges": [[at, at + 1] for at in range(len(read) - 1)]}, **more}


@pytest.fixture
def launch(ask):
    async def launched(*tasks, **more):
        request = await ask("jobs/launch", body(*tasks, **more))
        assert request.error is None, request.error
        return request.result["job_ids"]

    return launched


@pytest.fixture
def reach(plane):
    """Wait until a job has come so far."""

    async def reached(number, so_far, timeout=100):
        job = await plane.managed.by_number(number)

        async def load():
            return await plane.managed.get(job.id)

        async with asyncio.timeout(timeout):
            return await until(plane.signals, f"managed_job:{job.id}", load, so_far)

    return reached


@pytest.fixture
def over(reach):
    async def ended(number):
        return await reach(number, lambda job: job.stage is Stage.DONE)

    return ended


@pytest.fixture
def said(plane):
    """The whole log of a job's task."""

    async def read(number, at=0):
        job = await plane.managed.by_number(number)
        return b"".join([piece.data async for piece in plane.managed.log(job, at, follow=True)]).decode()

    return read


async def nothing_left(plane):
    return await plane.clusters(managed=True) == []


async def test_its_head_is_told_of_its_autostop_while_it_is_brought_up(plane, ask, launch, reach, over, monkeypatch):
    real, ordered = LeasedRows._give, []

    async def give(self, tx, entity, orders):
        ordered.extend(type(each) for each in orders)
        return await real(self, tx, entity, orders)

    monkeypatch.setattr(LeasedRows, "_give", give)
    (number,) = await launch({"run": "sleep 600"})
    job = await reach(number, lambda job: job.stage is Stage.RUNNING)
    cluster = await plane.store.clusters.get(job.cluster_id)
    told = await (await plane._fleet.head(cluster))._client.autostop_get()
    assert (told["idle_minutes"], told["down"]) == (cluster.autostop.idle_minutes, True)
    assert cluster_life.Bootstrap in ordered and cluster_life.ConfigureAutostop not in ordered
    await ask("jobs/cancel", {"job_ids": [number]})
    await over(number)


async def test_a_pipeline_runs_task_after_task_on_clusters_of_their_own(plane, launch, over, said):
    (number,) = await launch(
        {"name": "a", "run": "echo first on $(hostname)"}, {"name": "b", "run": 'echo "$SKYPILOT_TASK_IDS" | wc -l'}
    )
    job = await over(number)
    assert [task.status.value for task in job.tasks] == ["SUCCEEDED", "SUCCEEDED"]
    assert [task.attempts for task in job.tasks] == [(1,), (2,)]
    assert "first on" in await said(number, 0)
    assert ") 2\n" in await said(number, 1)
    assert await nothing_left(plane)
    names = [each.name for each in await plane.store.clusters.since(0.0)]
    assert sorted(names) == [f"a-{number}", f"b-{number}"]


async def test_a_failed_task_leaves_out_the_rest(launch, over):
    (number,) = await launch({"name": "a", "run": "exit 2"}, {"name": "b", "run": "echo never"})
    job = await over(number)
    assert [task.status.value for task in job.tasks] == ["FAILED", "CANCELLED"]
    assert (job.tasks[1].attempts, job.status.value) == ((), "FAILED")


async def test_an_array_has_ranks_and_begins_in_turn(plane, launch, over, said):
    plane._admission._section = lambda name: {"running_at_once": 1}
    numbers = await launch({"run": "echo rank $SKYPILOT_JOB_RANK of $SKYPILOT_NUM_JOBS"}, name="many", num_jobs=3)
    last = await plane.managed.by_number(numbers[-1])
    assert (last.name, last.rank) == ("many-2", 2)
    # Whoever waits is told for what; the first may have ended meanwhile, and the next be admitted at any moment.
    if last.stage is Stage.WAITING:
        told = await plane.managed.why(last)
        assert "which is the limit" in told or "its turn comes at once" in told
    jobs = [await over(number) for number in numbers]
    begun = [job.task.submitted_at for job in jobs]
    ended = [job.ended_at for job in jobs]
    assert begun == sorted(begun)
    assert all(end <= begin for end, begin in zip(ended, begun[1:], strict=False)), "one at a time"
    for rank, number in enumerate(numbers):
        assert f"rank {rank} of 3\n" in await said(number)


async def test_a_request_that_is_repeated_opens_no_second_job(plane):
    first = await plane.submit("jobs/launch", body({"run": "true"}), user="u", request_id="again-and-again")
    await plane.wait(first.id, 60)
    again = await plane.submit("jobs/launch", body({"run": "true"}), user="u", request_id="again-and-again")
    await plane.wait(again.id, 60)
    assert len((await plane.managed.listed(JobQuery())).jobs) == 1
    done = await plane.submit("jobs/cancel", {"all": True}, user="u")
    await plane.wait(done.id, 60)


async def test_its_cluster_is_hidden_and_its_own(plane, launch, reach, ask, over):
    (number,) = await launch({"name": "mine", "run": "sleep 1000"})
    job = await reach(number, lambda job: job.status.value == "RUNNING")
    name = f"mine-{number}"
    assert (job.cluster_name, job.cluster_id) == (name, cluster_id_of(job))
    assert await plane.clusters() == []
    assert [each.name for each in await plane.clusters([name])] == [name]
    for verb in ("down", "stop", "start"):
        refused = await ask(verb, {"cluster_name": name})
        assert "is a managed job's" in refused.error["message"]
    cancelled = await ask("jobs/cancel", {"job_ids": [number]})
    assert cancelled.result == {"cancelled": [number]}
    assert (await over(number)).status.value == "CANCELLED"
    assert await nothing_left(plane)
    assert (await ask("jobs/cancel", {"job_ids": [number]})).result == {"cancelled": []}


async def test_a_graceful_end_lets_processes_end_by_themselves(launch, reach, ask, over, said, tmp_path):
    ready = tmp_path / "ready"
    (number,) = await launch({"run": f"trap 'echo saved; exit 0' TERM; touch {ready}; while :; do sleep 0.1; done"})
    await reach(number, lambda job: job.status.value == "RUNNING")
    while not ready.exists():
        await asyncio.sleep(0.01)
    await ask("jobs/cancel", {"job_ids": [number], "graceful": True, "graceful_timeout": 20})
    assert (await over(number)).status.value == "CANCELLED"
    assert "saved" in await said(number)


async def test_it_runs_no_longer_than_it_may(plane, launch, over):
    limited = {"infra": "local", "job_recovery": {"max_run_time": 1}}
    (number,) = await launch({"run": "sleep 1000", "resources": limited})
    job = await over(number)
    assert (job.status.value, "max_run_time" in job.reason) == ("FAILED", True)
    assert await nothing_left(plane)


async def test_the_cluster_of_a_failed_job_may_be_kept(plane, launch, over, ask):
    kept = {"infra": "local", "job_recovery": {"keep_on_failure": True}}
    (number,) = await launch({"name": "kept", "run": "exit 1", "resources": kept})
    job = await over(number)
    cluster = await plane.named(job.cluster_name)

    async def load():
        return await plane.store.clusters.get(cluster.id)

    async with asyncio.timeout(60):
        await until(plane.signals, f"cluster:{cluster.id}", load, lambda now: now.owner is None)
    await Nudges(plane._desk).net()
    assert [each.name for each in await plane.clusters()] == [job.cluster_name]
    assert (await ask("down", {"cluster_name": job.cluster_name})).error is None


async def test_a_strategy_of_somebody_elses_decides(plane, launch, over, monkeypatch):
    asked = []

    def patient(history):
        asked.append(history)
        return Choice(wait=0.3, reason="cheaper in a moment") if len(asked) < 3 else Choice(reason="now")

    monkeypatch.setitem(recovering.strategies(), "PATIENT", patient)
    (number,) = await launch({"run": "true", "resources": {"infra": "local", "job_recovery": {"strategy": "patient"}}})
    job = await over(number)
    assert (job.status.value, len(asked), job.task.attempts) == ("SUCCEEDED", 3, (1,))
    told = [entry.text for entry in await plane.managed.story(job)]
    assert [text for text in told if "cheaper in a moment" in text]
    assert any(text.endswith("(now)") for text in told)


def recovering_by(**said):
    return {"infra": "local", "job_recovery": {"strategy": "deadline", **said}}


async def test_one_with_a_deadline_runs_by_its_policy_and_says_why(plane, launch, over):
    (number,) = await launch(
        {"run": "sky progress 0.5; sleep 1", "resources": recovering_by(deadline="2h", work="1h", policy="greedy")}
    )
    job = await over(number)
    assert job.status.value == "SUCCEEDED"
    told = [entry.text for entry in await plane.managed.story(job)]
    # Without spot on this machine there is nothing to wait for.
    assert any("nobody sells spot" in text for text in told), told
    assert any("to the deadline" in text and "$0.00 so far" in text for text in told), told


async def test_a_job_without_enough_memory_asks_for_more_on_the_next_try(plane, launch, over, tmp_path):
    task = {
        "run": f"[ -e {tmp_path}/been ] && exit 0; touch {tmp_path}/been; echo MemoryError; exit 1",
        "resources": {"infra": "local", "memory": "1+"},
        "on_oom": {"grow": "1.5x", "max": "2GB"},
        "checkpoint": {"path": str(tmp_path / "kept")},
    }
    (number,) = await launch(task)
    job = await over(number)
    assert (job.status.value, job.task.grown, job.task.recoveries, job.task.restarts) == ("SUCCEEDED", 1, 1, 0)
    told = [entry.text for entry in await plane.managed.story(job)]
    (why,) = [text for text in told if "on_oom" in text or "out_of_memory" in text]
    assert "out_of_memory with 1 GB: 1.5 GB on the next try" in why
    assert "no complete checkpoint, so it begins from the start" in why
    asked = {each.created_at: each.resources_config["memory"] for each in await plane.store.clusters.since(0.0)}
    assert [asked[at] for at in sorted(asked)] == ["1+", "1.5+"]


async def test_it_grows_no_further_than_it_may(plane, launch, over):
    task = {
        "run": "echo MemoryError; exit 1",
        "resources": {"infra": "local", "memory": "1+"},
        "on_oom": {"grow": "2x", "max": "1.5GB"},
    }
    (number,) = await launch(task)
    job = await over(number)
    assert (job.status.value, job.task.grown, len(job.task.attempts)) == ("FAILED", 1, 2)
    assert "on_oom.max allows 1.5 GB" in job.reason


async def test_what_is_larger_than_anything_ends_it(launch, over):
    task = {
        "run": "echo MemoryError; exit 1",
        "resources": {"infra": "local", "memory": "1+"},
        "on_oom": {"grow": "100x", "max": "99999GB"},
    }
    (number,) = await launch(task)
    job = await over(number)
    assert job.status.value in ("FAILED_NO_RESOURCE", "FAILED")
    assert job.task.grown >= 1


async def test_what_cannot_be_is_refused_or_ends_at_once(ask, launch, over):
    for task, words in (
        ({"run": "true", "resources": {"infra": "local", "job_recovery": "nobodys"}}, "EAGER_NEXT_REGION"),
        ({"run": "true", "resources": {"infra": "local", "job_recovery": "deadline"}}, "takes both deadline"),
        ({"run": "true", "resources": recovering_by(deadline="1h", work="55m")}, "Give it more time"),
        ({"run": "true", "resources": recovering_by(deadline="9h", work="1h", policy="luck")}, "uniform-progress"),
        ({"run": "true", "resources": recovering_by(strategy="failover", deadline="9h")}, "goes with strategy"),
        ({}, "nothing to run"),
    ):
        refused = await ask("jobs/launch", body(task))
        assert words in refused.error["message"]
    unfit = await ask("jobs/launch", {**body({"run": "true"}), "name": "ü`"})
    assert "found the name" in unfit.error["message"], "its log and its cluster could not be called so"
    (number,) = await launch({"run": "true", "resources": {"infra": "local", "accelerators": "H100:64"}})
    job = await over(number)
    assert (job.status.value, job.attempt) == ("FAILED_NO_RESOURCE", 1)
    assert "H100" in job.reason


async def test_a_lost_wake_up_is_found(plane, launch, reach, over, tmp_path):
    (number,) = await launch({"run": f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"})
    await reach(number, lambda job: job.stage is Stage.RUNNING)
    # Nobody tells of what becomes of the job on the cluster.
    for driver in plane._drivers:
        driver._noun._moved = None
    (tmp_path / "go").touch()
    there = await plane.managed.by_number(number)

    async def load():
        return await plane.store.jobs.by_request(there.job_key)

    async with asyncio.timeout(60):
        await until(plane.signals, "nothing", load, lambda job: job.phase.value == "DONE")
    net = Nudges(plane._desk)
    await net.net()
    assert (await over(number)).status.value == "SUCCEEDED"


async def test_clusters_that_no_job_needs_are_ended(plane, launch, reach, over, ask):
    (number,) = await launch({"run": "sleep 1000"})
    job = await reach(number, lambda job: job.stage is Stage.RUNNING)
    cluster = await plane.store.clusters.get(job.cluster_id)
    stray = replace(cluster, id="a-stray-one", name="stray", instances=(), sites=(), entered=True, version=0)
    await plane.store.clusters.open(cluster_life.Step(stray, ()), plane.clock.now())
    await Nudges(plane._desk).net()

    async def load():
        return await plane.store.clusters.get("a-stray-one")

    async with asyncio.timeout(60):
        await until(plane.signals, "cluster:a-stray-one", load, lambda now: not now.alive)
    assert (await plane.managed.by_number(number)).stage is Stage.RUNNING
    await ask("jobs/cancel", {"all": True})
    await over(number)


def test_names_of_clusters_are_fit():
    made = [replace(managed("a"), name=name, number=7) for name in ("ok", "a b/c", "9lives", "x" * 40, "--")]
    assert [cluster_name_of(each) for each in made] == ["ok-7", "a-b-c-7", "job-9lives-7", f"{'x' * 25}-7", "job-7"]
