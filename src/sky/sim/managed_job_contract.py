"""What every store keeps of managed jobs; a part of `store_contract`."""

from dataclasses import replace

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Phase
from sky.core.model.job_groups import Attached, Awaited, Group, Kind, Member, Membership
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.statuses import ManagedJobStatus
from sky.core.policy.admission import Waiting
from sky.core.ports import JobQuery
from sky.sim.store_bed import Bed, cluster, job, same, true


def managed(id: str, request: str = "r", user: str = "u", priority: int = 0, created_at: float = 1.0) -> ManagedJob:
    """One that waits for its turn."""
    return ManagedJob(
        id, 0, f"{request}:{id}", f"name-{id}", user, "default", Stage.WAITING, 0, created_at,
        (ManagedTask("t"),), task_configs={"0": {"run": "true", "secrets": {"K": "hidden"}}}, request_id=request,
        uploads={".": "manifest"}, priority=priority,
    )  # fmt: skip


async def put(bed: Bed, id: str = "a", status: ManagedJobStatus | None = None, **changes: object) -> None:
    """Write a job as it is to be."""
    rows, now = bed.one.store.managed_jobs, bed.one.now()
    await rows.post(id, events.Changed(), now)
    claims = await rows.claim(now, 5, "put", 9)
    for claim in claims:
        if claim.entity.id == id:
            after = replace(claim.entity, **changes)  # type: ignore[arg-type]
            if status is not None:
                after = replace(after, tasks=tuple(replace(each, status=status) for each in after.tasks))
            letters = [each.id for each in claim.letters]
            done = await rows.commit(claim, Step(after, ()), events.Changed(), now=now, due_at=None, letters=letters)
            await rows.release(done)
        else:
            await rows.release(claim)


class ManagedJobContract:
    """Numbers are given once, turns are kept, and what has moved on is found."""

    async def test_numbers_are_counted_up_and_a_request_opens_its_jobs_once(self, bed: Bed) -> None:
        """By whichever server."""
        rows, other = bed.one.store.managed_jobs, bed.two.store.managed_jobs
        steps = [life.opening(managed(id)) for id in ("a", "b")]
        same([each.number for each in await rows.open(steps, 1.0)], [1, 2])
        same([each.id for each in await other.open([life.opening(managed("z"))], 1.0)], ["a", "b"])
        same([each.number for each in await other.open([life.opening(managed("c", "r2"))], 1.0)], [3])
        found = await other.by_number(2)
        same((found and found.id, found and found.task_configs), ("b", steps[1].entity.task_configs))
        same(await rows.by_number(9), None)
        same([each.id for each in await rows.of_request("r")], ["a", "b"])

    async def test_members_are_behind_their_parent(self, bed: Bed) -> None:
        """They have numbers that nobody knows, and come without being counted or listed."""
        rows, other = bed.one.store.managed_jobs, bed.two.store.managed_jobs
        parent = replace(managed("p"), group=Group(Kind.SWEEP, (Member("m"), Member("n")), most_at_once=1))
        drawn = [parent]
        for at, id in enumerate(("m", "n")):
            drawn.append(replace(managed(id), member=Membership("p", at, "g", Kind.SWEEP, gated=True)))
        same([each.number for each in await rows.open([life.opening(each) for each in drawn], 1.0)], [1])
        same([each.id for each in await other.open([life.opening(each) for each in drawn], 1.0)], ["p"])
        members = await rows.of_parent("p")
        same([(each.id, each.number, each.known_as) for each in members], [("m", -1, 1), ("n", -2, 1)])
        same([each.id for each in (await rows.listed(JobQuery())).jobs], ["p"])
        same([each.id for each in (await rows.listed(JobQuery(with_clusters=True))).jobs], ["m", "n"])
        same((await rows.waiting(9), (await rows.under_way()).alive, await rows.leading()), ([], 0, ["p"]))
        same([each.number for each in await rows.open([life.opening(managed("z", "r2"))], 1.0)], [2])

    async def test_what_is_launched_into_a_group_is_no_member_of_it(self, bed: Bed) -> None:
        """It is counted and listed like any other, and found by the group until it has ended."""
        rows = bed.one.store.managed_jobs
        parent = replace(managed("p"), group=Group(Kind.GROUP, (Member("m"),)))
        member = replace(managed("m"), member=Membership("p", 0, "g", Kind.GROUP))
        await rows.open([life.opening(parent), life.opening(member)], 1.0)
        for number, id in enumerate(("a", "b"), 2):
            child = replace(managed(id, f"r{id}"), attached=Attached("p", 1))
            same([each.number for each in await rows.open([life.opening(child)], 1.0)], [number])
        same([each.id for each in await rows.of_parent("p")], ["m"])
        same([each.id for each in (await rows.listed(JobQuery())).jobs], ["b", "a", "p"])
        same((await rows.attached("p"), await rows.attached("m")), (["a", "b"], []))
        await self._put(bed, id="a", stage=Stage.DONE, ended_at=2.0, status=ManagedJobStatus.FAILED)
        same(await rows.attached("p"), ["b"])

    async def test_those_whose_wait_is_over_are_found(self, bed: Bed) -> None:
        """When what they wait for has ended, or is not there any more; not while it goes on, nor once they know."""
        rows = bed.one.store.managed_jobs
        for id in ("a", "b"):
            await rows.open([life.opening(managed(id, f"r{id}"))], 1.0)
        after = tuple(Awaited(id, f"job {id}") for id in ("a", "b", "a"))
        await rows.open([life.opening(replace(managed("w", "rw"), after=after))], 1.0)
        same((await rows.waits_over(9), [each.id for each in await rows.waiting(9)]), ([], ["a", "b"]))
        await self._put(bed, id="a", stage=Stage.DONE, ended_at=2.0, status=ManagedJobStatus.FAILED)
        same(await rows.waits_over(9), ["w"])
        await self._put(bed, id="w", after=after[1:2])
        same(await rows.waits_over(9), [])
        await self._put(bed, id="b", stage=Stage.DONE, ended_at=2.0, status=ManagedJobStatus.SUCCEEDED)
        same(await rows.waits_over(9), ["w"])
        await bed.one.store.forget_managed_jobs(3.0)
        same(await rows.waits_over(9), ["w"])
        await self._put(bed, id="w", after=(), stage=Stage.WAITING)
        same(await rows.waits_over(9), [])

    async def test_a_number_is_not_given_again(self, bed: Bed) -> None:
        """Not even once its job is forgotten."""
        rows = bed.one.store.managed_jobs
        await rows.open([life.opening(managed("a"))], 1.0)
        await self._put(bed, ended_at=5.0, stage=Stage.DONE)
        same(await bed.one.store.forget_managed_jobs(5.0), [])
        same(await bed.one.store.forget_managed_jobs(6.0), [1])
        same(await bed.one.store.forget_managed_jobs(6.0), [])
        same((await rows.open([life.opening(managed("b", "r2"))], 1.0))[0].number, 2)

    async def test_those_that_wait_come_in_turn(self, bed: Bed) -> None:
        """Priority first, then who came first; a long wait makes up for priority."""
        rows = bed.one.store.managed_jobs
        for id, priority, created_at in (("a", 0, 3.0), ("b", 0, 2.0), ("c", 9, 4.0), ("d", 9, 5000.0)):
            await rows.open([life.opening(managed(id, f"r{id}", priority=priority, created_at=created_at))], 1.0)
        same([each.id for each in await rows.waiting(9)], ["c", "b", "a", "d"])
        same(await rows.waiting(1), [Waiting("c", "u", "default")])
        last = await rows.get("a")
        true(last is not None, "it is on record")
        same(await rows.before(last.turn if last else 0.0), 2)

    async def test_what_is_under_way_is_counted(self, bed: Bed) -> None:
        """By what it does, whose it is, and where."""
        rows = bed.one.store.managed_jobs
        for id, user in (("a", "u"), ("b", "v"), ("c", "v")):
            await rows.open([life.opening(managed(id, f"r{id}", user))], 1.0)
        await self._put(bed, id="a", stage=Stage.LAUNCHING)
        await self._put(bed, id="b", stage=Stage.RUNNING)
        found = await rows.under_way()
        same((found.launching, dict(found.users), dict(found.workspaces)), (1, {"u": 1, "v": 1}, {"default": 2}))

    async def test_lists_are_filtered_counted_and_newest_first(self, bed: Bed) -> None:
        """As they are asked for."""
        rows = bed.one.store.managed_jobs
        for id, user in (("a", "u"), ("b", "v"), ("c", "u")):
            await rows.open([life.opening(managed(id, f"r{id}", user, created_at=ord(id)))], 1.0)
        await self._put(bed, id="c", stage=Stage.DONE, ended_at=9.0, status=ManagedJobStatus.SUCCEEDED)

        async def ids(**asked: object) -> str:
            return "".join(each.id for each in (await rows.listed(JobQuery(**asked))).jobs)  # type: ignore[arg-type]

        same(await ids(), "cba")
        same([await ids(users=["u"]), await ids(numbers=[1, 2]), await ids(unfinished=True)], ["ca", "ba", "ba"])
        same([await ids(statuses=["SUCCEEDED"]), await ids(name="name-b"), await ids(limit=1)], ["c", "b", "c"])
        same([await ids(after=98.0), await ids(before=98.0), await ids(workspaces=["other"])], ["cb", "ba", ""])
        same(dict((await rows.listed(JobQuery(limit=1))).counts), {"PENDING": 2, "SUCCEEDED": 1})

    async def test_what_moved_on_since_it_was_looked_at_is_found(self, bed: Bed) -> None:
        """Whichever wake-up was lost."""
        store = bed.one.store
        rows = store.managed_jobs
        await rows.open([life.opening(managed("a"))], 1.0)
        await bed.opened("c1")
        await self._put(bed, stage=Stage.LAUNCHING, cluster_id="c1", job_key="r-j1", seen_phase="PROVISIONING")
        same(await rows.moved(9), [])
        await store.jobs.open(Step(job("j1")), 1.0)
        same(await rows.moved(9), ["a"])
        await self._put(bed, stage=Stage.LAUNCHING, seen_version=0)
        same(await rows.moved(9), [])
        claim = await bed.claimed()
        await bed.commit(claim, replace(claim.entity, phase=Phase.UP), bed.one.now())
        same(await rows.moved(9), ["a"])

    async def test_clusters_that_are_not_needed_any_more_are_found(self, bed: Bed) -> None:
        """Those of jobs that are over, or have another by now."""
        store = bed.one.store
        await store.managed_jobs.open([life.opening(managed("a"))], 1.0)
        mine = replace(cluster("c1"), owner="managed:a")
        await store.clusters.open(cluster_life.opening(mine), 1.0)
        await store.clusters.open(cluster_life.opening(cluster("c2", "two")), 1.0)
        same(await store.managed_jobs.stray_clusters(), [])
        await self._put(bed, stage=Stage.RUNNING, cluster_id="c1")
        same(await store.managed_jobs.stray_clusters(), [])
        same(await store.managed_jobs.logged(), [("a", "c1")])
        same(await store.managed_jobs.logged(["b", "a"]), [("a", "c1")])
        same(await store.managed_jobs.logged(["b"]), [])
        await self._put(bed, stage=Stage.RUNNING, cluster_id="c9")
        same(await store.managed_jobs.stray_clusters(), [("c1", "a")])
        await self._put(bed, stage=Stage.DONE, cluster_id="c1")
        same(await store.managed_jobs.stray_clusters(), [("c1", "a")])

    async def test_uploads_of_managed_jobs_are_kept_while_they_live(self, bed: Bed) -> None:
        """They may be brought to another cluster."""
        await bed.one.store.managed_jobs.open([life.opening(managed("a"))], 1.0)
        same(set(await bed.one.store.manifests_in_use()), {"manifest"})
        await self._put(bed, stage=Stage.DONE, ended_at=3.0)
        same(set(await bed.one.store.manifests_in_use()), set())

    async def _put(self, bed: Bed, id: str = "a", status: ManagedJobStatus | None = None, **changes: object) -> None:
        await put(bed, id, status, **changes)
