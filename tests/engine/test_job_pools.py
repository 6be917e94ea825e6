"""Pools through a whole control plane: real store, real local nodes, real agents."""

import asyncio
from dataclasses import replace

import pytest

from sky.core.errors import from_wire
from sky.core.lifecycle.managed_events import CancelAsked
from sky.core.model.budgets import Budget, Rung, Scope
from sky.core.model.managed_jobs import Stage
from sky.core.model.pools import PoolStage, WorkerState
from sky.engine.pools import Calls
from sky.engine.waiting import until
from sky.providers.local import compute


def body(workers=1, **more):
    return {
        "pool_name": "p",
        "task": {"resources": {"infra": "local", "cpus": 1}, "pool": {"workers": workers}, **more},
    }


def job(run="true", **more):
    return {"dag": {"tasks": [{"run": run, **more}], "edges": []}, "pool": "p"}


@pytest.fixture
async def pools(plane):
    yield plane.store.pools
    done = await plane.submit("jobs/pool_down", {"all": True, "purge": True}, user="u")
    await plane.wait(done.id, 60)
    assert await plane.store.pools.living() == []
    assert await plane.clusters(managed=True) == []


@pytest.fixture
def reach(plane, pools):
    """Wait until the pool has come so far."""

    async def reached(so_far, timeout=100):
        found = await pools.by_name("p")

        async def load():
            return await pools.get(found.id)

        async with asyncio.timeout(timeout):
            return await until(plane.signals, f"pool:{found.id}", load, so_far)

    return reached


@pytest.fixture
def over(plane):
    async def ended(number, stage=Stage.DONE):
        found = await plane.managed.by_number(number)

        async def load():
            return await plane.managed.get(found.id)

        async with asyncio.timeout(100):
            return await until(plane.signals, f"managed_job:{found.id}", load, lambda now: now.stage is stage)

    return ended


def ready(count):
    return lambda pool: [each.state for each in pool.workers] == [WorkerState.READY] * count


async def test_a_job_finds_what_the_setup_of_its_pool_made(plane, ask, reach, over):
    applied = await ask("jobs/pool_apply", body(setup="echo hi > ~/made"))
    assert applied.result == {"pool": "p", "version": 1}
    await reach(ready(1))
    launched = await ask("jobs/launch", job("cat ~/made; echo $SKYPILOT_MANAGED_JOB_ID"))
    (number,) = launched.result["job_ids"]
    done = await over(number)
    assert (done.status.value, done.pool, done.cluster_name) == ("SUCCEEDED", "p", "p-1")
    said = b"".join([piece.data async for piece in plane.managed.log(done, 0, follow=True)]).decode()
    assert ") hi\n" in said
    assert await plane.store.pools.claims(done.pool_id) == {}


async def test_the_same_request_makes_one_pool_and_one_version(plane, ask, reach, pools):
    for _ in range(2):
        request = await plane.submit("jobs/pool_apply", body(), user="u", request_id="one-request")
        await plane.wait(request.id, 60)
    found = await reach(ready(1))
    assert (found.revision, len(found.workers)) == (1, 1)
    again = await ask("jobs/pool_apply", {"pool_name": "p", "workers": 2})
    assert again.result == {"pool": "p", "version": 2}
    found = await reach(ready(2))
    assert found.made == 2
    refused = await ask("jobs/pool_apply", {"pool_name": "other", "workers": 2})
    assert "no pool of this name" in str(from_wire(refused.error))


async def test_a_job_that_is_cancelled_before_a_worker_is_free_leaves_nothing(plane, ask, reach, over, pools):
    await ask("jobs/pool_apply", body(0))
    await reach(ready(0))
    (number,) = (await ask("jobs/launch", job())).result["job_ids"]
    found = await plane.managed.by_number(number)
    assert "has no worker that is ready" in await plane.managed.why(found)
    await plane._post.send("managed_job", plane.store.managed_jobs, found.id, CancelAsked("u"))
    done = await over(number)
    assert done.status.value == "CANCELLED"
    assert (await pools.situation(found.pool_id)).unfinished == 0


async def test_a_claim_that_belongs_to_no_job_costs_its_worker(plane, ask, reach, pools):
    """None is known to come about; were there one, the worker would wait for ever."""
    await ask("jobs/pool_apply", body())
    before = await reach(ready(1))
    assert await pools.take(before.id, "managed:nobody:1") == before.workers[0].cluster_id
    await Calls(plane._desk).net()
    after = await reach(lambda pool: ready(1)(pool) and pool.workers[0].number == 2)
    assert await pools.claims(after.id) == {}


@pytest.fixture
def dear(monkeypatch):
    """This machine at a price."""
    real = compute.machine
    monkeypatch.setattr(compute, "machine", lambda config: replace(real(config), price_hourly=36.0))


async def test_budgets_refuse_pools_and_take_them_down(dear, plane, ask, reach, pools):
    await plane.store.budgets.put(Budget("b", Scope.ALL, "", 1.0, rungs=(Rung(1.0, "refuse_new"),)))
    refused = await ask("jobs/pool_apply", body())
    assert "Nothing was begun" in str(from_wire(refused.error))
    assert await pools.living() == []
    await plane.store.budgets.remove("b")
    await ask("jobs/pool_apply", body())
    found = await reach(ready(1))
    await plane.store.budgets.put(Budget("b", Scope.ALL, "", 0.0001, rungs=(Rung(0.5, "stop_idle"),)))
    ended = await reach(lambda pool: pool.stage is PoolStage.DONE)
    assert "the budget 'b'" in ended.reason
    assert found.id == ended.id
