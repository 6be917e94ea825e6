"""Carries out a job's orders: brings its files to the nodes, puts it into the head's queue, cancels it there.

Run by `work.Driver` under `plane`. From the submission on, `watch` brings what the node reports.
"""

from collections.abc import Callable, Mapping

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.lifecycle import jobs as life
from sky.core.lifecycle.machine import Table
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job
from sky.core.model.recorded import recorded_task
from sky.core.model.safeguards import DEFAULT_GRACE_SECONDS
from sky.core.model.tasks import DEFAULT_HOOK_TIMEOUT_SECONDS, GitSource, TaskSpec, hooks_for
from sky.core.optimizer.wanted import Bounds
from sky.core.ports import AgentClient, ClusterRows, Fleet, JobRows
from sky.engine.containers import container, without_login
from sky.engine.refusals import WEB
from sky.kit.backoff import delays
from sky.kit.clock import Clock
from sky.kit.frozen import replace
from sky.kit.signals import Signals
from sky.kit.tracing import CURRENT, TRACING

#: vCPUs that a job holds on each node unless it asks for some, so that many share a node.
DEFAULT_CPU_DEMAND = 0.5
#: Where the working directory lives on every node.
WORKDIR = "~/sky_workdir"
#: Seconds for which an agent that does not answer is tried before the job counts as undeliverable.
_PATIENCE_S = 60.0
#: Seconds before a cancellation that was not delivered is tried again: first, and at most.
_CANCEL_AGAIN_S = (1.0, 30.0)


class JobWork:
    """The noun `job` for the engine's loop."""

    name = "job"
    table: Table[Job] = life.TABLE

    def __init__(
        self,
        rows: JobRows,
        clusters: ClusterRows,
        fleet: Fleet,
        clock: Clock,
        signals: Signals,
        section: Callable[[str], Mapping[str, object]],
        moved: Callable[[Job, Job], None] | None = None,
    ) -> None:
        """`section` gives a section of the server's configuration; `moved` is told of each commit."""
        self._moved = moved
        self.rows = rows
        self._clusters = clusters
        self._fleet = fleet
        self._clock = clock
        self._signals = signals
        self._section = section

    def id_of(self, entity: Job) -> str:
        return entity.id

    def due_at(self, entity: Job, now: float) -> None:
        return None

    def due_event(self) -> None:
        return None

    def before_order(self, entity: Job, order: object) -> None:
        return None

    def put_down(self, entity: Job) -> None:
        return None

    def committed(self, before: Job, after: Job) -> None:
        """Wake who waits for this job or lists its cluster's."""
        self._signals.notify(f"job:{after.id}")
        self._signals.notify(f"jobs:{after.cluster_id}")
        if self._moved is not None:
            self._moved(before, after)

    def crashed(self, order: object, error: Exception) -> object:
        reason = f"internal error: {type(error).__name__}: {error}"
        if isinstance(order, life.Cancel):
            return _again(order, reason)
        return life.DeliveryFailed(reason)

    async def glance(self, entity: Job, order: object) -> None:
        return None

    async def act(self, entity: Job, key: str, order: object) -> object:
        """Try for a while: an agent that is being restarted is back within a second."""
        if isinstance(order, life.Cancel):
            await self._clock.sleep(order.delay)
        deadline = self._clock.now() + _PATIENCE_S
        for delay in delays(0.1, ceiling=5.0):
            cluster = await self._clusters.get(entity.cluster_id)
            if cluster is None or not cluster.alive:
                return life.ClusterLost("its cluster is gone")
            if cluster.phase in (Phase.STOPPING, Phase.STOPPED, Phase.TERMINATING):
                return life.ClusterLost("its cluster was stopped")
            if cluster.phase is Phase.REPAIRING:
                return life.ClusterLost("nodes of its cluster are being replaced")
            try:
                return await self._try(cluster, entity, order)
            except AgentUnreachable as error:
                if self._clock.now() > deadline:
                    reason = f"cluster {cluster.name} cannot be reached: {error}"
                    return _again(order, reason) if isinstance(order, life.Cancel) else life.DeliveryFailed(reason)
            except AgentRefused as error:
                reason = str(error)
                return _again(order, reason) if isinstance(order, life.Cancel) else life.DeliveryFailed(reason)
            await self._clock.sleep(delay)
        raise AssertionError("delays never end")

    async def _try(self, cluster: Cluster, job: Job, order: object) -> object:
        if isinstance(order, life.SyncFiles):
            return await self._sync(cluster, job)
        head = await self._fleet.head(cluster)
        if isinstance(order, life.Submit):
            spec = specification(job, cluster, self._section("docker"))
            if TRACING.on and CURRENT.get():
                # The node tells of the job's time within the same trace.
                spec = {**spec, "traceparent": CURRENT.get()}
            job_id, log_dir = await head.submit(job.id, spec)
            # The watcher may have seen news of the job before its number was on record.
            self._signals.notify(f"submitted:{cluster.id}")
            return life.Submitted(job_id, log_dir)
        return await _cancel(head, job)

    async def _sync(self, cluster: Cluster, job: Job) -> life.FilesSynced:
        task = recorded_task(job.task_config)
        if job.fresh is not None:
            # The others have everything from the attempt before, and what that has written beside it.
            cluster = replace(cluster, instances=tuple(each for each in cluster.instances if each.rank in job.fresh))
            if not cluster.instances:
                return life.FilesSynced("its nodes have its files", job.git_commit)
        said, commit = [], None
        if isinstance(task.workdir, GitSource):
            variables = {**task.envs, **task.secrets}
            ref = job.git_commit or task.workdir.ref
            commit = await self._fleet.clone(cluster, task.workdir.url, ref, variables)
            said.append(f"workdir: {task.workdir.shown} at {commit}")
        elif task.workdir is not None and task.workdir in job.uploads:
            said.append("workdir: " + await self._fleet.sync(cluster, job.uploads[task.workdir], WORKDIR))
        if job.sync_mounts:
            for destination, source in task.file_mounts.items():
                if source in job.uploads:
                    words = await self._fleet.sync(cluster, job.uploads[source], destination)
                elif source.startswith(WEB):
                    words = await self._fleet.fetch(cluster, source, destination, dict(task.envs))
                else:
                    continue
                said.append(f"{destination}: {words}")
        return life.FilesSynced("; ".join(said), commit)


async def _cancel(head: AgentClient, job: Job) -> object:
    if job.job_id is None:
        return life.CancelDelivered()
    await head.cancel([job.job_id])
    known = {record.get("key") for record in await head.jobs([job.job_id])}
    # A node whose home was wiped will never report the end of what it no longer knows.
    return life.CancelDelivered() if job.id in known else life.ClusterLost("its node no longer knows the job")


def _again(order: life.Cancel, reason: str) -> life.CancelFailed:
    first, most = _CANCEL_AGAIN_S
    return life.CancelFailed(reason, min(max(first, order.delay * 2), most))


def specification(job: Job, cluster: Cluster, docker: Mapping[str, object] | None = None) -> Mapping[str, object]:
    """What the head is given: the scripts, the environment, and the slots that each node is to hold for the job.

    `docker` are the server's settings of that name.
    """
    task = recorded_task(job.task_config)
    wanted = task.resources[0]
    accelerators = wanted.accelerator_request
    cpus = DEFAULT_CPU_DEMAND
    if not job.run_setup and wanted.cpus is not None:
        cpus = Bounds.read(wanted.cpus).least
    return {
        "container": container(task, cluster, docker),
        "name": job.name,
        "user": job.user,
        "run": task.run,
        "setup": task.setup if job.run_setup and job.fresh != () else None,
        "fresh": None if job.fresh is None else list(job.fresh),
        "num_nodes": task.num_nodes,
        "envs": {**_git_variables(task, job), **without_login(task.envs), **job.variables},
        "secrets": without_login(task.secrets),
        "cpus": cpus,
        "accelerators": {accelerators.name: accelerators.count} if accelerators is not None else None,
        "memory_gb": None,
        "task_id": job.task_id,
        "workdir": task.workdir is not None or (job.on_worker and _has_workdir(cluster)),
        "submitted_at": job.created_at,
        "care": _care(task),
    }


def _has_workdir(cluster: Cluster) -> bool:
    """Whether the task that a cluster was launched with brought a working directory."""
    return bool(cluster.task_config and recorded_task(cluster.task_config).workdir)


def _care(task: TaskSpec) -> Mapping[str, object] | None:
    """What the node is to watch, and to do when it is told that it will go; None where that is nothing."""
    checkpoint, gone = task.checkpoint, task.on_preemption
    scripts = [{"run": gone.run, "timeout": gone.grace}] if gone is not None and gone.run else []
    scripts += [
        {"run": hook["run"], "timeout": hook.get("timeout", DEFAULT_HOOK_TIMEOUT_SECONDS)}
        for hook in hooks_for(task.config, "preemption")
    ]
    farewell = None
    if scripts or gone is not None:
        grace = gone.grace if gone is not None else DEFAULT_GRACE_SECONDS
        farewell = {"signal": gone.signal if gone is not None else None, "grace": grace, "scripts": scripts}
    wanted = {
        "path": checkpoint.path if checkpoint is not None else None,
        "every": checkpoint.every if checkpoint is not None else None,
        "max_bytes": checkpoint.max_size * 1e9 if checkpoint is not None and checkpoint.max_size else None,
        "pattern": task.progress.pattern if task.progress is not None else None,
        "farewell": farewell,
    }
    return wanted if any(wanted.values()) else None


def _git_variables(task: TaskSpec, job: Job) -> Mapping[str, str]:
    """Where a working directory from git came from, for the job's own record."""
    if not isinstance(task.workdir, GitSource) or job.git_commit is None:
        return {}
    return {"GIT_URL": task.workdir.shown, "GIT_COMMIT_HASH": job.git_commit}
