"""Managed jobs of a shared server: who sees, follows and ends whose."""

import asyncio
from dataclasses import replace

import pytest
from townhall import Town

from sky.core.lifecycle.machine import Step
from sky.sim.managed_job_contract import managed


def put(town: Town, *owners: tuple[str, str]) -> None:
    """Jobs on record, by owner and workspace, numbered from 1."""
    rows = town.plane.store.managed_jobs
    for at, (user, workspace) in enumerate(owners):
        made = replace(managed(f"j{at}", f"r{at}", user), workspace=workspace)
        asyncio.run(rows.open([Step(made, (), "submitted")], 1.0))


def seen(town: Town, token: str, **asked: object) -> list[int]:
    status, told = town.call(token, "POST", "/jobs/queue", asked)
    assert status == 200
    assert told["result"]["total"] == len(told["result"]["jobs"])
    return sorted(each["job_id"] for each in told["result"]["jobs"])


@pytest.fixture
def three(town: Town) -> Town:
    """Two jobs of anna's, one of them in a workspace that bob may not look into, and one of bob's."""
    config = {"private": True, "allowed_users": ["anna"]}
    made = town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})
    assert made[0] == 200
    put(town, ("anna", "default"), ("anna", "team"), ("bob", "default"))
    return town


def test_the_queue_shows_ones_own_and_on_demand_everybodys(three: Town) -> None:
    anna, bob = three.move_in("anna"), three.move_in("bob")
    assert (seen(three, anna), seen(three, bob)) == ([1, 2], [3])
    assert seen(three, anna, all_users=True) == [1, 2, 3]
    assert seen(three, bob, all_users=True) == [1, 3]
    assert seen(three, bob, job_ids=[1, 2]) == [1]
    assert seen(three, three.owner, all_users=True) == [1, 2, 3]


def test_what_is_hidden_is_not_there(three: Town) -> None:
    bob = three.move_in("bob")
    for path, body in (("/jobs/events", {"job_id": 2}), ("/jobs/cancel", {"job_ids": [2]})):
        status, told = three.call(bob, "POST", path, body)
        assert status == 400
        assert "job 2 not found" in told["error"]["message"]
    assert three.call(bob, "POST", "/jobs/wait", {"job_id": 2})[1]["result"]["code"] == 102
    assert three.call(bob, "POST", "/jobs/events", {"job_id": 1})[0] == 200


def test_nobody_ends_what_is_somebody_elses(three: Town) -> None:
    anna, bob, vic = three.move_in("anna"), three.move_in("bob"), three.move_in("vic", "viewer")
    for token in (bob, vic):
        status, told = three.call(token, "POST", "/jobs/cancel", {"job_ids": [1]})
        assert (status, three.plane.submissions) == (403, 0), told
    assert three.call(anna, "POST", "/jobs/cancel", {"job_ids": [2]})[0] == 200
    (row,) = three.plane.rows.values()
    assert (row.user, row.workspace, row.reach) == ("anna", "team", "own")


def test_a_launch_is_in_the_workspace_that_its_first_task_names(three: Town) -> None:
    anna, bob = three.move_in("anna"), three.move_in("bob")
    body = {"dag": {"tasks": [{"run": "true", "config": {"active_workspace": "team"}}], "edges": []}}
    assert three.call(bob, "POST", "/jobs/launch", body)[0] == 403
    assert three.call(anna, "POST", "/jobs/launch", body)[0] == 200
    (row,) = three.plane.rows.values()
    assert (row.user, row.workspace) == ("anna", "team")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/jobs/launch", {"dag": {"tasks": [{"rum": "x"}]}}, "did you mean 'run'"),
        ("/jobs/queue", {"limit": -1}, "limit"),
        ("/jobs/logs", {"tail": -1}, "not negative"),
        ("/jobs/cancel", {"job_ids": [2**40]}, "no number"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_on_record(
    town: Town, path: str, body: object, words: str
) -> None:
    status, told = town.call(town.owner, "POST", path, body)
    assert 400 <= status < 502
    assert words in told["error"]["message"]
    assert town.plane.submissions == 0
