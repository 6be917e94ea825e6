"""Promises of money: all or none, counted against what was spent, gone with what they were for."""

import asyncio

import pytest

from sky.core.errors import BudgetExceededError
from sky.core.lifecycle.machine import Step
from sky.core.model.budgets import Budget, Period, Reservation, Rung, Scope, Whose
from sky.core.model.catalog import Market
from sky.core.model.ledger import Billed, Booking, Entry
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.notifications import Parcel
from sky.core.model.schedules import Schedule
from sky.store.sealing import KEY_BYTES, Sealer
from sky.store.sqlite import SqliteStore

NOW = 1_800_000_000.0
REFUSES = (Rung(1.0, "refuse_new"),)


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request):
    if request.param == "sqlite":
        made = SqliteStore()
    else:
        from sky.store.postgres import PostgresStore, Target

        server = request.getfixturevalue("postgres")
        name = server.database()
        request.addfinalizer(lambda: server.drop(name))
        made = PostgresStore(Target(server.uri(name), None, 5), None, None)
    await made.connect()
    yield made
    await made.close()


def whose(user="ann", origin="", **labels):
    return Whose(user, "default", labels, origin)


def asked(id, amount, user="ann", request="r1", **labels):
    return Reservation(id, request, whose(user, id, **labels), amount, NOW)


async def pay(store, origin, usd, user="ann", began=NOW - 3600, labels=""):
    """A machine that ran for an hour until now, and goes on."""
    entry = Entry(Billed.MACHINE, f"i-{origin}-{began}", "m", f"c-{origin}", "n", user, "default", "aws", "r", None,
                  "t", Market.SPOT, usd, began, labels=labels, origin=origin)  # fmt: skip
    await store.ledger.book(Booking((), (entry,)))


async def test_what_is_spent_is_what_the_ledger_says(store):
    await pay(store, "managed:1", 10, labels='{"team":"x"}')
    await pay(store, "managed:2", 4, user="bob", began=NOW - 7200)
    for name, scope, of, origin in (
        ("all", Scope.ALL, "", ""), ("ann", Scope.USER, "ann", ""), ("x", Scope.LABEL, "team=x", ""),
        ("job", Scope.JOB, "2", "managed:2"),
    ):  # fmt: skip
        await store.budgets.put(Budget(name, scope, of, 100, created_at=NOW - 5400, rungs=REFUSES, origin=origin))
    told = {one.budget.name: one.spent for one in await store.budgets.standings(NOW)}
    # A total counts from when it was set, an hour and a half ago.
    assert told == pytest.approx({"all": 16, "ann": 10, "x": 10, "job": 6})
    assert await store.budgets.spent_by(["managed:1", "managed:2", "nobody"], NOW) == pytest.approx(
        {"managed:1": 10, "managed:2": 8}
    )


async def test_a_day_counts_what_was_spent_in_it(store):
    midnight = NOW // 86400 * 86400
    await pay(store, "c", 2, began=midnight - 36000)
    await store.budgets.put(Budget("b", Scope.ALL, "", 5, Period.DAY, REFUSES))
    (one,) = await store.budgets.standings(midnight + 7200)
    assert (one.spent, one.began) == (pytest.approx(4), midnight)


async def test_promises_are_kept_back_until_they_are_spent(store):
    await store.budgets.put(Budget("b", Scope.ALL, "", 10, rungs=REFUSES, created_at=NOW - 9999))
    await store.budgets.reserve([asked("c1", 6)], NOW - 3600)
    with pytest.raises(
        BudgetExceededError, match=r"'b' \(everything: \$10.00 in all\) has \$0.00 spent and \$6.00 res"
    ):
        await store.budgets.reserve([asked("c2", 5, request="r2")], NOW)
    await store.budgets.reserve([asked("c2", 4, request="r2")], NOW)
    await pay(store, "c1", 2)
    (one,) = await store.budgets.standings(NOW)
    assert (one.spent, one.reserved) == (pytest.approx(2), pytest.approx(8)), "what is spent is promised no more"
    await store.budgets.release(["c2"])
    (one,) = await store.budgets.standings(NOW)
    assert one.reserved == pytest.approx(4)


async def test_what_begins_again_is_promised_anew(store):
    await store.budgets.put(Budget("b", Scope.ALL, "", 20, rungs=REFUSES, created_at=NOW - 9999))
    await store.budgets.reserve([asked("c1", 6)._replace(created_at=NOW - 7200)], NOW - 7200)
    await pay(store, "c1", 5)
    await store.budgets.reserve([asked("c1", 6, request="r2")], NOW)
    (one,) = await store.budgets.standings(NOW)
    assert (one.spent, one.reserved) == (pytest.approx(5), pytest.approx(6)), (
        "what it cost before is not of this promise"
    )


async def test_an_array_is_promised_all_or_nothing_and_a_request_once(store):
    await store.budgets.put(Budget("b", Scope.USER, "ann", 10, rungs=REFUSES))
    with pytest.raises(BudgetExceededError):
        await store.budgets.reserve([asked(f"j{n}", 1) for n in range(11)], NOW)
    assert (await store.budgets.standings(NOW))[0].reserved == 0
    for _ in range(3):
        await store.budgets.reserve([asked(f"j{n}", 1) for n in range(10)], NOW)
    assert (await store.budgets.standings(NOW))[0].reserved == 10
    await store.budgets.reserve([asked("b1", 1000, user="bob", request="r2")], NOW)


async def test_many_at_once_are_never_promised_more_than_there_is(store):
    await store.budgets.put(Budget("b", Scope.ALL, "", 10, rungs=REFUSES))

    async def one(n):
        try:
            await store.budgets.reserve([asked(f"c{n}", 3, request=f"r{n}")], NOW)
        except BudgetExceededError:
            return 0
        return 1

    assert sum(await asyncio.gather(*map(one, range(20)))) == 3


async def test_promises_go_with_what_they_were_for(store):
    await store.budgets.put(Budget("b", Scope.ALL, "", 100, rungs=REFUSES))
    jobs = [
        ManagedJob(f"m{n}", 0, f"k{n}", "j", "ann", "default", Stage.WAITING, 0, NOW, (ManagedTask("t"),),
                   request_id="r", ended_at=ended)
        for n, ended in ((1, None), (2, NOW))
    ]  # fmt: skip
    await store.managed_jobs.open([Step(job, ()) for job in jobs], NOW)
    await store.budgets.reserve([asked("managed:m1", 1), asked("managed:m2", 2), asked("never", 4)], NOW)
    await store.budgets.tidy(NOW + 1)
    assert (await store.budgets.standings(NOW))[0].reserved == 5, "what has ended is promised nothing"
    await store.budgets.tidy(NOW + 9999)
    assert (await store.budgets.standings(NOW))[0].reserved == 1, "nor what was never recorded"


async def test_without_budgets_nothing_is_promised(store):
    await store.budgets.reserve([asked("c1", 1e9)], NOW)
    await store.budgets.put(Budget("b", Scope.ALL, "", 1, rungs=REFUSES))
    assert (await store.budgets.standings(NOW))[0].reserved == 0
    assert await store.budgets.remove("b") and not await store.budgets.remove("b")


async def test_jobs_that_may_cost_only_so_much_are_found(store):
    config = {"0": {"resources": {"job_recovery": {"max_cost": 5}}}}
    jobs = [
        ManagedJob(f"m{n}", 0, f"k{n}", "j", "ann", "default", Stage.WAITING, 0, NOW, (ManagedTask("t"),),
                   task_configs=config if n != 2 else {}, request_id="r", ended_at=NOW if n == 3 else None)
        for n in (1, 2, 3)
    ]  # fmt: skip
    await store.managed_jobs.open([Step(job, ()) for job in jobs], NOW)
    assert [job.id for job in await store.managed_jobs.limited()] == ["m1"]


# --- schedules and the outbox ----------------------------------------------------------------------------------------


class Keys:
    id = "k1"

    def current(self):
        return self.id, self.key(self.id)

    def key(self, id):
        return id.encode().ljust(KEY_BYTES, b"0")


@pytest.fixture
async def sealed(tmp_path):
    keys = Keys()
    made = SqliteStore(tmp_path / "state.db", Sealer(keys))
    await made.connect()
    yield made, keys, tmp_path / "state.db"
    await made.close()


async def test_who_was_first_has_decided(store):
    one = Schedule("s1", "nightly", "ann", "default", "0 0 * * *", "UTC", next_at=NOW)
    assert await store.schedules.add(one) and not await store.schedules.add(one)
    assert not await store.schedules.add(Schedule("s2", "nightly", "ann", "default", "* * * * *", "UTC"))
    (seen,) = await store.schedules.due(NOW, 10)
    assert await store.schedules.change(seen, seen) is not None
    assert await store.schedules.change(seen, seen) is None
    assert await store.schedules.due(NOW - 1, 10) == [] and await store.schedules.next_at() == NOW


async def test_news_are_packed_once_and_kept_until_they_are_taken(store):
    parcel = Parcel("job:1:0", NOW, {"webhook": "https://x", "secret": "s3"}, {"a": 1}, NOW)
    await store.outbox.put([parcel], 7)
    await store.outbox.put([parcel], 8)
    assert await store.outbox.mark() == 8
    (due,) = await store.outbox.due(NOW, 10)
    assert due == parcel
    await store.outbox.settle(due, NOW + 5, 1, "busy")
    assert await store.outbox.due(NOW, 10) == [] and len(await store.outbox.due(NOW + 5, 10)) == 1
    await store.outbox.settle(due, None, 2, "delivered")
    await store.outbox.put([parcel], 9)
    assert await store.outbox.due(NOW + 9e9, 10) == [], "it was delivered, and is known"
    await store.outbox.forget(NOW + 1)
    await store.outbox.put([parcel], 10)
    assert len(await store.outbox.due(NOW, 10)) == 1


async def test_secrets_of_both_are_sealed_and_sealed_anew(sealed):
    store, keys, path = sealed
    body = {"dag": {"tasks": [{"run": "true", "secrets": {"K": "hush-1"}}]}, "uploads": {"a": "blob-a"}}
    await store.schedules.add(Schedule("s1", "n", "ann", "default", "* * * * *", "UTC", body, next_at=NOW))
    await store.outbox.put([Parcel("p", NOW, {"webhook": "https://x/hush-2", "secret": "hush-3"}, {}, NOW)])
    assert b"hush" not in path.read_bytes()
    assert (await store.schedules.get("s1")).body == body
    assert "blob-a" in await store.manifests_in_use(), "what a schedule launches is kept"
    keys.id = "k2"
    assert await store.reseal() == 2 and await store.reseal() == 0
    assert (await store.outbox.due(NOW, 1))[0].sink["secret"] == "hush-3"
    (due,) = await store.outbox.due(NOW, 1)
    await store.outbox.settle(due, None, 1, "delivered")
    assert await store.outbox.due(NOW, 1) == []
