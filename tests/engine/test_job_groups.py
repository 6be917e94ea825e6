"""Managed jobs that belong together, through a whole control plane: real store, real local nodes, real agents."""

import asyncio
from itertools import pairwise

import pytest

from sky.core.model.managed_jobs import Stage
from sky.core.ports import JobQuery
from sky.engine.waiting import until


def dag(*tasks, **header):
    read = [{"resources": {"infra": "local", "cpus": 1}, **task} for task in tasks]
    return {"dag": {"tasks": read, **header}}


@pytest.fixture
def launch(ask):
    async def launched(body, **more):
        request = await ask("jobs/launch", {**body, **more})
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
    async def ended(number, **more):
        return await reach(number, lambda job: job.stage is Stage.DONE, **more)

    return ended


@pytest.fixture
def said(plane):
    """The whole log of a job's task."""

    async def read(number, at=0):
        job = await plane.managed.by_number(number)
        return b"".join([piece.data async for piece in plane.managed.log(job, at, follow=True)]).decode()

    return read


def words(job):
    return [task.status.value for task in job.tasks]


async def test_a_group_of_two_talks_by_name_and_by_variable(plane, launch, over, said):
    serve = "import http.server as h; h.HTTPServer(('0.0.0.0', 18117), h.SimpleHTTPRequestHandler).serve_forever()"
    ask = (
        'cat ~/.sky/hosts; echo "group $SKYPILOT_JOBGROUP_NAME"; '
        "at=$(awk '$2 == \"server-0.talk\" {print $1}' ~/.sky/hosts); "
        '[ "$at" = "$SKYPILOT_JOBGROUP_NODE_IPS_SERVER" ] || exit 3; '
        "for i in $(seq 100); do "
        "python3 -c \"import urllib.request as r; print(r.urlopen('http://$at:18117/').status)\" && exit 0; sleep 0.1; "
        "done; exit 4"
    )
    numbers = await launch(
        dag(
            {"name": "server", "run": f'python3 -c "{serve}"'},
            {"name": "asker", "run": ask},
            name="talk",
            execution="parallel",
            primary_tasks=["asker"],
            termination_delay=1,
        )
    )
    assert numbers == [1]
    job = await over(1)
    assert words(job) == ["CANCELLED", "SUCCEEDED"]
    assert job.status.value == "SUCCEEDED"
    assert job.tasks[0].ended_at >= job.tasks[1].ended_at + 1
    text = await said(1, 1)
    assert "server-0.talk server.talk\n" in text
    assert "asker-0.talk asker.talk\n" in text
    assert "group talk\n" in text
    assert ") 200\n" in text
    assert await plane.clusters(managed=True) == []
    made = await plane.money.receipts.of_job(job)
    assert {line.entry.cluster_name for line in made.lines} == {"asker-1-1", "server-1-0"}
    names = [each.name for each in await plane.store.clusters.since(0.0)]
    assert sorted(names) == ["asker-1-1", "server-1-0"]
    assert [each.number for each in (await plane.managed.listed(JobQuery())).jobs] == [1]


async def test_a_failed_auxiliary_does_not_fail_the_group_and_a_failed_primary_does(
    plane, launch, reach, over, tmp_path
):
    (first,) = await launch(
        dag(
            {"name": "main", "run": f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"},
            {"name": "aux", "run": "exit 7"},
            name="g",
            execution="parallel",
            primary_tasks=["main"],
        )
    )
    (second,) = await launch(
        dag(
            {"name": "main", "run": "exit 7"},
            {"name": "other", "run": "sleep 2; true"},
            name="h",
            execution="parallel",
        )
    )
    # What the auxiliary has come to is seen first; the end of the primary would call it off.
    await reach(first, lambda job: words(job)[1] == "FAILED")
    (tmp_path / "go").touch()
    one, two = await over(first), await over(second)
    assert (words(one), one.status.value) == (["SUCCEEDED", "FAILED"], "SUCCEEDED")
    # A member that fails does not stop the others.
    assert (words(two), two.status.value) == (["FAILED", "SUCCEEDED"], "FAILED")
    assert "exit code 7" in two.reason


async def test_a_diamond(plane, launch, over, said, tmp_path):
    note = f"echo $SKYPILOT_MANAGED_JOB_ID {{}} >> {tmp_path}/order"
    (number,) = await launch(
        dag(
            {"name": "d", "run": note.format("d"), "depends_on": ["b", "c"]},
            {"name": "b", "run": note.format("b"), "depends_on": ["a"]},
            {"name": "c", "run": note.format("c"), "depends_on": ["a"]},
            {"name": "a", "run": note.format("a")},
            name="diamond",
        )
    )
    job = await over(number)
    assert words(job) == ["SUCCEEDED"] * 4
    order = (tmp_path / "order").read_text().split()
    assert order[0::2] == [str(number)] * 4
    assert (order[1], order[-1], sorted(order[3:-1:2])) == ("a", "d", ["b", "c"])


async def test_a_failing_branch_leaves_out_what_follows_it_alone(plane, launch, over):
    (number,) = await launch(
        dag(
            {"name": "a", "run": "exit 2"},
            {"name": "b", "run": "true", "depends_on": ["a"]},
            {"name": "c", "run": "true", "depends_on": ["b"]},
            {"name": "x", "run": "true"},
            {"name": "y", "run": "true", "depends_on": ["x"]},
        )
    )
    job = await over(number)
    assert words(job) == ["FAILED", "CANCELLED", "CANCELLED", "SUCCEEDED", "SUCCEEDED"]
    assert job.status.value == "FAILED"
    assert job.tasks[1].reason == "task 'a', which it was to wait for, ended as FAILED"
    assert job.tasks[2].reason == "task 'b', which it was to wait for, ended as CANCELLED"
    assert any(each.text.startswith("b: task 'a', which") for each in await plane.managed.story(job))


async def test_a_sweep(plane, launch, over, said):
    (number,) = await launch(
        dag(
            {
                "name": "fit",
                "run": "echo lr $LR seed $SEED rank $SKYPILOT_JOB_RANK of $SKYPILOT_NUM_JOBS",
                "sweep": {
                    "matrix": {"LR": ["0.1", "1e-3"], "SEED": ["1", "2"]},
                    "exclude": [{"LR": "1e-3", "SEED": "2"}],
                    "max_parallel": 1,
                },
            }
        )
    )
    job = await over(number)
    assert words(job) == ["SUCCEEDED"] * 3
    assert [task.name for task in job.tasks] == ["fit-LR-0.1-SEED-1", "fit-LR-0.1-SEED-2", "fit-LR-1e-3-SEED-1"]
    assert "lr 1e-3 seed 1 rank 2 of 3\n" in await said(number, 2)
    spans = [(task.submitted_at, task.ended_at) for task in job.tasks]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans)), "one at a time"


async def test_a_whole_is_cancelled_as_one_and_one_member_alone(plane, launch, reach, ask, over):
    (number,) = await launch(
        dag(
            {"name": "a", "run": "sleep 1000"},
            {"name": "b", "run": "sleep 1000"},
            {"name": "c", "run": "true", "depends_on": ["a"]},
        )
    )
    await reach(number, lambda job: words(job) == ["RUNNING", "RUNNING", "PENDING"])
    job = await plane.managed.by_number(number)
    assert (await plane.managed.why_tasks(job))[2] == "waiting for task 'a' (RUNNING)"
    refused = await ask("jobs/cancel", {"job_ids": [number], "task": "nobody"})
    assert "it has: a, b, c" in refused.error["message"]
    await ask("jobs/cancel", {"job_ids": [number], "task": "b"})
    await reach(number, lambda job: words(job)[1] == "CANCELLED")
    assert (await ask("jobs/cancel", {"job_ids": [number]})).result == {"cancelled": [number]}
    job = await over(number)
    assert (words(job), job.status.value) == (["CANCELLED"] * 3, "CANCELLED")
    assert await plane.clusters(managed=True) == []


async def test_jobs_of_other_submissions_are_waited_for(plane, launch, reach, over, ask, tmp_path):
    go = tmp_path / "go"
    (good,) = await launch(dag({"run": f"while [ ! -e {go} ]; do sleep 0.1; done"}))
    (bad,) = await launch(dag({"run": "exit 1"}))
    (after,) = await launch(dag({"run": "true"}), after=[good], after_any=[bad])
    (never,) = await launch(dag({"run": "true"}, {"run": "true"}), after=[bad])
    (whole,) = await launch(
        dag({"name": "x", "run": "true"}, {"name": "y", "run": "true", "depends_on": []}), after=[good]
    )
    job = await reach(after, lambda job: job.stage is Stage.HELD and len(job.after) == 1)
    assert job.schedule_state.value == "WAITING"
    assert f"waiting for managed job {good} (" in await plane.managed.why(job)
    ended = await over(never)
    assert words(ended) == ["CANCELLED", "CANCELLED"]
    assert ended.reason == f"managed job {bad}, which it was to wait for, ended as FAILED"
    assert all(task.submitted_at is None for task in (await plane.managed.by_number(whole)).tasks)
    go.touch()
    assert (await over(after)).status.value == "SUCCEEDED"
    assert words(await over(whole)) == ["SUCCEEDED", "SUCCEEDED"]
    refused = await ask("jobs/launch", {**dag({"run": "true"}), "after": [777]})
    assert "managed job 777 not found" in refused.error["message"]


async def test_what_is_launched_into_a_group_as_it_is_called_off_is_called_off_too(
    plane, launch, over, reach, monkeypatch
):
    (group,) = await launch(dag({"name": "a", "run": "sleep 600"}, {"name": "b", "run": "sleep 600"},
                                name="g", execution="parallel"))  # fmt: skip
    await reach(group, lambda job: words(job) == ["RUNNING", "RUNNING"])
    opened, rows = plane.store.managed_jobs.open, plane.store.managed_jobs

    async def late(steps, now):
        # The group's members, and what is attached to it, have been told of its end before this one is on record.
        await plane.submit("jobs/cancel", {"job_ids": [group]}, user="u")
        await over(group)
        return await opened(steps, now)

    monkeypatch.setattr(rows, "open", late)
    (child,) = await launch(dag({"name": "c", "run": "sleep 600"}), job_group="g")
    assert words(await over(child)) == ["CANCELLED"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"job_group": "nobody"}, "no job group 'nobody' of yours is under way"),
        ({"job_group": "1"}, "no job group '1' of yours is under way"),
    ],
)
async def test_only_a_group_that_is_under_way_can_be_joined(plane, ask, launch, over, more, problem):
    (single,) = await launch(dag({"name": "c", "run": "true"}))
    assert single == 1
    await over(single)
    request = await ask("jobs/launch", {**dag({"name": "d", "run": "true"}), **more})
    assert problem in str(request.error)
    (lax,) = await launch(dag({"name": "d", "run": "true"}), **more, job_group_lax=True)
    assert words(await over(lax)) == ["SUCCEEDED"]
