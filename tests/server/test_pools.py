"""Pools of a shared server: who sees, changes and ends whose; what is refused before anything is on record."""

import asyncio
from dataclasses import replace

import pytest
from townhall import Town

from sky.core.lifecycle import managed_jobs as job_life
from sky.core.lifecycle import pools as life
from sky.core.lifecycle.machine import Step
from sky.core.model.managed_jobs import Stage
from sky.core.model.pools import Worker, WorkerState
from sky.sim.managed_job_contract import managed
from sky.sim.pool_contract import pool


def put(town: Town, name: str, user: str, workspace: str) -> None:
    """A pool on record with one worker, which a job has."""
    store = town.plane.store
    worker = Worker(1, 1, f"w-{name}", WorkerState.READY, f"{name}-1")
    made = replace(pool(f"id-{name}", name), user=user, workspace=workspace, workers=(worker,))
    job = replace(
        managed(f"j-{name}", f"r-{name}", user), stage=Stage.RUNNING, pool=name, pool_id=made.id,
        job_key=f"managed:j-{name}:1", workspace=workspace,
    )  # fmt: skip

    async def work() -> None:
        await store.pools.open(Step(life.opening(made).entity, ()), 1.0)
        await store.managed_jobs.open([replace(job_life.opening(job), entity=job)], 1.0)
        await store.pools.take(made.id, f"managed:j-{name}:1")

    asyncio.run(work())


@pytest.fixture
def two(town: Town) -> Town:
    """Pools of anna's: one in a workspace that bob may not look into."""
    config = {"private": True, "allowed_users": ["anna"]}
    made = town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})
    assert made[0] == 200
    put(town, "open", "anna", "default")
    put(town, "secret", "anna", "team")
    return town


def names(town: Town, token: str, **asked: object) -> list[str]:
    status, told = town.call(token, "POST", "/jobs/pool_status", asked)
    assert status == 200, told
    return [each["name"] for each in told["result"]]


def test_pools_are_shown_to_those_who_see_their_workspace(two: Town) -> None:
    anna, bob, vic = two.move_in("anna"), two.move_in("bob"), two.move_in("vic", "viewer")
    assert names(two, anna) == names(two, two.owner) == ["open", "secret"]
    assert names(two, bob) == names(two, vic) == ["open"]
    assert names(two, anna, names=["se*"]) == ["secret"]
    _, told = two.call(anna, "POST", "/jobs/pool_status", {"names": ["open"]})
    (found,) = told["result"]
    assert (found["status"], found["ready_workers"], found["unfinished_jobs"]) == ("READY", 1, 1)
    (worker,) = found["replica_info"]
    assert (worker["status"], worker["used_by"], worker["name"]) == ("READY", 1, "open-1")
    assert "hidden" not in str(told)


def test_logs_of_what_is_hidden_are_not_there(two: Town) -> None:
    bob = two.move_in("bob")
    assert two.call(bob, "POST", "/jobs/pool_logs", {"pool_name": "secret"})[0] == 404
    assert two.call(bob, "POST", "/jobs/pool_logs", {"pool_name": "gone"})[0] == 404


def test_requests_reach_as_far_as_their_users(two: Town) -> None:
    anna, bob, vic = two.move_in("anna"), two.move_in("bob"), two.move_in("vic", "viewer")
    assert two.call(vic, "POST", "/jobs/pool_down", {"names": ["open"]})[0] == 403
    assert two.plane.submissions == 0
    task = {"pool": {"workers": 1}, "config": {"active_workspace": "team"}}
    assert two.call(bob, "POST", "/jobs/pool_apply", {"pool_name": "x", "task": task})[0] == 403
    for token, path, body in (
        (anna, "/jobs/pool_down", {"names": ["secret"]}),
        (bob, "/jobs/pool_down", {"names": ["open"]}),
        (anna, "/jobs/cancel", {"pool": "secret"}),
        (anna, "/jobs/pool_apply", {"pool_name": "x", "task": task}),
    ):
        status, told = two.call(token, "POST", path, body)
        assert status == 200, told
    rows = [(row.user, row.workspace, row.reach) for row in two.plane.rows.values()]
    assert rows == [
        ("anna", "team", "own"), ("bob", "default", "own"), ("anna", "team", "own"), ("anna", "team", "own")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/jobs/pool_apply", {"pool_name": "9x", "task": {"pool": {"workers": 1}}}, "allowed: a letter"),
        ("/jobs/pool_apply", {"pool_name": "x", "task": {"pool": {"walkers": 1}}}, "did you mean 'workers'"),
        ("/jobs/pool_apply", {"pool_name": "x"}, "no workers either"),
        ("/jobs/pool_apply", {"pool_name": "x", "workers": -1}, "workers: found -1"),
        ("/jobs/pool_apply", {"pool_name": "x", "workers": 1, "mode": "red"}, "mode: found 'red'"),
        ("/jobs/pool_down", {}, "names: found none"),
        ("/jobs/pool_logs", {"pool_name": "x", "target": "worker"}, "worker_id: found none"),
        ("/jobs/pool_logs", {"pool_name": "x", "tail": -1}, "not negative"),
    ],
)
def test_what_means_nothing_is_refused(town: Town, path: str, body: object, words: str) -> None:
    status, told = town.call(town.owner, "POST", path, body)
    assert 400 <= status < 500
    assert words in told["error"]["message"]
    assert town.plane.submissions == 0
