"""What has to hold for managed jobs in every world: none is lost, none runs twice at once, none leaves a thing behind.

Called by `invariants`, while a world runs (`meanwhile`) and once it has come to rest (`at_rest`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise

from sky.core.lifecycle.managed_pace import terms_of
from sky.core.model.clusters import Cluster
from sky.core.model.job_groups import Kind
from sky.core.model.managed_jobs import OWNED, ManagedJob, Stage
from sky.core.model.pools import OWNED as POOL
from sky.core.model.requests import Request
from sky.core.model.statuses import ManagedJobStatus, RequestStatus
from sky.core.ports import JobQuery
from sky.engine.managed_jobs import task_id_of
from sky.engine.receipts import Receipts
from sky.sim import spot
from sky.sim.node import SimJob
from sky.sim.world import World

#: How the ids of managed jobs' tasks begin, which are the same in all attempts.
MANAGED = "sky-managed-"
#: Seconds for which a cluster may outlive its job once everything works.
_OUTLIVES_S = 100.0
#: USD by which a receipt may differ from what the clouds charge, for each cluster.
_CENT = 0.005

_Runs = dict[str, list[SimJob]]


async def meanwhile(world: World, living: Sequence[Cluster]) -> None:
    """A managed job has one cluster or none, and none once it is over; on a worker of a pool runs one at most.

    One with a deadline may ask for a second cluster, to move there.
    """
    owned = [each for each in living if (each.owner or "").startswith(OWNED)]
    for owner, count in Counter(str(each.owner) for each in owned).items():
        job = await world.disk.managed_jobs.get(owner.removeprefix(OWNED))
        if count > 1 and (job is None or terms_of(job) is None or count > 2):
            world.violated(f"{owner} has {count} clusters")
        if job is not None and job.status.is_terminal():
            for each in owned:
                if each.owner == owner:
                    _outlives(world, job, each)
    _gangs_apart(world)
    _one_job_per_worker(world, living)


def _outlives(world: World, job: ManagedJob, cluster: Cluster) -> None:
    now = world.loop.time()
    since = world.since_over.setdefault(cluster.id, now)
    if now - max(since, world.calm_since) > _OUTLIVES_S:
        world.violated(
            f"cluster {cluster.name} is {cluster.phase} {now - since:.0f} s after managed job {job.number} was over"
        )


def _one_job_per_worker(world: World, living: Sequence[Cluster]) -> None:
    """On a worker of a pool runs one managed job at most, and none beside its setup."""
    workers = {site.mark: each.name for each in living if (each.owner or "").startswith(POOL) for site in each.where}
    if not workers:
        return
    for machine in world.machines():
        name = workers.get(machine.mark)
        if name is None or not machine.alive or not machine.node.on:
            continue
        running = [job for job in machine.node.disk.jobs.values() if job.began is not None and not job.over]
        if len(running) > 1:
            world.violated(f"{len(running)} jobs run on the worker {name}")


def _gangs_apart(world: World) -> None:
    """A managed job is begun anew on a node only once nothing of the attempt before runs there."""
    for machine in world.machines():
        for task in machine.node.beside:
            if task.startswith(MANAGED):
                world.violated(f"{task} was begun on {machine.name} beside what ran there of it")


# --- at rest ---------------------------------------------------------------------------------------------------------


async def at_rest(world: World) -> AsyncIterator[str]:
    """What is wrong although everybody's jobs have ended, or should have."""
    rows = world.disk.managed_jobs
    shown = (await rows.listed(JobQuery())).jobs
    async for line in _none_lost(world, shown):
        yield line
    runs = _runs(world)
    # Where records were put back, the place in which it runs may be forgotten; it is ended by the sweep only.
    for line in [] if world.forgot else _one_after_another(runs):
        yield line
    for job in shown:
        members = await rows.of_parent(job.id) if job.group is not None else [job]
        for each in (job, *members) if job.group is not None else (job,):
            if each.stage is not Stage.DONE or not each.status.is_terminal():
                yield f"managed job {each.number} never ended: {each.stage} {each.status} ({each.reason})"
        for line in _tasks(world, job, runs):
            yield line
        # A record that is put back may have forgotten what came first, and have it done again.
        for line in [] if world.forgot else _in_order(job, members, runs):
            yield line
        async for line in _receipt(world, job, members):
            yield line


def _runs(world: World) -> _Runs:
    """Each time that a task of a managed job was begun somewhere, the earliest first."""
    found: _Runs = defaultdict(list)
    for machine in world.machines():
        for job in machine.node.ran:
            if (task := str(job.spec.get("task_id"))).startswith(MANAGED):
                found[task].append(job)
    for each in found.values():
        each.sort(key=_began)
    return found


def _began(job: SimJob) -> float:
    assert job.began is not None
    return job.began


async def _none_lost(world: World, shown: Sequence[ManagedJob]) -> AsyncIterator[str]:
    """What somebody was told is taken on is on record; what was not, is not."""
    numbers = {job.number for job in shown}
    by_request = Counter(job.request_id for job in shown)
    for person in world.people:
        for id in person.requests:
            request = await world.disk.requests.get(id)
            if request is None or request.name != "jobs/launch":
                continue
            told = _told(request)
            if missing := [number for number in told if number not in numbers]:
                yield f"managed jobs {missing} of {person.name} were taken on and are not on record"
            if told and by_request[id] != len(told):
                yield f"request {id} was answered with {len(told)} managed jobs, and {by_request[id]} are on record"


def _told(request: Request) -> list[int]:
    result = request.result if request.status is RequestStatus.SUCCEEDED else None
    return [int(number) for number in result["job_ids"]] if isinstance(result, dict) else []


def _one_after_another(runs: _Runs) -> Iterator[str]:
    """No task is begun before the time in which it ran elsewhere is over."""
    for task, times in runs.items():
        for before, after in pairwise(times):
            if before.ended is None or before.ended > _began(after):
                ended = "never ended" if before.ended is None else f"ended {before.ended - _began(after):.1f} s later"
                yield f"{task} was begun as {after.key} while it ran as {before.key}, which {ended}"


def _tasks(world: World, job: ManagedJob, runs: _Runs) -> Iterator[str]:
    for at, task in enumerate(job.tasks):
        ran = len(runs.get(task_id_of(job, at), ()))
        if task.status is ManagedJobStatus.SUCCEEDED and not ran:
            yield f"task {at} of managed job {job.number} succeeded and never ran"
        # A record that is put back no longer knows of an attempt that had begun.
        if ran > len(task.attempts) and not world.forgot:
            yield f"task {at} of managed job {job.number} was started {ran} times in {len(task.attempts)} attempts"


def _in_order(job: ManagedJob, members: Sequence[ManagedJob], runs: _Runs) -> Iterator[str]:
    """Who is to come later began only once those before it had succeeded."""
    times = [runs.get(task_id_of(job, at), []) for at in range(len(job.tasks))]
    for at, before in _edges(job):
        if not times[at]:
            continue
        first = job.tasks[before]
        ends = [each.ended for each in times[before]]
        if first.status is not ManagedJobStatus.SUCCEEDED or not ends:
            yield f"task {at} of managed job {job.number} ran and task {before}, which it needs, {first.status}"
        elif any(end is None or end > _began(times[at][0]) for end in ends):
            yield f"task {at} of managed job {job.number} was begun before task {before}, which it needs, had ended"


def _edges(job: ManagedJob) -> list[tuple[int, int]]:
    """Positions of tasks with those of the tasks that each of them needs."""
    if job.group is None:
        return [(at, at - 1) for at in range(1, len(job.tasks))]
    if job.group.kind is not Kind.GRAPH:
        return []
    names = [task.name for task in job.tasks]
    return [(at, names.index(name)) for at, needs in enumerate(GRAPH) for name in needs]


#: What each task of a graph needs, in all worlds: a diamond.
GRAPH: tuple[tuple[str, ...], ...] = ((), ("t0",), ("t0",), ("t1", "t2"))


async def _receipt(world: World, job: ManagedJob, members: Sequence[ManagedJob]) -> AsyncIterator[str]:
    """A receipt is what the clouds charged for the clusters of a job and its members."""
    owners = {each.owner for each in members}
    mine = {each.id for each in await world.disk.clusters.since(0.0) if each.owner in owners}
    charged = sum(machine.cost(world.clock.now()) for machine in world.machines() if machine.cluster in mine)
    told = (await Receipts(world.disk, world.clock).of_job(job)).receipt.total
    told += sum(more for cluster, more in (await spot.price_moves(world)).items() if cluster in mine)
    if abs(charged - told) > _CENT * (1 + len(mine)):
        yield f"managed job {job.number} was charged {charged:.4f}, its receipt says {told:.4f}"
