"""Carries out a pool's order, and gives its workers to jobs: one job per worker, under a claim of the job's own.

`PoolWork` is run by `work.Driver` under `plane`; `Workers` is what `managed_jobs` asks where a job runs in a pool;
`Calls` wakes pools and the jobs on their workers. Ids come from the pool's own, so whatever is done can be repeated.
"""

import logging
from collections.abc import Mapping

from sky.core.errors import ResourcesUnavailableError, SkyError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import pools as life
from sky.core.lifecycle.machine import Table
from sky.core.lifecycle.placing import described
from sky.core.model.clusters import Cluster, InstanceState, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.layers import for_launch
from sky.core.model.managed_jobs import ManagedJob, Where
from sky.core.model.offers import Placement
from sky.core.model.pools import OWNED, Pool, PoolStage, Worker, WorkerState
from sky.core.model.statuses import JobStatus
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy.receipts import remembered
from sky.core.policy.rights import Reach, infra_for
from sky.core.ports import JobQuery
from sky.engine.desk import Desk
from sky.engine.launch import hedging
from sky.engine.managed_logs import ManagedLogs
from sky.engine.plans import Said
from sky.kit.frozen import replace

log = logging.getLogger(__name__)

#: Seconds after which a job for which no worker was free asks again, if nobody tells it before.
ASK_AGAIN_S = 30.0
#: How the key of a managed job's attempt begins; id and number follow.
_JOB = "managed:"


class PoolWork:
    """The noun `pool` for the engine's loop."""

    name = "pool"
    table: Table[Pool] = life.TABLE

    def __init__(self, desk: Desk) -> None:
        self.rows = desk.store.pools
        self._desk = desk

    def id_of(self, entity: Pool) -> str:
        return entity.id

    def due_at(self, entity: Pool, now: float) -> float | None:
        return life.due_at(entity)

    def due_event(self) -> object:
        return life.Due()

    def before_order(self, entity: Pool, order: object) -> None:
        return None

    def put_down(self, entity: Pool) -> None:
        return None

    def committed(self, before: Pool, after: Pool) -> None:
        """Wake who waits for it, and who lets jobs begin."""
        signals = self._desk.signals
        signals.notify(f"pool:{after.id}")
        if after.ready > before.ready:
            signals.notify("managed_jobs:room")

    def crashed(self, order: object, error: Exception) -> object:
        return life.NotSeen(f"internal error, see the server's log: {type(error).__name__}: {error}")

    async def glance(self, entity: Pool, order: object) -> None:
        return None

    async def act(self, entity: Pool, key: str, order: object) -> object:
        """Do for each worker what its state calls for, then look at all of them; claims are read last."""
        desk = self._desk
        if entity.stage is PoolStage.ENDING:
            await self._cancel_jobs(entity)
        failed = await self._open_clusters(entity)
        seen = [await self._seen(entity, each, failed) for each in entity.workers]
        return life.Tended(tuple(seen), await desk.store.pools.situation(entity.id))

    async def _cancel_jobs(self, pool: Pool) -> None:
        """Who still wants its workers will get none."""
        rows = self._desk.store.managed_jobs
        asked = events.CancelAsked(failed=f"its pool {pool.name} was taken down")
        for job in (await rows.listed(JobQuery(pool=pool.id, unfinished=True))).jobs:
            if not job.cancel_asked:
                await self._desk.post.send("managed_job", rows, job.id, asked)

    # --- clusters ------------------------------------------------------------------------------------------------

    async def _open_clusters(self, pool: Pool) -> Mapping[int, str]:
        """Put those of new workers on record; why not, by worker."""
        failed: dict[int, str] = {}
        places: dict[int, tuple[Placement, ...] | str] = {}
        for worker in pool.workers:
            if worker.state is not WorkerState.PLACING or await self._desk.store.clusters.get(worker.cluster_id):
                continue
            if worker.revision not in places:
                places[worker.revision] = await self._placements(pool, pool.task_of(worker.revision))
            found = places[worker.revision]
            if isinstance(found, str):
                failed[worker.number] = found
            else:
                await self._open(pool, worker, found)
        return failed

    async def _placements(self, pool: Pool, task: TaskSpec) -> tuple[Placement, ...] | str:
        desk = self._desk
        within = infra_for(pool.reach, await desk.workspaces.get(pool.workspace))
        try:
            return (await desk.planner.place(task, Goal.COST, Said.of(pool.layers), within)).placements
        except (ResourcesUnavailableError, SkyError, ValueError) as error:
            return str(error)

    async def _open(self, pool: Pool, worker: Worker, placements: tuple[Placement, ...]) -> None:
        desk, now, task = self._desk, self._desk.clock.now(), pool.task_of(worker.revision)
        layers = for_launch(pool.layers, task.config, everything=pool.reach == Reach.ALL)
        drawn = Cluster(
            id=worker.cluster_id,
            name=f"{pool.name}-{worker.number}",
            user=pool.user,
            workspace=pool.workspace,
            phase=Phase.PROVISIONING,
            version=0,
            created_at=now,
            status_at=now,
            num_nodes=task.num_nodes,
            resources=described(placements[0]),
            resources_config=task.resources[0].to_yaml_config(),
            command=pool.command,
            task_config={key: value for key, value in task.to_config().items() if key != "pool"},
            candidates=placements,
            layers=layers,
            hedge=hedging(layers, desk.section("provision")),
            owner=pool.owner(worker),
            planned=remembered(placements),
        )
        cluster, _ = await desk.store.clusters.open(cluster_life.opening(drawn), now)
        if cluster.id != worker.cluster_id:
            # Somebody has a cluster of this name.
            other = replace(drawn, name=f"{drawn.name}-{worker.cluster_id[-4:]}")
            await desk.store.clusters.open(cluster_life.opening(other), now)
        desk.signals.notify("work:cluster")
        desk.signals.notify("clusters")

    # --- looking -------------------------------------------------------------------------------------------------

    async def _seen(self, pool: Pool, worker: Worker, failed: Mapping[int, str]) -> life.WorkerSeen:
        desk = self._desk
        cluster = await desk.store.clusters.get(worker.cluster_id)
        if cluster is None:
            return life.WorkerSeen(worker.number, failed=failed.get(worker.number))
        if worker.state is WorkerState.ENDING and cluster.phase not in (Phase.TERMINATING, Phase.TERMINATED):
            await desk.tell(cluster, cluster_life.DownAsked())
        setup = None
        if worker.state is WorkerState.SETTING_UP:
            setup = await self._setup(pool, worker, cluster)
        return seen(worker.number, cluster, setup)

    async def _setup(self, pool: Pool, worker: Worker, cluster: Cluster) -> Job | None:
        """The job that sets a worker up, which is begun once."""
        desk, key = self._desk, pool.setup_key(worker)
        there = await desk.store.jobs.by_request(key)
        if there is not None or cluster.phase is not Phase.UP:
            return there
        now, task = desk.clock.now(), pool.task_of(worker.revision)
        drawn = Job(
            id=f"{worker.cluster_id}-s",
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            request_id=key,
            user=pool.user,
            phase=JobPhase.SYNCING,
            status=JobStatus.INIT,
            version=0,
            created_at=now,
            task_config=setup_of(task),
            uploads=pool.uploads.get(str(worker.revision), {}),
            name=f"{pool.name}-setup",
            task_id=f"sky-{int(now * 1000)}_{cluster.name}_setup",
            resources="-",
        )
        job, _ = await desk.store.jobs.open(job_life.opening(drawn), now)
        desk.signals.notify("work:job")
        return job


def setup_of(task: TaskSpec) -> Mapping[str, object]:
    """The task of a pool as the job that sets a worker up: what it would run is not a worker's business."""
    config = {key: value for key, value in task.to_config().items() if key not in ("pool", "run")}
    return config if task.setup else {**config, "setup": "true"}


def seen(number: int, cluster: Cluster, setup: Job | None) -> life.WorkerSeen:
    """What the rows of a worker's cluster and of its setup say."""
    there = (InstanceState.RUNNING, InstanceState.PENDING)
    standing = sum(each.state in there for each in cluster.instances)
    counted = cluster.phase in (Phase.UP, Phase.DEGRADED)
    placement = cluster.placement
    return life.WorkerSeen(
        number,
        cluster.phase,
        cluster.name,
        missing=max(0, cluster.num_nodes - standing) if counted else 0,
        reason=cluster.reason,
        where=None if placement is None else where_of(placement),
        setup=None if setup is None else setup.status,
        setup_reason=None if setup is None else setup.reason,
    )


def where_of(placement: Placement) -> Where:
    """A placement, as it is remembered."""
    offer = placement.offer
    return Where(
        offer.cloud, offer.region, offer.zone, offer.instance_type, offer.use_spot, placement.price_hourly,
        described(placement),
    )  # fmt: skip


class Workers:
    """What a managed job asks of its pool."""

    def __init__(self, desk: Desk, logs: ManagedLogs | None = None) -> None:
        self._desk = desk
        self._logs = logs

    async def take(self, job: ManagedJob) -> object:
        """A worker that nobody else has: `Launched`, or why not. The attempt's key is the claim."""
        store = self._desk.store
        assert job.pool_id is not None and job.job_key is not None
        pool = await store.pools.get(job.pool_id)
        if pool is None or pool.stage is not PoolStage.ACTIVE:
            return events.NotPlaced(f"the pool {job.pool} is not there any more", wrong=True, hopeless=True)
        worker = await store.pools.take(pool.id, job.job_key)
        if worker is None:
            return events.Postponed(ASK_AGAIN_S, f"no worker of the pool {pool.name} is free")
        cluster = await store.clusters.get(worker)
        if cluster is None:
            await store.pools.condemn(job.job_key)
            await self._call(pool.id)
            return events.NotSeen("the worker that was free has no cluster")
        return events.Launched(cluster.id, cluster.name, f"takes the worker {cluster.name}")

    async def leave(self, job: ManagedJob) -> events.Seen | None:
        """See that nothing of the job runs on its worker any more, and give it back; None while that takes time.

        The claim is given up only where the node itself says that the job has ended, or where the machines are gone.
        A worker that cannot say so is ended by its pool.
        """
        store, key = self._desk.store, job.job_key
        worker = None if key is None else await store.pools.claimed_by(key)
        if worker is None or key is None:
            if self._logs is not None:
                await self._logs.finish(job, None)
            return events.Seen(None)
        cluster = await store.clusters.get(worker)
        there = await store.jobs.by_request(key)
        if cluster is None or cluster.phase is Phase.TERMINATED:
            return await self._give_back(job, key, cluster)
        if there is not None and there.phase is not JobPhase.DONE and cluster.phase is Phase.UP:
            await self._desk.post.send("job", store.jobs, there.id, job_life.CancelAsked())
            return None
        if cluster.phase is Phase.UP and (there is None or there.status is not JobStatus.FAILED_DRIVER):
            return await self._give_back(job, key, cluster)
        if pool := await store.pools.condemn(key):
            await self._call(pool)
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        return None

    async def _give_back(self, job: ManagedJob, key: str, cluster: Cluster | None) -> events.Seen:
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        waiting = await self._desk.store.pools.give_back(key)
        if waiting is not None:
            await self._call(waiting)
        self._desk.signals.notify("managed_jobs:room")
        return events.Seen(None)

    async def _call(self, pool_id: str) -> None:
        await self._desk.post.send("pool", self._desk.store.pools, pool_id, life.Changed())


class Calls:
    """Wakes pools, and jobs on their workers, when a worker's cluster or its setup has moved on. Run by `Nudges`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pools: dict[str, None] = {}
        self._workers: dict[str, None] = {}

    def cluster(self, cluster: Cluster) -> None:
        """A worker's cluster was committed."""
        self._pools[_pool_of(cluster.owner or "")] = None
        self._workers[cluster.id] = None

    def job(self, job: Job) -> None:
        """A job that sets a worker up was committed."""
        self._pools[_pool_of(job.request_id)] = None

    async def post(self) -> None:
        """Pass on what was committed since."""
        pools, self._pools = self._pools, {}
        workers, self._workers = self._workers, {}
        store, post = self._desk.store, self._desk.post
        for id in pools:
            await post.send("pool", store.pools, id, life.Changed())
        for worker in workers:
            key = await store.pools.holder(worker)
            if key is not None:
                id = key.removeprefix(_JOB).partition(":")[0]
                await post.send("managed_job", store.managed_jobs, id, events.Changed())

    async def net(self) -> None:
        """Find claims and clusters that nobody knows any more, which no order of events that is known leaves behind."""
        store = self._desk.store
        for key in await store.pools.stray_claims():
            log.warning("the claim %s belongs to no job: its worker is ended", key)
            if pool := await store.pools.condemn(key):
                await store.pools.give_back(key)
                await self._desk.post.send("pool", store.pools, pool, life.Changed())
        for id in await store.pools.stray_clusters():
            cluster = await store.clusters.get(id)
            if cluster is not None and cluster.phase is not Phase.TERMINATING:
                log.warning("ending cluster %s: the pool that had it does not know it", cluster.name)
                await self._desk.tell(cluster, cluster_life.DownAsked())


def _pool_of(owner: str) -> str:
    return owner.removeprefix(OWNED).partition(":")[0]
