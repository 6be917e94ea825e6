"""Carries out `sky chaos`: a fault on a node of the user's own machines, once per request.

A handler of `operations`. Which node, if none was named, is drawn from the request's seed, so that a trial can be
repeated.
"""

from random import Random

from sky.core.errors import (
    AgentRefused,
    AgentUnreachable,
    ClusterNotUpError,
    CommandError,
    NotSupportedError,
    PermissionDeniedError,
)
from sky.core.lifecycle import clusters as cluster_life
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.faults import NOTICE_SECONDS, PARTITION_SECONDS, PLACES, FaultKind, NodeFault
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.requests import Request
from sky.core.policy.rights import touches
from sky.engine.desk import Desk, text

#: Nodes may be asked only while there are some.
_THERE = (Phase.UP, Phase.DEGRADED)


async def chaos(desk: Desk, request: Request) -> object:
    """Cause a fault. Result: {"cluster_name", "fault", "node", "job_id", "struck"}."""
    kind = FaultKind(text(request.body, "fault") or "")
    cluster, managed = await _struck(desk, request)
    _refuse(cluster, kind)
    job = await _job(desk, request, cluster, kind, managed)
    ranks = _ranks(request, cluster, kind, job)
    await desk.clock.sleep(float(str(request.body.get("after") or 0)))
    own = f"chaos:{request.id}"
    if await desk.store.get_value(own) is not None:
        # A server before this one began it: once is what was asked for.
        return {"cluster_name": cluster.name, "fault": kind.value, "node": None, "job_id": None, "struck": None}
    await desk.store.set_value(own, kind.value)
    seconds = request.body.get("seconds")
    usual = NOTICE_SECONDS if kind is FaultKind.PREEMPT else PARTITION_SECONDS
    for rank in ranks:
        fault = NodeFault(kind, rank, job.id if job else None, usual if seconds is None else float(str(seconds)))
        try:
            struck = await desk.fleet.strike(cluster, fault)
        except AgentRefused as error:
            if rank != ranks[-1]:
                continue  # the job does not run there
            raise NotSupportedError(f"sky chaos {kind.value}, node {rank} of '{cluster.name}': {error}") from None
        except AgentUnreachable as error:
            raise CommandError(1, f"sky chaos {kind.value} {cluster.name}", str(error), None) from None
        break
    said = _words(fault, job)
    await desk.tell(cluster, cluster_life.HookEnded("sky chaos", rank, said))
    desk.talk.say(request.id, f"{cluster.name}: node {rank}: {said}")
    number = job.job_id if job else None
    return {"cluster_name": cluster.name, "fault": kind.value, "node": rank, "job_id": number, "struck": struck}


async def _struck(desk: Desk, request: Request) -> tuple[Cluster, ManagedJob | None]:
    """The cluster that it is about, and the managed job by whose number it was named."""
    name = text(request.body, "cluster_name") or ""
    if not name.isdecimal():
        return await desk.own(request, name), None
    job = await desk.store.managed_jobs.by_number(int(name))
    if job is None:
        raise ValueError(f"Managed job {name} not found. `sky jobs queue -a` lists them.")
    if not touches(request.reach, request.user, request.workspace, owner=job.user, inside=job.workspace):
        raise PermissionDeniedError(
            f"Managed job {job.number} is {job.user}'s, in the workspace '{job.workspace}': {request.user} may not "
            "change it."
        )
    cluster = await desk.store.clusters.get(job.cluster_id) if job.cluster_id else None
    if cluster is None or not cluster.alive:
        raise ClusterNotUpError(
            f"Managed job {job.number} is {job.status.value} and has no cluster just now, on which a fault could end "
            "anything."
        )
    return cluster, job


def _refuse(cluster: Cluster, kind: FaultKind) -> None:
    cloud = cluster.placement.offer.cloud if cluster.placement else ""
    if cloud not in PLACES:
        raise NotSupportedError(
            f"sky chaos {kind.value}: cluster '{cluster.name}' is on {cloud or 'no infra yet'}; faults are caused on "
            "`infra: local` and on SSH pools only, where the machines are your own. Launch the task there to try it."
        )
    if cluster.phase not in _THERE:
        raise ClusterNotUpError(
            f"Cluster '{cluster.name}' is {cluster.status}: there is nothing on it that a fault could end.",
            cluster_status=cluster.status.value,
        )


async def _job(
    desk: Desk, request: Request, cluster: Cluster, kind: FaultKind, managed: ManagedJob | None
) -> Job | None:
    """The job that it is about: the one named; for a lack of memory else the newest that runs."""
    asked = request.body.get("job_id")
    if asked is None and managed is not None and kind in (FaultKind.KILL, FaultKind.OOM):
        asked = managed.job_number
        if asked is None:
            raise NotSupportedError(f"sky chaos {kind.value}: managed job {managed.number} has no processes yet.")
    if asked is None and kind is not FaultKind.OOM:
        return None
    jobs = [job for job in await desk.store.jobs.of_cluster(cluster.id) if job.phase is not JobPhase.DONE]
    found = [job for job in jobs if job.job_id is not None and asked in (None, job.job_id)]
    if not found:
        which = "no job" if asked is None else f"no job {asked}"
        raise NotSupportedError(f"sky chaos {kind.value}: {which} runs on '{cluster.name}' (see `sky queue`).")
    return max(found, key=lambda job: job.job_id or 0)


def _ranks(request: Request, cluster: Cluster, kind: FaultKind, job: Job | None) -> list[int]:
    """Nodes to try in turn: the one named, else in an order drawn from the seed."""
    known = sorted(node.rank for node in cluster.instances)
    asked = request.body.get("node")
    if asked is not None:
        if asked not in known:
            raise NotSupportedError(f"Cluster '{cluster.name}' has the nodes 0 to {known[-1]}; there is no {asked}.")
        return [int(str(asked))]
    drawn = Random(int(str(request.body.get("seed") or 0))).sample(known, len(known))  # noqa: S311 - a trial, no secret
    # A job may be on some of the nodes only; anything else happens on the first that was drawn.
    return drawn if job is not None and kind in (FaultKind.KILL, FaultKind.OOM) else drawn[:1]


def _words(fault: NodeFault, job: Job | None) -> str:
    whose = f"the processes of job {job.job_id}" if job is not None else "its agent"
    return {
        FaultKind.PREEMPT: f"told that it will be taken away, and ended {fault.seconds:.0f} s later",
        FaultKind.KILL: f"{whose} killed",
        FaultKind.PARTITION: f"out of reach for {fault.seconds:.0f} s",
        FaultKind.OOM: f"{whose} killed as for want of memory",
    }[fault.kind]
