"""Carries out a managed job's orders: finds a place, records cluster and job, looks at them, has them ended.

Run by `work.Driver` under `plane`. Nothing is done here that is not done to rows: the drivers of clusters and jobs do
the work, and their commits wake the managed job (`Nudges`). Ids come from the job's own, so each order can be repeated.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from sky.core.errors import ResourcesUnavailableError, SkyError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import group_events
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.machine import Table
from sky.core.lifecycle.managed_pace import recovery_config, terms_of
from sky.core.lifecycle.placing import described
from sky.core.model.clusters import Autostop, Cluster, InstanceState, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.layers import for_launch
from sky.core.model.managed_jobs import ORPHAN_AFTER_S, ManagedJob, Stage, Where
from sky.core.model.offers import Placement
from sky.core.model.recorded import recorded_task
from sky.core.model.statuses import JobStatus
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy import pacing, recovery
from sky.core.policy.receipts import remembered
from sky.core.policy.rights import Reach, infra_for
from sky.engine.budgets import on_spot
from sky.engine.desk import Desk
from sky.engine.farewells import warn
from sky.engine.grants import Grants, Nothing
from sky.engine.job_groups import GroupOrders, variables
from sky.engine.launch import hedging
from sky.engine.managed_logs import ManagedLogs
from sky.engine.pacing import Pacer
from sky.engine.plans import Said
from sky.engine.pools import Workers
from sky.engine.recovering import strategies
from sky.engine.waiting import until
from sky.kit.derived_ids import derived_id
from sky.kit.frozen import replace

log = logging.getLogger(__name__)

#: Characters of a job's name that its clusters' names begin with.
_NAME = 25
#: Seconds for which the machines of a job that failed are asked after, before its failure counts as its own.
_VERIFY_S = 20.0
#: How the key of a managed job's job begins; id and attempt follow.
KEY = "managed:"


class ManagedJobWork:
    """The noun `managed_job` for the engine's loop."""

    name = "managed_job"
    table: Table[ManagedJob] = life.TABLE

    def __init__(
        self,
        desk: Desk,
        logs: ManagedLogs | None = None,
        moved: Callable[[str], None] | None = None,
        grants: Grants | None = None,
    ) -> None:
        """`moved` is told the ids of parents whose members have changed."""
        self.rows = desk.store.managed_jobs
        self._groups = GroupOrders(desk)
        self._moved = moved
        self._desk = desk
        self._logs = logs
        self._grants = grants or Nothing()
        self._pacer = Pacer(desk, self._open)
        self._workers = Workers(desk, logs)

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
            if after.stage in (
                Stage.DONE,
                Stage.WAITING,
                Stage.MEETING,
                Stage.SUBMITTING,
                Stage.CLEARING,
                Stage.BACKOFF,
            ):
                signals.notify("managed_jobs:room")
            if Stage.RUNNING in (before.stage, after.stage):
                signals.notify(f"managed_logs:{after.id}")
        if after.status is not before.status and after.status.is_terminal():
            signals.notify("managed_jobs:ended")
        told = (before.stage, before.tasks, before.member) != (after.stage, after.tasks, after.member)
        if after.member is not None and told and self._moved is not None:
            self._moved(after.member.parent_id)

    def crashed(self, order: object, error: Exception) -> object:
        return events.NotSeen(f"internal error, see the server's log: {type(error).__name__}: {error}")

    async def glance(self, entity: ManagedJob, order: object) -> object | None:
        """What a look finds, unless somebody has to be asked for it."""
        if not isinstance(order, events.Look):
            return None
        cluster, there = await self._rows(entity)
        return None if _unsure(entity, cluster, there) else self._told(entity, cluster, there)

    async def act(self, entity: ManagedJob, key: str, order: object) -> object:
        if isinstance(order, group_events.ORDERS):
            return await self._groups.act(entity, order) or await self._seen(entity)
        match order:
            case events.Launch():
                return await self._launch(entity) if entity.pool_id is None else await self._workers.take(entity)
            case events.Weigh():
                return await self._pacer.weigh(entity, task_of(entity))
            case events.Close() | events.Release():
                return await self._let_go(entity, order) or await self._seen(entity)
        await self._do(entity, order)
        return await self._seen(entity)

    async def _do(self, entity: ManagedJob, order: object) -> None:
        match order:
            case events.Warn():
                await self._warn(entity, order)
            case events.OpenJob():
                await self._open_job(entity)
            case events.Repair():
                await self._repair(entity)
            case events.CancelJob():
                await self._cancel_job(entity)

    async def _let_go(self, entity: ManagedJob, order: object) -> object:
        """Its cluster goes, or is its user's; a worker goes back to its pool."""
        await self._grants.take_back(entity)
        if entity.pool_id is not None:
            return await self._workers.leave(entity)
        if isinstance(order, events.Release):
            await self._release(entity, order)
        else:
            await self._close(entity)
        return None

    # --- a place -------------------------------------------------------------------------------------------------

    async def _launch(self, job: ManagedJob) -> object:
        id = cluster_id_of(job)
        there = await self._desk.store.clusters.get(id)
        if there is not None:
            # Recorded before a crash; a policy that had decided is asked again at once.
            in_time = terms_of(job) is not None
            return events.Launched(
                there.id, there.name, f"going on on {there.name}",
                pace=self._pacer.found(job, there) if in_time else {},
                look_at=self._desk.clock.now() if in_time else None,
            )  # fmt: skip
        task = await on_spot(self._desk, job, task_of(job))
        config = recovery_config(job)
        if recovery.strategy_name(config) == pacing.STRATEGY:
            return await self._launch_in_time(job, task, id)
        history = recovery.History(job.lost, job.task.where, job.failures, job.attempt, config)
        choice = _together(job, strategies()[recovery.strategy_name(config)](history))
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

    async def _launch_in_time(self, job: ManagedJob, task: TaskSpec, id: str) -> object:
        """As the policy of a job with a deadline wants it."""
        try:
            choice = await self._pacer.choose(job, task)
        except ResourcesUnavailableError as error:
            return events.NotPlaced(str(error), hopeless=error.no_failover)
        except (SkyError, ValueError) as error:
            return events.NotPlaced(str(error), wrong=True)
        if isinstance(choice, events.Postponed):
            return choice
        cluster = await self._open(job, task, id, choice.placements)
        first = choice.placements[0].offer
        text = f"launching {cluster.name}: {first.instance_type} on {first.place}: {choice.text}"
        return events.Launched(cluster.id, cluster.name, text, choice.pace, choice.look_at)

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
        if not any(recovery.region_of(where_of(each)) == choice.prefer for each in made.placements):
            # There are many that cost less elsewhere.
            narrowed = _only_in(task, choice.prefer)
            with suppress(ResourcesUnavailableError):
                there = await desk.planner.place(narrowed, Goal.COST, Said.of(job.layers), within)
                return (*there.placements, *made.placements)
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
            # Its head ends it where no server does; while a server is there, the cluster goes with its job.
            autostop=Autostop(orphan_after(desk.section("jobs")) / 60, down=True, wait_for="jobs"),
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
        cluster, there = await self._rows(job)
        if cluster is not None and _unsure(job, cluster, there):
            # What a machine that is being taken away does to its processes looks like a failure of their own.
            cluster = await self._verified(cluster)
        return self._told(job, cluster, there)

    async def _rows(self, job: ManagedJob) -> tuple[Cluster | None, Job | None]:
        cluster = await self._cluster(job)
        if job.stage in (Stage.CLEARING, Stage.ENDING) and (cluster is None or not cluster.alive):
            # Gone is a job once all is gone that it had.
            cluster = next(iter(await self._unwanted(job)), cluster)
        if job.job_key is None or job.stage is Stage.LAUNCHING:
            # It is opened once the cluster is up, and not before the stage has changed.
            return cluster, None
        return cluster, await self._desk.store.jobs.by_request(job.job_key)

    def _told(self, job: ManagedJob, cluster: Cluster | None, there: Job | None) -> events.Seen:
        found = seen(cluster, there)
        if job.pool_id is not None:
            # What a worker was refused on its way up says nothing of the job; and its pool replaces it as a whole.
            return replace(found, unfit=False, fixed="workers of a pool are replaced as they are")
        if cluster is None or not found.lost:
            return found
        return replace(found, fixed=self._desk.provisioner.irreplaceable(cluster))

    async def _cluster(self, job: ManagedJob) -> Cluster | None:
        """The attempt's cluster, or the worker that it has."""
        id = cluster_id_of(job) if job.pool_id is None else job.cluster_id
        return None if id is None else await self._desk.store.clusters.get(id)

    async def _unwanted(self, job: ManagedJob) -> list[Cluster]:
        """What a task that is over had asked for beside its cluster, and is there still."""
        ids = pacing.beside(job.pace, job.attempt)
        if not (job.stage is Stage.ENDING or job.task.status.is_terminal()):
            ids -= pacing.awaited(job.pace, job.at, job.attempt)
        found = [await self._desk.store.clusters.get(each) for each in sorted(ids)]
        return [each for each in found if each is not None and each.alive]

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
        cluster = await self._cluster(job)
        if cluster is None or cluster.phase is not Phase.UP or job.job_key is None:
            return
        if await desk.store.jobs.by_request(job.job_key) is not None:
            return
        task = task_of(job)
        given = await self._grants.give(job, wanted=task.api_server_access)
        task = replace(task, secrets={**task.secrets, **given.secrets})
        drawn = Job(
            id=derived_id(job.id, f"{job.attempt}:job"),
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
            variables={**variables_of(job), **given.envs},
            fresh=job.fresh,
            git_commit=await self._commit_of(job, cluster),
            on_worker=job.pool_id is not None,
        )
        await desk.store.jobs.open(job_life.opening(drawn), now)
        desk.signals.notify("work:job")

    async def _commit_of(self, job: ManagedJob, cluster: Cluster) -> str | None:
        """The commit that the nodes which stayed have of a working directory from git: the new ones get the same."""
        if job.fresh is None:
            return None
        before = await self._desk.store.jobs.of_cluster(cluster.id)
        return next((each.git_commit for each in before if each.git_commit), None)

    async def _repair(self, job: ManagedJob) -> None:
        """Before anything is asked of the cluster, the attempt's job is over on record: nobody delivers it any more."""
        desk = self._desk
        cluster = await self._cluster(job)
        if cluster is None or cluster.repairs >= job.repair:
            return
        there = await desk.store.jobs.by_request(job.job_key) if job.job_key else None
        if there is not None and there.phase is not JobPhase.DONE:
            lost = job_life.ClusterLost(job.reason or "nodes of its cluster are being replaced")
            await desk.post.send("job", desk.store.jobs, there.id, lost, once=f"lost:{there.id}")
            return
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        # The attempt ends here although its cluster stays: the next one is given its own.
        await self._grants.take_back(job)
        await desk.tell(cluster, cluster_life.RepairAsked(job.replacing, job.repair))

    async def _cancel_job(self, job: ManagedJob) -> None:
        there = await self._desk.store.jobs.by_request(job.job_key) if job.job_key else None
        if there is not None and there.phase is not JobPhase.DONE:
            await self._desk.post.send("job", self._desk.store.jobs, there.id, job_life.CancelAsked())

    async def _warn(self, job: ManagedJob, order: events.Warn) -> None:
        """Tell its nodes; who cannot be told is moved all the same."""
        cluster = await self._cluster(job)
        if cluster is not None and cluster.phase is Phase.UP:
            await warn(self._desk, cluster, order.seconds, order.reason)

    async def _close(self, job: ManagedJob) -> None:
        cluster = await self._cluster(job)
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        for each in (cluster, *await self._unwanted(job)):
            if each is not None and each.phase not in (Phase.TERMINATING, Phase.TERMINATED):
                await self._desk.tell(each, cluster_life.DownAsked())

    async def _release(self, job: ManagedJob, order: events.Release) -> None:
        cluster = await self._cluster(job)
        if self._logs is not None:
            await self._logs.finish(job, cluster)
        if cluster is not None and cluster.alive:
            await self._desk.tell(cluster, cluster_life.Released())
            idle = Autostop() if order.seconds is None else Autostop(order.seconds / 60, down=True)
            await self._desk.tell(cluster, cluster_life.AutostopAsked(idle))
        for each in await self._unwanted(job):
            await self._desk.tell(each, cluster_life.DownAsked())


# --- what follows from a job -------------------------------------------------------------------------------------


def cluster_id_of(job: ManagedJob) -> str:
    """The id of the attempt's cluster; one whose nodes were replaced is that of the attempt before."""
    if (adopted := pacing.adopted(job.pace, job.attempt)) is not None:
        return adopted
    return job.cluster_id or derived_id(job.id, f"{job.attempt}:cluster")


def cluster_name_of(job: ManagedJob) -> str:
    """The name of its clusters: its own, as far as it is fit, and its number."""
    said = (job.task.name if len(job.tasks) > 1 else None) or job.name
    number = job.number if job.member is None else f"{job.member.number}-{job.member.at}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", said[:_NAME]).strip("-_.")
    return f"{name if name[:1].isalpha() else f'job-{name}'.rstrip('-')}-{number}"


def _together(job: ManagedJob, choice: recovery.Choice) -> recovery.Choice:
    """The first attempt of a group's member goes where there is room for all of them."""
    place = job.member.place if job.member is not None else None
    if place is None or job.task.where is not None or job.failures or choice.prefer is not None:
        return choice
    return replace(choice, prefer=place, reason=f"{place}, which has room for all of its group")


def _only_in(task: TaskSpec, place: str) -> TaskSpec:
    """The task with those of its candidates that may be in a `cloud/region`, and there alone."""
    cloud, _, region = place.partition("/")
    fit = [
        each.copy(infra=place)
        for each in task.resources
        if each.infra.cloud in (None, cloud) and each.infra.region in (None, region) and each.infra.zone is None
    ]
    return replace(task, resources=tuple(fit) or task.resources)


def task_of(job: ManagedJob) -> TaskSpec:
    """The task whose turn it is."""
    config = job.task_configs[str(job.at)]
    assert isinstance(config, Mapping)
    return recorded_task(config)


def task_id_of(job: ManagedJob, at: int) -> str:
    """What a task is called by itself, the same in all attempts."""
    task = job.tasks[at]
    turn = at if job.member is None else job.member.at
    return f"sky-managed-{int(job.created_at * 1000)}_{task.name or job.name}_{job.known_as}-{turn}"


def variables_of(job: ManagedJob) -> dict[str, str]:
    """What a managed job finds in its environment beside what every job does."""
    found = {"SKYPILOT_MANAGED_JOB_ID": str(job.known_as), "SKYPILOT_ROOT_JOB_ID": str(job.known_as)}
    if job.member is not None:
        found |= variables(job.member)
    if len(job.tasks) > 1:
        found["SKYPILOT_TASK_IDS"] = "\n".join(task_id_of(job, at) for at in range(len(job.tasks)))
    if job.rank is not None:
        found |= {"SKYPILOT_JOB_RANK": str(job.rank), "SKYPILOT_NUM_JOBS": str(job.num_jobs)}
    return found


def orphan_after(section: Mapping[str, object]) -> float:
    """Seconds without work after which a cluster goes by itself, as the configuration's section `jobs` has it."""
    said = section.get("orphan_after")
    return float(said) if isinstance(said, int | float) and said > 0 else ORPHAN_AFTER_S


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


def _unsure(job: ManagedJob, cluster: Cluster | None, there: Job | None) -> bool:
    """Whether a machine that is taken away may be the cause of a job's end; of a gang, also where its head says so."""
    if cluster is None or there is None or cluster.phase is not Phase.UP:
        return False
    driver = there.status is JobStatus.FAILED_DRIVER and cluster.num_nodes > 1
    failed = driver or there.status in (JobStatus.FAILED, JobStatus.FAILED_SETUP)
    return failed and job.stage in (Stage.RUNNING, Stage.SUBMITTING)


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
        cause=job.cause,
        noted=job.seen,
    )


def _of_cluster(cluster: Cluster) -> events.Seen:
    there = (InstanceState.RUNNING, InstanceState.PENDING)
    standing = {each.rank for each in cluster.instances if each.state in there}
    counted = cluster.phase in (Phase.UP, Phase.DEGRADED)
    runs = {each.rank for each in cluster.instances if each.state is InstanceState.RUNNING}
    every = range(cluster.num_nodes) if counted else range(0)
    return events.Seen(
        phase=cluster.phase,
        missing=sum(rank not in standing for rank in every),
        lost=tuple(rank for rank in every if rank not in runs),
        num_nodes=cluster.num_nodes,
        repairs=cluster.repairs,
        ever_up=cluster.ever_up,
        unfit=bool(cluster.refusals) and all(each.scope == "request" for each in cluster.refusals),
        cluster_reason=cluster.reason,
        where=where_of(cluster.placement) if cluster.placement else None,
        memory_gb=memory_of(cluster.placement) if cluster.placement else None,
    )


def memory_of(placement: Placement) -> float | None:
    """GiB that a node had; of a machine that others share, what was asked for, or nothing that is known."""
    return (placement.asked_memory_gb or None) if placement.offer.shared else placement.offer.memory_gb
