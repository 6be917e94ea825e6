"""Carries out a managed job's orders: finds a place, records cluster and job, looks at them, has them ended.

Run by `work.Driver` under `plane`. Nothing is done here that is not done to rows: the drivers of clusters and jobs do
the work, and their commits wake the managed job (`Nudges`). Ids come from the job's own, so each order can be repeated.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import replace

from sky.core.errors import ResourcesUnavailableError, SkyError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.machine import Table
from sky.core.lifecycle.placing import described
from sky.core.model.clusters import Autostop, Cluster, InstanceState, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.layers import for_launch
from sky.core.model.managed_jobs import OWNED, ManagedJob, Stage, Where
from sky.core.model.offers import Placement
from sky.core.model.statuses import JobStatus
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy import recovery
from sky.core.policy.receipts import remembered
from sky.core.policy.rights import Reach, infra_for
from sky.engine.budgets import on_spot
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties
from sky.engine.launch import hedging
from sky.engine.managed_logs import ManagedLogs
from sky.engine.plans import Said
from sky.engine.recovering import strategies
from sky.engine.waiting import until

log = logging.getLogger(__name__)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: Characters of a job's name that its clusters' names begin with.
_NAME = 25
#: Seconds for which the machines of a job that failed are asked after, before its failure counts as its own.
_VERIFY_S = 20.0
#: Seconds between looks for jobs whose wake-up was lost, and how many are found at a time.
_NET_S, _MOST_FOUND = 10.0, 1000
#: How the key of a managed job's job begins; id and attempt follow.
_KEY = "managed:"


class ManagedJobWork:
    """The noun `managed_job` for the engine's loop."""

    name = "managed_job"
    table: Table[ManagedJob] = life.TABLE

    def __init__(self, desk: Desk, logs: ManagedLogs | None = None) -> None:
        self.rows = desk.store.managed_jobs
        self._desk = desk
        self._logs = logs

    def id_of(self, entity: ManagedJob) -> str:
        return entity.id

    def due_at(self, entity: ManagedJob, now: float) -> float | None:
        return life.due_at(entity)

    def due_event(self) -> object:
        return events.Due()

    def before_order(self, entity: ManagedJob, order: object) -> None:
        return None

    def put_down(self, entity: ManagedJob) -> None:
        return None

    def committed(self, before: ManagedJob, after: ManagedJob) -> None:
        """Wake who waits for it, who admits others, and who keeps logs."""
        signals = self._desk.signals
        signals.notify(f"managed_job:{after.id}")
        if before.stage is not after.stage:
            if after.stage in (Stage.DONE, Stage.SUBMITTING, Stage.CLEARING, Stage.BACKOFF):
                signals.notify("managed_jobs:room")
            if Stage.RUNNING in (before.stage, after.stage):
                signals.ring("managed_jobs:logs")

    def crashed(self, order: object, error: Exception) -> object:
        return events.NotSeen(f"internal error, see the server's log: {type(error).__name__}: {error}")

    async def act(self, entity: ManagedJob, key: str, order: object) -> object:
        match order:
            case events.Launch():
                return await self._launch(entity)
            case events.OpenJob():
                await self._open_job(entity)
            case events.CancelJob():
                await self._cancel_job(entity)
            case events.Close():
                await self._close(entity)
            case events.Release():
                await self._release(entity, order)
        return await self._seen(entity)

    # --- a place -------------------------------------------------------------------------------------------------

    async def _launch(self, job: ManagedJob) -> object:
        id = cluster_id_of(job)
        there = await self._desk.store.clusters.get(id)
        if there is not None:
            return events.Launched(there.id, there.name)
        task = await on_spot(self._desk, job, task_of(job))
        config = life.recovery_config(job)
        history = recovery.History(job.lost, job.task.where, job.failures, job.attempt, config)
        choice = strategies()[recovery.strategy_name(config)](history)
        if choice.wait > 0:
            return events.Postponed(choice.wait, choice.reason or "the strategy waits")
        try:
            placements = await self._placements(job, task, choice)
        except ResourcesUnavailableError as error:
            return events.NotPlaced(str(error), hopeless=error.no_failover)
        except (SkyError, ValueError) as error:
            return events.NotPlaced(str(error), wrong=True)
        cluster = await self._open(job, task, id, placements)
        because = f" ({choice.reason})" if choice.reason else ""
        first = placements[0].offer
        return events.Launched(
            cluster.id, cluster.name, f"launching {cluster.name}: {first.instance_type} on {first.place}{because}"
        )

    async def _placements(self, job: ManagedJob, task: TaskSpec, choice: recovery.Choice) -> tuple[Placement, ...]:
        """Where it could be had; places that are to be avoided only where there are no others."""
        desk = self._desk
        within = infra_for(job.reach, await desk.workspaces.get(job.workspace))
        try:
            avoided = Said.of(job.layers, [[{"infra": each} for each in choice.avoid]])
            made = await desk.planner.place(task, Goal.COST, avoided, within)
        except ResourcesUnavailableError:
            if not choice.avoid:
                raise
            made = await desk.planner.place(task, Goal.COST, Said.of(job.layers), within)
        if choice.prefer is None:
            return made.placements
        return tuple(sorted(made.placements, key=lambda each: recovery.region_of(where_of(each)) != choice.prefer))

    async def _open(self, job: ManagedJob, task: TaskSpec, id: str, placements: tuple[Placement, ...]) -> Cluster:
        desk, now = self._desk, self._desk.clock.now()
        layers = for_launch(job.layers, task.config, everything=job.reach == Reach.ALL)
        drawn = Cluster(
            id=id,
            name=cluster_name_of(job),
            user=job.user,
            workspace=job.workspace,
            phase=Phase.PROVISIONING,
            version=0,
            created_at=now,
            status_at=now,
            num_nodes=task.num_nodes,
            resources=described(placements[0]),
            resources_config=task.resources[0].to_yaml_config(),
            command=job.command,
            task_config=task.to_config(),
            candidates=placements,
            layers=layers,
            hedge=hedging(layers, desk.section("provision")),
            owner=job.owner,
            planned=remembered(placements),
        )
        cluster, _ = await desk.store.clusters.open(cluster_life.opening(drawn), now)
        if cluster.id != id:
            # Somebody has a cluster of this name.
            other = replace(drawn, name=f"{drawn.name}-{job.attempt}-{id[-4:]}")
            cluster, _ = await desk.store.clusters.open(cluster_life.opening(other), now)
        desk.signals.notify("work:cluster")
        desk.signals.notify("clusters")
        return cluster

    # --- what is there -------------------------------------------------------------------------------------------

    async def _seen(self, job: ManagedJob) -> events.Seen:
        cluster = await self._desk.store.clusters.get(cluster_id_of(job))
        there = await self._desk.store.jobs.by_request(job.job_key) if job.job_key else None
        failed = there is not None and there.status in (JobStatus.FAILED, JobStatus.FAILED_SETUP)
        if (
            failed
            and cluster is not None
            and cluster.phase is Phase.UP
            and job.stage in (Stage.RUNNING, Stage.SUBMITTING)
        ):
            # What a machine that is being taken away does to its processes looks like a failure of their own.
            cluster = await self._verified(cluster)
        return seen(cluster, there)

    async def _verified(self, cluster: Cluster) -> Cluster:
        """The cluster, once its provider has been asked anew what there is of it."""
        desk = self._desk
        letter = await desk.tell(cluster, cluster_life.Due())

        async def load() -> tuple[bool, Cluster]:
            heeded = await desk.store.clusters.heeded(letter)
            return heeded, await desk.store.clusters.get(cluster.id) or cluster

        try:
            async with asyncio.timeout(_VERIFY_S):
                # Two commits: the order to look, and what was seen.
                _, after = await until(
                    desk.signals,
                    f"cluster:{cluster.id}",
                    load,
                    lambda found: found[0] and found[1].version >= cluster.version + 2,
                )
                return after
        except TimeoutError:
            return await desk.store.clusters.get(cluster.id) or cluster

    # --- its job -------------------------------------------------------------------------------------------------

    async def _open_job(self, job: ManagedJob) -> None:
        desk, now = self._desk, self._desk.clock.now()
        cluster = await desk.store.clusters.get(cluster_id_of(job))
        if cluster is None or cluster.phase is not Phase.UP or job.job_key is None:
            return
        task = task_of(job)
        drawn = Job(
            id=_derived(job, f"{job.attempt}:job"),
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            request_id=job.job_key,
            user=job.user,
            phase=JobPhase.SYNCING,
            status=JobStatus.INIT,
            version=0,
            created_at=now,
            task_config=task.to_config(),
            uploads=job.uploads,
            name=task.name or job.name,
            task_id=task_id_of(job, job.at),
            resources=job.task.resources,
            variables=variables_of(job),
        )
        await desk.store.jobs.open(job_life.opening(drawn), now)
        desk.signals.notify("work:job")

    async def _cancel_job(self, job: ManagedJob) -> None:
        there = await self._desk.store.jobs.by_request(job.job_key) if job.job_key else None
        if there is not None and there.phase is not JobPhase.DONE:
            await self._desk.post.send("job", self._desk.store.jobs, there.id, job_life.CancelAsked())

    async def _close(self, job: ManagedJob) -> None:
        cluster = await self._desk.store.clusters.get(cluster_id_of(job))
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        if cluster is not None and cluster.phase not in (Phase.TERMINATING, Phase.TERMINATED):
            await self._desk.tell(cluster, cluster_life.DownAsked())

    async def _release(self, job: ManagedJob, order: events.Release) -> None:
        cluster = await self._desk.store.clusters.get(cluster_id_of(job))
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        if cluster is not None and cluster.alive:
            await self._desk.tell(cluster, cluster_life.Released())
            if order.seconds is not None:
                idle = Autostop(order.seconds / 60, down=True)
                await self._desk.tell(cluster, cluster_life.AutostopAsked(idle))


class Nudges:
    """Wakes managed jobs when their clusters, or their jobs there, move on.

    Commits tell of it at once; what was missed, by a crash say, is found by comparing rows with what was last seen.
    """

    def __init__(self, desk: Desk, duties: Duties | None = None) -> None:
        self._desk = desk
        self._duties = duties or Alone()
        self._moved: dict[str, None] = {}

    def cluster(self, before: Cluster, after: Cluster) -> None:
        """A cluster was committed. What only brings it up is not looked at, but at its end."""
        if after.owner is None or not after.owner.startswith(OWNED):
            return
        moved = before.phase is not after.phase and after.phase is not Phase.BOOTSTRAPPING
        if moved or (after.ever_up and before.instances != after.instances):
            self._put(after.owner.removeprefix(OWNED))

    def job(self, before: Job, after: Job) -> None:
        """A job on a cluster was committed: of interest is that it runs, and that it is over."""
        if not after.request_id.startswith(_KEY):
            return
        begun = after.status is JobStatus.RUNNING or after.phase is JobPhase.DONE
        if begun and (before.status, before.phase, before.start_at) != (after.status, after.phase, after.start_at):
            self._put(after.request_id.removeprefix(_KEY).partition(":")[0])

    def _put(self, id: str) -> None:
        self._moved[id] = None
        self._desk.signals.ring("managed_jobs:moved")

    async def run(self) -> None:
        """Until cancelled."""
        clock = self._desk.clock
        next_net = clock.now()
        with self._desk.signals.watch("managed_jobs:moved") as change:
            while True:
                try:
                    await self._post()
                    if clock.now() >= next_net:
                        next_net = clock.now() + _NET_S
                        await self.net()
                except Exception:  # a full disk, say: the next round may do better, and none may be the last
                    log.exception("managed jobs cannot be woken just now")
                    await clock.sleep(1.0)
                await change.changed(max(0.0, next_net - clock.now()))

    async def _post(self) -> None:
        moved, self._moved = self._moved, {}
        rows = self._desk.store.managed_jobs
        for id in moved:
            await self._desk.post.send("managed_job", rows, id, events.Changed())

    async def net(self) -> None:
        """Find those whose wake-up was lost, and clusters that no managed job needs any more."""
        if not self._duties.has("sweep"):
            return
        store = self._desk.store
        for id in await store.managed_jobs.moved(_MOST_FOUND):
            await self._desk.post.send("managed_job", store.managed_jobs, id, events.Changed())
        for cluster_id, id in await store.managed_jobs.stray_clusters():
            owner, cluster = await store.managed_jobs.get(id), await store.clusters.get(cluster_id)
            if cluster is None or cluster.phase is Phase.TERMINATING:
                continue
            if owner is not None and owner.kept:
                await self._desk.tell(cluster, cluster_life.Released())
                continue
            log.warning("ending cluster %s: the managed job that had it does not need it any more", cluster.name)
            await self._desk.tell(cluster, cluster_life.DownAsked())


# --- what follows from a job -------------------------------------------------------------------------------------


def _derived(job: ManagedJob, what: str) -> str:
    """An id of the usual form that is the same each time."""
    number = int.from_bytes(hashlib.sha256(f"{job.id}:{what}".encode()).digest()[:10])
    return job.id[:10] + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5))


def cluster_id_of(job: ManagedJob) -> str:
    """The id of the attempt's cluster."""
    return _derived(job, f"{job.attempt}:cluster")


def cluster_name_of(job: ManagedJob) -> str:
    """The name of its clusters: its own, as far as it is fit, and its number."""
    said = (job.task.name if len(job.tasks) > 1 else None) or job.name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", said[:_NAME]).strip("-_.")
    return f"{name if name[:1].isalpha() else f'job-{name}'.rstrip('-')}-{job.number}"


def task_of(job: ManagedJob) -> TaskSpec:
    """The task whose turn it is."""
    config = job.task_configs[str(job.at)]
    assert isinstance(config, Mapping)
    return TaskSpec.from_config(config)


def task_id_of(job: ManagedJob, at: int) -> str:
    """What a task is called by itself, the same in all attempts."""
    task = job.tasks[at]
    return f"sky-managed-{int(job.created_at * 1000)}_{task.name or job.name}_{job.number}-{at}"


def variables_of(job: ManagedJob) -> dict[str, str]:
    """What a managed job finds in its environment beside what every job does."""
    found = {"SKYPILOT_MANAGED_JOB_ID": str(job.number), "SKYPILOT_ROOT_JOB_ID": str(job.number)}
    if len(job.tasks) > 1:
        found["SKYPILOT_TASK_IDS"] = "\n".join(task_id_of(job, at) for at in range(len(job.tasks)))
    if job.rank is not None:
        found |= {"SKYPILOT_JOB_RANK": str(job.rank), "SKYPILOT_NUM_JOBS": str(job.num_jobs)}
    return found


def where_of(placement: Placement) -> Where:
    """A placement, as it is remembered."""
    offer = placement.offer
    return Where(
        offer.cloud,
        offer.region,
        offer.zone,
        offer.instance_type,
        offer.use_spot,
        placement.price_hourly,
        described(placement),
    )


def seen(cluster: Cluster | None, job: Job | None) -> events.Seen:
    """What the rows of a cluster and of a job on it say."""
    facts = events.Seen(None) if cluster is None else _of_cluster(cluster)
    if job is None:
        return facts
    return replace(
        facts,
        job=job.status,
        version=job.version,
        number=job.job_id,
        start_at=job.start_at,
        end_at=job.end_at,
        exit_codes=job.exit_codes,
        reason=job.reason,
    )


def _of_cluster(cluster: Cluster) -> events.Seen:
    there = (InstanceState.RUNNING, InstanceState.PENDING)
    standing = sum(each.state in there for each in cluster.instances)
    counted = cluster.phase in (Phase.UP, Phase.DEGRADED)
    return events.Seen(
        phase=cluster.phase,
        missing=max(0, cluster.num_nodes - standing) if counted else 0,
        ever_up=cluster.ever_up,
        unfit=bool(cluster.refusals) and all(each.scope == "request" for each in cluster.refusals),
        cluster_reason=cluster.reason,
        where=where_of(cluster.placement) if cluster.placement else None,
    )
