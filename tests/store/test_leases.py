"""Claim and commit: whoever does not hold a row any more cannot write it, and nothing given to it is lost."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.offers import Offer, Placement
from sky.core.ports import LeaseLost
from sky.store.sqlite import SqliteStore
from sky.store.statements import Prepared

_WAITING = Prepared(
    text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
)
PLACE = Placement(Offer("a", "r", None, "t", 1, 1, 0.5), 1, 1, 1)


def drawn(name: str = "one", id: str = "c1") -> Cluster:
    return Cluster(id, name, "u", "default", Phase.PROVISIONING, 0, 1.0, 1.0, 1, candidates=(PLACE,), request_id="r1")


@pytest.fixture
async def store(tmp_path):
    opened = SqliteStore(tmp_path / "state.db")
    await opened.clusters.open(life.opening(drawn()), 1.0)
    yield opened
    await opened.close()


async def claimed(store, now=2.0, token="t", lease=10.0):
    return (await store.clusters.claim(now, lease, token, 5))[0]


async def test_a_new_row_is_due_with_its_orders(store):
    claim = await claimed(store)
    assert [standing.order for standing in claim.orders] == [life.Provision(PLACE)]
    assert claim.orders[0].key == "cluster:c1:0:0"


async def test_a_held_row_is_not_given_twice(store):
    await claimed(store)
    assert await store.clusters.claim(3.0, 10, "other", 5) == []


async def test_a_lease_passes_on_when_it_runs_out(store):
    first = await claimed(store)
    second = (await store.clusters.claim(13.0, 10, "other", 5))[0]
    with pytest.raises(LeaseLost):
        await store.clusters.commit(first, Step(first.entity), life.Due(), now=13.0, due_at=None)
    assert [standing.key for standing in second.orders] == [standing.key for standing in first.orders]


async def test_renewing_keeps_it(store):
    claim = await claimed(store)
    assert await store.clusters.renew({"c1": claim.token}, 90.0, 10.0) == {"c1": False}
    assert await store.clusters.claim(99.0, 10, "other", 5) == []
    assert len(await store.clusters.claim(100.0, 10, "other", 5)) == 1
    assert await store.clusters.renew({"c1": claim.token}, 101.0, 10.0) == {}


async def test_who_renews_waits_for_nobody_who_waits_for_it(postgres, database):
    from sky.store.postgres import PostgresStore, Target

    one, other = (PostgresStore(Target(postgres.uri(database))) for _ in range(2))
    await one.connect()
    await other.connect()
    ids = [f"c{number}" for number in range(9)]
    for id in reversed(ids):
        await one.clusters.open(life.opening(drawn(id, id)), 1.0)
    claims = {each.entity.id: each.token for each in await one.clusters.claim(2.0, 60.0, "t", 20)}
    async with other._shared.write() as tx:
        # Letters to the fifth and to the last, as `post_all` leaves them.
        await other.clusters._leave(tx, "c4", "{}", 2.0)
        renewed = asyncio.create_task(one.clusters.renew(claims, 3.0, 60.0))
        while not await tx.first(_WAITING):
            await asyncio.sleep(0.01)
        await other.clusters._leave(tx, "c8", "{}", 2.0)
    assert (await renewed).keys() == set(ids)
    await one.close()
    await other.close()


async def test_commit_is_guarded_by_version(store):
    claim = await claimed(store)
    await store.clusters.commit(claim, Step(claim.entity), life.Due(), now=3.0, due_at=None)
    with pytest.raises(LeaseLost):
        await store.clusters.commit(claim, Step(claim.entity), life.Due(), now=4.0, due_at=None)


async def test_orders_replace_stand_or_are_done(store):
    claim = await claimed(store)
    stands = await store.clusters.commit(claim, Step(claim.entity), life.Due(), now=3.0, due_at=None)
    assert stands.orders == claim.orders
    other = await store.clusters.commit(
        stands, Step(stands.entity, (life.StopNodes(), life.Observe())), life.StopAsked(), now=4.0, due_at=None
    )
    assert [standing.order for standing in other.orders] == [life.StopNodes(), life.Observe()]
    one_left = await store.clusters.commit(
        other, Step(other.entity), life.Due(), now=5.0, due_at=None, done=other.orders[0].key
    )
    assert [standing.order for standing in one_left.orders] == [life.Observe()]


async def test_a_letter_waits_until_it_is_read(store):
    claim = await claimed(store)
    await store.clusters.post("c1", life.DownAsked(purge=True), 3.0)
    claim = await store.clusters.reload(claim)
    assert [letter.event for letter in claim.letters] == [life.DownAsked(purge=True)]
    claim = await store.clusters.commit(
        claim, Step(claim.entity, ()), life.DownAsked(), now=4.0, due_at=None, letters=[claim.letters[0].id]
    )
    assert claim.letters == ()


async def test_a_row_with_work_left_is_due_after_its_holder_died(tmp_path):
    path = tmp_path / "state.db"
    before = SqliteStore(path)
    await before.clusters.open(life.opening(drawn()), 1.0)
    held = await claimed(before)
    await before.clusters.commit(held, Step(held.entity), life.Due(), now=3.0, due_at=None)
    await before.close()
    after = SqliteStore(path)
    again = await claimed(after, now=3.5, token="new")
    assert [standing.order for standing in again.orders] == [life.Provision(PLACE)]
    await after.close()


async def test_a_quiet_row_waits_for_its_time(store):
    claim = await claimed(store)
    claim = await store.clusters.commit(claim, Step(claim.entity, ()), life.Due(), now=3.0, due_at=60.0)
    await store.clusters.release(claim)
    assert await store.clusters.claim(59.0, 10, "x", 5) == []
    assert len(await store.clusters.claim(60.0, 10, "x", 5)) == 1


async def test_one_living_cluster_a_name(store):
    there, made = await store.clusters.open(life.opening(drawn(id="c2")), 2.0)
    assert (there.id, made) == ("c1", False)
    claim = await claimed(store)
    gone = replace(claim.entity, phase=Phase.TERMINATED, ended_at=5.0)
    await store.clusters.commit(claim, Step(gone, ()), life.NodesTerminated(), now=5.0, due_at=None)
    again, made = await store.clusters.open(life.opening(drawn(id="c2")), 6.0)
    assert (again.id, made) == ("c2", True)
    assert [each.id for each in await store.clusters.living()] == ["c2"]
    assert {each.id for each in await store.clusters.since(4.0)} == {"c1", "c2"}


async def test_the_story_is_told_in_order(store):
    claim = await claimed(store)
    await store.clusters.commit(claim, Step(claim.entity, None, "first"), life.Due(), now=3.0, due_at=None)
    entries = await store.stories.read("cluster", "one")
    assert [entry.text for entry in entries] == ["asked for 1x t on a/r", "first"]
    assert (await store.stories.last_of_each("cluster", ["c1"]))["c1"].text == "first"


async def test_everything_survives_the_file(store, tmp_path):
    claim = await claimed(store)
    kept = (await store.clusters.get("c1"), await store.clusters.by_name("one"), await store.clusters.by_request("r1"))
    assert kept == (claim.entity,) * 3
