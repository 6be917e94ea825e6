"""Money on a real plane: nothing begins beyond a budget, jobs end before their max_cost, budgets act in their order."""

import asyncio
from dataclasses import replace

import pytest

from sky.core.errors import BudgetExceededError, from_wire
from sky.core.lifecycle.managed_events import CancelAsked
from sky.core.model.budgets import Budget, Rung, Scope
from sky.core.model.clusters import Phase
from sky.core.model.ledger import Question
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.model.tasks import TaskSpec
from sky.engine import budgets
from sky.providers.local import compute

#: USD per hour: a cent a second.
DEAR = 36.0


@pytest.fixture(autouse=True)
def dear(monkeypatch):
    """This machine at a price."""
    real = compute.machine
    monkeypatch.setattr(compute, "machine", lambda config: replace(real(config), price_hourly=DEAR))


async def until(what, seconds=90.0):
    async with asyncio.timeout(seconds):
        while not (found := await what()):
            await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def jobs(plane):
    yield plane.store.managed_jobs
    for job in await unfinished(plane):
        done = await plane.submit("jobs/cancel", {"job_ids": [job.number]}, user="u")
        await plane.wait(done.id, 60)
    await until(lambda: nothing(plane))


async def unfinished(plane):
    return [job for number in range(1, 10) if (job := await plane.store.managed_jobs.by_number(number))
            and job.ended_at is None]  # fmt: skip


async def nothing(plane):
    return not await unfinished(plane)


def dag(run="sleep 1000", **recovery):
    resources = {"infra": "local", "labels": {"team": "x"}, **({"job_recovery": recovery} if recovery else {})}
    return {"dag": {"tasks": [{"name": "j", "run": run, "resources": resources}], "edges": []}}


async def launched(plane, body):
    request = await plane.submit("jobs/launch", body, user="u")
    return await plane.wait(request.id, 60)


async def running(plane, number=1):
    async def look():
        job = await plane.store.managed_jobs.by_number(number)
        return job if job.status is Status.RUNNING else None

    return await until(look)


async def ended(plane, number=1):
    async def look():
        job = await plane.store.managed_jobs.by_number(number)
        return job if job.ended_at is not None else None

    return await until(look)


def budget(amount, *rungs, scope=Scope.ALL, of="", **more):
    return Budget("b", scope, of, amount, rungs=rungs or (Rung(1.0, "refuse_new"),), **more)


async def test_a_cluster_beyond_the_budget_is_refused_before_anything_is_made(plane, ask):
    await plane.store.budgets.put(budget(DEAR * 1.5, scope=Scope.USER, of="u"))
    first = await ask("launch", {"task": {"run": "true"}, "cluster_name": "a"})
    assert first.error is None
    second = await ask("launch", {"task": {"run": "true"}, "cluster_name": "b"})
    error = from_wire(second.error)
    assert isinstance(error, BudgetExceededError)
    assert "'b' (user u: $54.00 in all)" in str(error) and "asked: $36.00" in str(error)
    assert [each.name for each in await plane.clusters()] == ["a"]
    await ask("down", {"cluster_name": "a"})
    await plane.money.budgets.once()
    assert (await ask("launch", {"task": {"run": "true"}, "cluster_name": "b"})).error is None


async def test_jobs_beyond_the_budget_are_refused_and_max_cost_is_what_counts(plane, jobs):
    await plane.store.budgets.put(budget(10.0, scope=Scope.LABEL, of="team=x"))
    refused = from_wire((await launched(plane, dag())).error)
    assert isinstance(refused, BudgetExceededError) and "label team=x" in str(refused)
    assert (await launched(plane, {**dag(max_cost=2, max_run_time=600), "num_jobs": 6})).error is not None
    assert await unfinished(plane) == []
    assert (await launched(plane, {**dag("true", max_cost=2), "num_jobs": 5})).error is None
    (one,) = await plane.store.budgets.standings(plane.clock.now())
    assert one.reserved + one.spent == pytest.approx(10.0, abs=0.5)


async def test_a_job_ends_before_its_max_cost_is_spent(plane, jobs, monkeypatch):
    monkeypatch.setattr(budgets.policy, "ENDING_S", 1.0)
    monkeypatch.setattr(budgets, "PERIOD_S", 0.5)
    await launched(plane, dag("trap 'echo told; exit 0' TERM; while true; do sleep 0.1; done", max_cost=1000))
    used = (await plane.money.receipts.of_job(await running(plane))).receipt.total
    # Six cents more are six seconds; of these one and a half are kept back for its end.
    monkeypatch.setattr(budgets.policy, "max_cost", lambda tasks: used + 0.06)

    async def stops():
        await plane.money.budgets.once()
        job = await plane.store.managed_jobs.by_number(1)
        return job.ended_at is not None

    await until(stops)
    job = await plane.store.managed_jobs.by_number(1)
    assert job.status is Status.FAILED and f"max_cost of {budgets.policy.usd(used + 0.06)}" in job.reason
    receipted = await plane.money.receipts.of_job(job)
    # A machine that is held up in the midst of it pays for that.
    assert 0.02 < receipted.receipt.total - used < 0.16
    assert receipted.receipt.total == sum(each.entry.cost(0) for each in receipted.lines)


async def test_nodes_are_told_before_money_ends_a_job_and_have_the_time_that_they_ask_for(plane, jobs, tmp_path):
    task = dag()
    task["dag"]["tasks"][0]["on_preemption"] = {"run": f"touch {tmp_path}/saved", "grace": "20s"}
    await launched(plane, task)
    job, care = await running(plane), plane.money.budgets
    letter = CancelAsked("budget 'b'", graceful=True, timeout=1.0)
    await care._end(job, letter, "the budget 'b' is used up")

    async def saved():
        return (tmp_path / "saved").exists()

    await until(saved)
    assert not (await running(plane)).cancel_asked, "its script has time"

    async def told():
        texts = [entry.text for entry in await plane.store.stories.read("cluster", job.cluster_id)]
        return any("what runs there ends in 20 s" in text or "was told" in text for text in texts)

    await until(told)
    care._warned[job.cluster_id] -= 20.0
    await care._end(job, letter, "the budget 'b' is used up")
    assert (await ended(plane)).status is Status.CANCELLED


async def test_a_receipt_is_to_the_cent_what_the_ledger_has(plane, jobs):
    await launched(plane, dag("sleep 1"))
    job = await ended(plane)
    made, lines = await plane.money.receipts.of_job(job)
    told = await plane.ledger(Question(ended=True, cluster=job.cluster_id))
    assert list(lines) == list(told) and lines[0].entry.origin == job.owner
    assert lines[0].entry.labels == '{"team":"x"}'
    assert made.total == sum(line.entry.cost(0.0) for line in told) > 0
    (run,) = await plane.store.jobs.of_cluster(job.cluster_id)
    assert made.ran == pytest.approx(run.end_at - run.start_at) and made.ran >= 1.0
    assert 0 < made.idle_share < 1 and not made.open


async def test_budgets_stop_what_they_say(plane, ask, jobs, monkeypatch):
    monkeypatch.setattr(budgets, "GRACE_S", 0.2)
    warned = []

    async def warn(cluster, seconds, reason):
        warned.append((cluster.name, reason))

    monkeypatch.setattr(plane.money.budgets, "_warn", warn)
    await ask("launch", {"task": {}, "cluster_name": "idle"})
    busy = await ask("launch", {"task": {"run": "sleep 1000"}, "cluster_name": "busy"})
    assert busy.error is None
    await launched(plane, dag())
    await running(plane)
    start = plane.clock.now() - 3600
    # All of it is spent: but only what is idle is to stop.
    await plane.store.budgets.put(budget(0.0001, Rung(1.0, "stop_idle"), created_at=start))

    async def phases():
        await plane.money.budgets.once()
        return {each.name: each.phase for each in await plane.clusters(["idle", "busy"])}

    async def only_idle_stopped():
        return (await phases()).get("idle") is Phase.STOPPED

    await until(only_idle_stopped)
    assert (await phases())["busy"] is Phase.UP and (await running(plane)).cancel_asked is False
    assert warned == [("idle", "the budget 'b' is used up")], "it was told before"
    # A job that cannot go on from a checkpoint is let alone; one on spot would be stopped.
    await plane.store.budgets.put(budget(0.0001, Rung(1.0, "checkpoint_and_stop"), created_at=start))
    await plane.money.budgets.once()
    job = await plane.store.managed_jobs.by_number(1)
    assert not job.cancel_asked and not budgets.preemptible(job)
    on_spot = replace(job.task, where=replace(job.task.where, use_spot=True))
    assert budgets.preemptible(replace(job, tasks=(on_spot,)))
    await plane.store.budgets.put(budget(0.0001, Rung(1.0, "stop_all"), created_at=start))

    async def everything_stopped():
        found = await phases()
        job = await plane.store.managed_jobs.by_number(1)
        return found["busy"] is Phase.STOPPED and job.ended_at is not None

    await until(everything_stopped)
    job = await plane.store.managed_jobs.by_number(1)
    assert job.status is Status.CANCELLED and "budget 'b'" in job.reason
    refused = await ask("start", {"cluster_name": "idle"})
    assert isinstance(from_wire(refused.error), BudgetExceededError)


async def test_a_budget_is_told_once_in_its_period(plane, ask, monkeypatch):
    sinks = {"sinks": [{"command": ["true"]}]}
    packed = []
    real = plane.store.outbox.put

    async def put(parcels, mark=None):
        packed.extend(parcels)
        await real(parcels, mark)

    monkeypatch.setattr(plane.store.outbox, "put", put)
    desk = replace(plane.money.budgets._desk, section=lambda name: sinks)
    monkeypatch.setattr(plane.money.budgets, "_desk", desk)
    await ask("launch", {"task": {"run": "true"}, "cluster_name": "a"})
    start = plane.clock.now() - 3600
    await plane.store.budgets.put(budget(0.0001, Rung(0.5, "notify"), Rung(1.0, "notify"), created_at=start))
    for _ in range(3):
        await plane.money.budgets.once()
    told = [each.payload for each in packed if each.payload["event"] == "budget"]
    assert [(each["share"], each["action"]) for each in told] == [(0.5, "notify"), (1.0, "notify")]
    assert told[0]["spent"] > 0.0001 and told[0]["budget"] == "b"


async def test_budgets_of_the_configuration(plane, monkeypatch, caplog):
    said = {"all": {"amount": 5, "period": "day"}, "ann": {"amount": 2, "user": "ann", "actions": "90% stop_idle"},
            "bad": {"amount": 1, "colour": "red"}, "none": 3, "free": {}}  # fmt: skip
    monkeypatch.setattr(
        plane.money.budgets,
        "_desk",
        replace(plane.money.budgets._desk, section=lambda name: said if name == "budgets" else {}),
    )
    await plane.store.budgets.put(replace(budget(9), name="own"))
    await plane.money.budgets.once()
    first = {each.name: each for each in await plane.store.budgets.all()}
    assert sorted(first) == ["all", "ann", "own"] and caplog.text.count("in the configuration") == 3
    assert (first["ann"].of, first["ann"].rungs) == ("ann", (Rung(0.9, "stop_idle"),))
    del said["ann"]
    said["all"] = {"amount": 6, "period": "day"}
    await plane.money.budgets.once()
    now = {each.name: each for each in await plane.store.budgets.all()}
    assert sorted(now) == ["all", "own"] and (now["all"].amount, now["all"].created_at) == (6, first["all"].created_at)


async def test_a_job_whose_money_runs_low_goes_on_on_spot(plane, jobs, monkeypatch):
    """Its cluster goes, and what is asked for from then on is spot; this machine has none, so it waits."""
    monkeypatch.setattr(budgets, "GRACE_S", 0.1)
    monkeypatch.setattr(budgets, "PERIOD_S", 0.0)
    monkeypatch.setattr(budgets.policy, "ENDING_S", 0.0)
    monkeypatch.setattr(budgets.policy, "DOWNGRADE", 0.001)
    await launched(plane, dag(max_cost=1000, on_max_cost="spot"))
    job = await running(plane)

    async def lost():
        await plane.money.budgets.once()
        return (await plane.store.managed_jobs.by_number(1)).task.recoveries

    monkeypatch.setattr(budgets.policy, "max_cost", lambda tasks: 10.0)
    await until(lost)
    task = await budgets.on_spot(plane.money.budgets._desk, job, TaskSpec.from_config(job.task_configs["0"]))
    assert task.use_spot
