"""What every store keeps of pools and of the claims on their workers; a part of `store_contract`."""

import asyncio
from dataclasses import replace

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import managed_jobs as job_life
from sky.core.lifecycle import pools as life
from sky.core.lifecycle.machine import Step
from sky.core.model.managed_jobs import Stage
from sky.core.model.pools import Pool, PoolStage, Worker, WorkerState
from sky.core.policy.admission import Waiting
from sky.core.ports import JobQuery
from sky.sim.managed_job_contract import managed, put
from sky.sim.store_bed import Bed, cluster, same, true


def pool(id: str = "p1", name: str = "p", created_at: float = 1.0) -> Pool:
    """One that has no workers yet."""
    task = {"setup": "true", "pool": {"workers": 2}, "secrets": {"K": "hidden"}}
    return Pool(id, name, "u", "default", PoolStage.ACTIVE, 0, created_at, {"1": task}, {"1": {".": "manifest"}})


def workers(*states: WorkerState) -> tuple[Worker, ...]:
    """Workers w1, w2, … of the first revision."""
    return tuple(Worker(number, 1, f"w{number}", state) for number, state in enumerate(states, 1))


class PoolContract:
    """A worker is claimed once, by whoever asks first, and only where its pool says that it is ready."""

    async def _opened(self, bed: Bed, *states: WorkerState, **changes: object) -> Pool:
        """The pool on record, with workers of these states."""
        await bed.one.store.pools.open(life.opening(pool()), 1.0)
        return await self._write(bed, workers=workers(*states), **changes)

    async def _write(self, bed: Bed, **changes: object) -> Pool:
        """Commit the pool as it is to be."""
        rows, now = bed.one.store.pools, bed.one.now()
        await rows.post("p1", life.Changed(), now)
        (claim,) = await rows.claim(now, 5, "put", 9)
        after = replace(claim.entity, **changes)  # type: ignore[arg-type]
        letters = [each.id for each in claim.letters]
        done = await rows.commit(claim, Step(after, ()), life.Changed(), now=now, due_at=None, letters=letters)
        await rows.release(done)
        return done.entity

    async def test_a_name_is_one_pools_until_it_has_ended(self, bed: Bed) -> None:
        """Whoever opens it again gets the one that is there."""
        rows, other = bed.one.store.pools, bed.two.store.pools
        made, fresh = await rows.open(life.opening(pool()), 1.0)
        same((made.id, fresh), ("p1", True))
        again, fresh = await other.open(life.opening(pool("p2")), 1.0)
        same((again.id, fresh), ("p1", False))
        found = await other.by_name("p")
        same(found and found.tasks, pool().tasks)
        same([each.name for each in await other.living()], ["p"])
        same(set(await bed.one.store.manifests_in_use()), {"manifest"})
        await self._write(bed, stage=PoolStage.DONE, ended_at=2.0)
        same((await rows.by_name("p"), await rows.living()), (None, []))
        same(set(await bed.one.store.manifests_in_use()), set())
        same((await rows.open(life.opening(pool("p2")), 3.0))[1], True)
        await bed.one.store.forget_managed_jobs(3.0)
        same((await rows.get("p1"), (await rows.get("p2")) is None), (None, False))

    async def test_a_worker_has_room_for_one(self, bed: Bed) -> None:
        """Also for those who ask at once; and who has one is given the same again."""
        await self._opened(bed, WorkerState.READY, WorkerState.READY, WorkerState.SETTING_UP)
        one, two = bed.one.store.pools, bed.two.store.pools
        same(dict(await one.free()), {"p1": 2})
        found = await asyncio.gather(*((one, two)[at % 2].take("p1", f"managed:j{at}:1") for at in range(8)))
        had = {key: worker for key, worker in ((f"managed:j{at}:1", found[at]) for at in range(8)) if worker}
        if len(had) < 2:
            # Who passed over a row that another one was just taking asks again.
            had |= {key: await one.take("p1", key) or "" for key in ("managed:a:1", "managed:b:1")}
            had = {key: worker for key, worker in had.items() if worker}
        same(sorted(had.values()), ["w1", "w2"])
        same(dict(await two.claims("p1")), {worker: key for key, worker in had.items()})
        for key, worker in had.items():
            same(await two.take("p1", key), worker)
            same((await two.claimed_by(key), await two.holder(worker)), (worker, key))
        same((await one.take("p1", "managed:z:1"), dict(await one.free())), (None, {}))
        key = next(iter(had))
        same(await one.give_back(key), None)
        same(await one.give_back(key), None)
        same(await two.take("p1", "managed:z:1"), had[key])

    async def test_one_that_is_to_go_is_nobodys_and_its_return_is_told(self, bed: Bed) -> None:
        """What the pool commits never takes it from who has it."""
        await self._opened(bed, WorkerState.READY)
        rows = bed.one.store.pools
        same(await rows.take("p1", "managed:a:1"), "w1")
        await self._write(bed, workers=workers(WorkerState.LEAVING))
        same((await rows.claimed_by("managed:a:1"), await rows.take("p1", "managed:b:1")), ("w1", None))
        same(await rows.give_back("managed:a:1"), "p1")
        same((await rows.take("p1", "managed:b:1"), dict(await rows.free())), (None, {}))
        await self._write(bed, workers=())
        same((await rows.holder("w1"), dict(await rows.claims("p1"))), (None, {}))

    async def test_a_worker_that_was_given_up_is_not_claimed_again(self, bed: Bed) -> None:
        """Its pool learns of it."""
        await self._opened(bed, WorkerState.READY, WorkerState.READY)
        rows = bed.one.store.pools
        same((await rows.take("p1", "managed:a:1"), await rows.condemn("managed:a:1")), ("w1", "p1"))
        same(await rows.condemn("managed:z:1"), None)
        found = await rows.situation("p1")
        same((dict(found.claims), found.condemned), ({"w1": "managed:a:1"}, frozenset(["w1"])))
        same(await rows.give_back("managed:a:1"), "p1")
        same(dict(await rows.free()), {"p1": 1})
        same(await rows.take("p1", "managed:b:1"), "w2")

    async def test_jobs_of_a_pool_wait_for_it_and_not_for_clusters(self, bed: Bed) -> None:
        """In their own order; those that lost a worker are among them."""
        jobs = bed.one.store.managed_jobs
        await self._opened(bed, WorkerState.READY)
        for id, at in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
            drawn = replace(managed(id, f"r{id}", created_at=at), pool="p", pool_id="p1")
            await jobs.open([job_life.opening(drawn)], 1.0)
        await jobs.open([job_life.opening(managed("x", "rx"))], 1.0)
        await put(bed, "c", stage=Stage.BACKOFF)
        await put(bed, "b", stage=Stage.PLACING, job_key="managed:b:1")
        same([each.id for each in await jobs.waiting(9)], ["x"])
        same(await jobs.waiting_in("p1", 9), [Waiting("c", "u", "default"), Waiting("a", "u", "default")])
        same((await jobs.placing_in("p1"), await jobs.placing_in("p2")), (1, 0))
        same((await jobs.before(9.0, "p1"), await jobs.before(9.0)), (2, 1))
        same([each.id for each in (await jobs.listed(JobQuery(pool="p1"))).jobs], ["c", "b", "a"])
        found = await bed.one.store.pools.situation("p1")
        same((found.waiting, found.unfinished), (3, 3))

    async def test_what_nobody_knows_is_found(self, bed: Bed) -> None:
        """Claims of attempts that are over, and clusters of workers that are no more."""
        store = bed.one.store
        await self._opened(bed, WorkerState.READY, WorkerState.READY)
        await store.managed_jobs.open([job_life.opening(managed("a"))], 1.0)
        await put(bed, "a", stage=Stage.RUNNING, job_key="managed:a:2")
        await store.pools.take("p1", "managed:a:1")
        await store.pools.take("p1", "managed:a:2")
        same(await store.pools.stray_claims(), ["managed:a:1"])
        await put(bed, "a", stage=Stage.DONE)
        same(sorted(await store.pools.stray_claims()), ["managed:a:1", "managed:a:2"])
        for id in ("w1", "w9"):
            drawn = replace(cluster(id, id), owner=f"pool:p1:1:{id[1:]}")
            await store.clusters.open(cluster_life.opening(drawn), 1.0)
        same(await store.pools.stray_clusters(), ["w9"])
        true(await store.managed_jobs.stray_clusters() == [], "they are no managed job's own")
