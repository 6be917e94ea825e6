"""Start, stop, down, autostop, cancel: post what is asked, wait until the cluster or the jobs show it."""

import asyncio
from collections.abc import Callable, Mapping

from sky.core.errors import ClusterNotUpError, ClusterSetUpError, CommandError, NotSupportedError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.model.clusters import Autostop, Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.requests import Request
from sky.engine import managed_requests, pool_requests
from sky.engine.budgets import reserve_cluster
from sky.engine.catalog import catalog_refresh
from sky.engine.desk import TEARDOWN_STRIKES, Desk, Handler, flag, text
from sky.engine.faults import chaos
from sky.engine.launch import execute, launch
from sky.engine.waiting import until


async def start(desk: Desk, request: Request) -> object:
    """Bring a stopped or broken cluster up again."""
    cluster = await desk.at_rest(request, await desk.own(request, _name(request)))
    wanted = _autostop_of(request.body)
    if wanted is not None and wanted.enabled and not wanted.down:
        desk.provisioner.check_stoppable(cluster)
    if cluster.phase is Phase.STOPPED:
        await reserve_cluster(desk, request, cluster, cluster.placement)
    letter = await desk.tell(cluster, cluster_life.StartAsked(force=flag(request.body, "force")))
    cluster = await desk.settled(request, cluster, lambda now: now.phase in _AT_REST, letter=letter)
    if cluster.phase is not Phase.UP:
        raise ClusterSetUpError(f"Cluster '{cluster.name}' did not start: {cluster.reason or cluster.phase}")
    if wanted is not None:
        await desk.set_autostop(request, cluster, cluster.autostop_with_hooks(wanted))
    return {"cluster_name": cluster.name}


async def stop(desk: Desk, request: Request) -> object:
    """Stop a cluster; its disks stay."""
    return await _end(desk, request, cluster_life.StopAsked(), Phase.STOPPED)


async def down(desk: Desk, request: Request) -> object:
    """Remove a cluster and everything that it has at its provider."""
    return await _end(desk, request, cluster_life.DownAsked(purge=flag(request.body, "purge")), Phase.TERMINATED)


async def autostop(desk: Desk, request: Request) -> object:
    """Set, change or call off when an idle cluster stops."""
    cluster = await desk.own(request, _name(request))
    if cluster.phase in _NOT_HEARING:
        raise _cannot_hear(cluster)
    wait_for = text(request.body, "wait_for") or "jobs_and_ssh"
    minutes = float(str(request.body.get("idle_minutes", -1)))
    wanted = cluster.autostop_with_hooks(Autostop(minutes, flag(request.body, "down"), wait_for))
    if wanted.enabled and not wanted.down:
        desk.provisioner.check_stoppable(cluster)
    letter = await desk.set_autostop(request, cluster, wanted)
    after = await desk.settled(request, cluster, lambda now: True, letter=letter)
    if after.autostop != wanted and (after.phase in _NOT_HEARING or not after.alive):
        # It left while it was being told.
        raise _cannot_hear(after)
    return {"cluster_name": cluster.name}


def _cannot_hear(cluster: Cluster) -> ClusterNotUpError:
    return ClusterNotUpError(
        f"Cluster '{cluster.name}' is {cluster.status}: autostop can only be set on a cluster that is up.",
        cluster_status=cluster.status.value,
    )


async def cancel(desk: Desk, request: Request) -> object:
    """Cancel jobs of a cluster and wait until they have ended. Result: `{"cancelled": [job ids]}`."""
    cluster = await desk.own(request, _name(request))
    if cluster.phase in (Phase.STOPPED, Phase.STOPPING, Phase.TERMINATING):
        # What waits in the queue of a stopped head can be told nothing, and what ran there has ended.
        raise ClusterNotUpError(
            f"Cluster '{cluster.name}' is {cluster.status}: its jobs cannot be cancelled now. "
            f"`sky start {cluster.name}` brings it up.",
            cluster_status=cluster.status.value,
        )
    chosen = _chosen(request, await _open_jobs(desk, cluster))
    await _cancel(desk, chosen)
    return {"cancelled": sorted(job.job_id for job in chosen if job.job_id is not None)}


async def _open_jobs(desk: Desk, cluster: Cluster) -> list[Job]:
    return [job for job in await desk.store.jobs.of_cluster(cluster.id) if job.phase is not JobPhase.DONE]


async def _cancel(desk: Desk, jobs: list[Job]) -> None:
    """Ask for the end of jobs and wait for it."""
    for job in jobs:
        await desk.post.send("job", desk.store.jobs, job.id, job_life.CancelAsked())
    await asyncio.gather(*(_ended(desk, job) for job in jobs))


async def _let_jobs_end(desk: Desk, request: Request, cluster: Cluster) -> None:
    """Graceful: jobs are cancelled first and may clean up, for as long as was allowed (None: until they have)."""
    if cluster.phase is not Phase.UP:
        return
    jobs = await _open_jobs(desk, cluster)
    allowed = request.body.get("graceful_timeout")
    try:
        async with asyncio.timeout(None if allowed is None else float(str(allowed))):
            await _cancel(desk, jobs)
    except TimeoutError:
        desk.talk.say(request.id, f"{cluster.name}: jobs still run after {allowed} s; going on without waiting")


HANDLERS: Mapping[str, Handler] = {
    "launch": launch,
    "exec": execute,
    "start": start,
    "stop": stop,
    "down": down,
    "autostop": autostop,
    "cancel": cancel,
    "catalog_refresh": catalog_refresh,
    "jobs/launch": managed_requests.launch,
    "jobs/cancel": managed_requests.cancel,
    "jobs/pool_apply": pool_requests.apply,
    "jobs/pool_down": pool_requests.down,
    "chaos": chaos,
}

_AT_REST = (Phase.UP, Phase.DEGRADED, Phase.STOPPED, Phase.TERMINATED)
_NOT_HEARING = (Phase.STOPPED, Phase.STOPPING, Phase.TERMINATING, Phase.AUTOSTOPPING)


async def _end(desk: Desk, request: Request, event: object, goal: Phase) -> object:
    own = f"request-cluster:{request.id}"
    told = await desk.store.get_value(own)
    # After a crash the cluster may be gone by name already: it is the one this request first told that counts.
    cluster = await (desk.store.clusters.get(told.split()[0]) if told else desk.own(request, _name(request)))
    if cluster is None:
        return {"cluster_name": _name(request)}
    if told is None:
        _refuse_stopping_twice(cluster, goal)
        if goal is Phase.STOPPED:
            desk.provisioner.check_stoppable(cluster)
        if flag(request.body, "graceful"):
            await _let_jobs_end(desk, request, cluster)
    # The letter and the note that it was sent are one: a crash in between loses neither, a repeat doubles neither.
    letter = await desk.tell(cluster, event, once=own)
    after = await desk.settled(request, cluster, _reached(goal), letter=letter)
    if after.phase not in (goal, Phase.TERMINATED):
        raise CommandError(
            1, f"sky {request.name} {after.name}", f"{after.reason or 'interrupted by another request'}", None
        )
    return {"cluster_name": cluster.name}


def _refuse_stopping_twice(cluster: Cluster, goal: Phase) -> None:
    if goal is Phase.STOPPED and cluster.phase is Phase.TERMINATING:
        raise NotSupportedError(f"Cluster '{cluster.name}' is going down and cannot be stopped.")


def _reached(goal: Phase) -> Callable[[Cluster], bool]:
    """Whether the wait for a goal is over, well or not. Of an end that fails for now, the engine keeps trying."""

    def done(now: Cluster) -> bool:
        if now.phase in (goal, Phase.TERMINATED):
            return True
        if goal is Phase.TERMINATED:
            return now.strikes >= TEARDOWN_STRIKES
        return now.phase in (Phase.DEGRADED, Phase.UP, Phase.TERMINATING)

    return done


def _chosen(request: Request, jobs: list[Job]) -> list[Job]:
    """Jobs to cancel: those named, everybody's, all of the user's, or the user's latest that runs."""
    if flag(request.body, "all_users"):
        return jobs
    asked = request.body.get("job_ids")
    if isinstance(asked, list) and asked:
        return [job for job in jobs if job.job_id in asked]
    own = [job for job in jobs if job.user == request.user]
    if flag(request.body, "all"):
        return own
    numbered = [job for job in own if job.job_id is not None]
    return sorted(numbered, key=lambda job: job.job_id or 0)[-1:]


async def _ended(desk: Desk, job: Job) -> None:
    async def load() -> Job:
        return await desk.store.jobs.get(job.id) or job

    await until(desk.signals, f"job:{job.id}", load, lambda now: now.phase is JobPhase.DONE)


def _autostop_of(body: Mapping[str, object]) -> Autostop | None:
    idle, down_too = body.get("idle_minutes_to_autostop"), flag(body, "down")
    if idle is None and not down_too:
        return None
    minutes = 0.0 if idle is None else float(str(idle))
    return Autostop(minutes, down_too, text(body, "wait_for") or "jobs_and_ssh")


def _name(request: Request) -> str:
    return text(request.body, "cluster_name") or ""
