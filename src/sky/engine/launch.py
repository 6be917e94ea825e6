"""Launch and exec: find or make the cluster, then put the job on it. Both can be repeated after a crash."""

import asyncio
from collections.abc import Mapping

from sky.core.errors import (
    CapacityRefused,
    ClusterNotUpError,
    ClusterSetUpError,
    NotSupportedError,
    ResourcesMismatchError,
    ResourcesUnavailableError,
)
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.lifecycle.placing import described
from sky.core.model.autostop import DEFAULT_HOOK_TIMEOUT_SECONDS, AutostopConfig
from sky.core.model.clusters import Autostop, Cluster, Phase, Site
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.layers import PLANNED_BY_SERVER, for_launch, merge
from sky.core.model.names import check_cluster_name
from sky.core.model.offers import Offer, Placement
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.shortfall import shortfall
from sky.core.policy.receipts import remembered
from sky.core.policy.rights import Reach, infra_for
from sky.engine.budgets import reserve_cluster
from sky.engine.desk import Desk, flag, mine, stuck, text
from sky.engine.plans import Said
from sky.engine.refusals import refuse_unsupported, without_effect
from sky.engine.waiting import until
from sky.kit.frozen import replace
from sky.kit.ids import new_id

#: Autostops that one launch gets over.
_MOST_AUTOSTOPS = 3
#: Seconds until a head that takes no more jobs is known to be stopping.
_STOPPING_S = 60.0
_SETTLED = (Phase.UP, Phase.DEGRADED, Phase.STOPPED, Phase.TERMINATED)


async def launch(desk: Desk, request: Request) -> object:
    """Result: `{"job_id": int | None, "cluster_name": str | None}`; no cluster for a dry run."""
    try:
        done = await _launch(desk, request)
    except Exception:
        # Whoever is only interrupted goes on later, and needs it then.
        await _without_image(desk, request)
        raise
    await _without_image(desk, request)
    return done


async def _launch(desk: Desk, request: Request) -> object:
    body = request.body
    task = TaskSpec.from_config(_mapping(body, "task"))
    refuse_unsupported(task)
    layers = for_launch(_mapping(body, "config"), task.config, everything=request.reach == Reach.ALL)
    name = text(body, "cluster_name") or f"sky-{request.id[:4]}-{request.user}"
    check_cluster_name(name)
    existing = await _own_or_named(desk, request, name)
    if existing is None:
        task, clone_of = await _cloning(desk, request, task)
        _tell_servers_own(desk, request)
        within = infra_for(request.reach, await desk.workspaces.get(request.workspace))
        made = await desk.planner.place(task, _goal(body), _said(body), within)
        placements = _stoppable(desk, made.placements, wanted_autostop(task, body), layers)
        _tell_idle(desk, request, task, placements[0].offer, layers)
        if flag(body, "dryrun"):
            return {"job_id": None, "cluster_name": None}
        drawn = _drawn(desk, request, task, name, placements)
        hedge = hedging(layers, desk.section("provision"))
        drawn = replace(drawn, layers=layers, clone_of=clone_of, hedge=hedge)
        await reserve_cluster(desk, request, drawn, placements[0])
        existing = mine(request, await _open(desk, drawn, task))
    else:
        if flag(body, "resize") and not flag(body, "dryrun"):
            existing = await _resized(desk, request, existing, task)
        _check_fits(existing, task)
        _check_stops(desk, existing, wanted_autostop(task, body))
        if flag(body, "dryrun"):
            return {"job_id": None, "cluster_name": None}
    cluster = await _bring_up(desk, request, existing)
    await _open_ports(desk, cluster, task)
    job_id = None
    if task.run or task.setup or task.workdir or task.file_mounts:
        setup = not flag(body, "no_setup") and not flag(body, "fast")
        delivered = await _deliver(desk, request, cluster, task, setup=setup)
        if delivered is None:
            # It went down by itself meanwhile: what there is to be used now is another cluster.
            return await launch(desk, request)
        cluster, job_id = delivered
    await _set_autostop(desk, request, cluster, wanted_autostop(task, body))
    return {"job_id": job_id, "cluster_name": cluster.name}


async def replanned(desk: Desk, cluster: Cluster) -> tuple[Placement, ...]:
    """Where a cluster that is not up yet could be had by now, as its launch asked. Raises as `launch` does."""
    request = await desk.store.requests.get(cluster.request_id) if cluster.request_id else None
    body = request.body if request is not None else {}
    task = TaskSpec.from_config(cluster.task_config)
    reach = Reach.OWN if request is None else request.reach
    within = infra_for(reach, await desk.workspaces.get(cluster.workspace))
    made = await desk.planner.place(task, _goal(body), _said(body), within)
    return _stoppable(desk, made.placements, wanted_autostop(task, body), cluster.layers)


async def execute(desk: Desk, request: Request) -> object:
    """Result as of `launch`. The cluster must be up; only the working directory travels, and setup is not run."""
    task = TaskSpec.from_config(_mapping(request.body, "task"))
    refuse_unsupported(task)
    name = text(request.body, "cluster_name") or ""
    cluster = await desk.own(request, name)
    _check_fits(cluster, task)
    if cluster.phase is not Phase.UP:
        why = f" ({cluster.reason})" if cluster.reason else ""
        raise ClusterNotUpError(
            f"Cluster '{name}' is {cluster.status}{why}, not UP. Bring it up with: sky start {name}",
            cluster_status=cluster.status.value,
        )
    if flag(request.body, "dryrun"):
        return {"job_id": None, "cluster_name": name}
    job = await _submit(desk, request, cluster, task, setup=False)
    if job.job_id is None:
        raise _not_reached(cluster, job)
    if flag(request.body, "down"):
        await _set_autostop(desk, request, cluster, Autostop(0, down=True))
    return {"job_id": job.job_id, "cluster_name": name}


def wanted_autostop(task: TaskSpec, body: Mapping[str, object]) -> Autostop | None:
    """What the command asks for wins over what the task asks for; `--down` alone means: when the last job has ended."""
    idle, down = body.get("idle_minutes_to_autostop"), flag(body, "down")
    wait_for = text(body, "wait_for")
    config: AutostopConfig | None = task.resources[0].autostop_config
    if idle is None and not down:
        if config is None or not config.enabled:
            return None
        timeout = config.hook_timeout or DEFAULT_HOOK_TIMEOUT_SECONDS
        hooks = ({"run": config.hook, "timeout": float(timeout)},) if config.hook else ()
        return Autostop(config.idle_minutes, config.down, str(wait_for or config.wait_for or "jobs_and_ssh"), hooks)
    minutes = float(str(idle)) if idle is not None else 0.0
    return Autostop(minutes, down, wait_for or "jobs_and_ssh")


# --- parts -----------------------------------------------------------------------------------------------------------


async def _own_or_named(desk: Desk, request: Request, name: str) -> Cluster | None:
    """The cluster to use: the one that an earlier attempt of this request opened, or one that has the name."""
    own = await desk.store.clusters.by_request(request.id)
    if own is not None and not own.alive:
        raise _unavailable(own)
    named = own or await desk.store.clusters.by_name(name)
    if named is None:
        return None
    settled = await desk.at_rest(request, mine(request, named))
    return settled if settled.alive else None


def hedging(layers: Mapping[str, object], here: Mapping[str, object]) -> int:
    """How many places are asked at a time: what client and server say, the client first; one where nobody does."""
    said = layers.get("provision")
    wanted = (said if isinstance(said, Mapping) else {}).get("hedge", here.get("hedge"))
    return max(1, int(wanted)) if isinstance(wanted, int | float) else 1


def _stoppable(
    desk: Desk, placements: tuple[Placement, ...], wanted: Autostop | None, layers: Mapping[str, object]
) -> tuple[Placement, ...]:
    """Placements that can do what idle machines are to do. Raises NotSupportedError where none can.

    A machine that cannot be stopped would be gone with its disk, or cost money on.
    """
    if wanted is None or not wanted.enabled or wanted.down:
        return placements
    whys = [desk.provisioner.unstoppable(each.offer, layers) for each in placements]
    left = tuple(each for each, why in zip(placements, whys, strict=True) if why is None)
    if not left:
        raise NotSupportedError(f"autostop: {whys[0]}, or let it go down when it is idle: --down")
    return left


def _check_stops(desk: Desk, cluster: Cluster, wanted: Autostop | None) -> None:
    if wanted is not None and wanted.enabled and not wanted.down:
        desk.provisioner.check_stoppable(cluster)


def _tell_idle(desk: Desk, request: Request, task: TaskSpec, offer: Offer, layers: Mapping[str, object]) -> None:
    settings = merge({name: desk.section(name) for name in ("provision", "nvidia_gpus")}, layers)
    if idle := without_effect(task, offer, settings):
        desk.talk.say(request.id, f"Without effect on {offer.cloud} in this version: {', '.join(idle)}")


def _tell_servers_own(desk: Desk, request: Request) -> None:
    """Say which settings of the client's files count in the server's alone, where they differ."""
    said = _mapping(request.body, "config")
    idle = [each for each in PLANNED_BY_SERVER if said.get(each) and said[each] != desk.section(each)]
    if idle:
        desk.talk.say(request.id, f"Without effect, since only the server's own file says it: {', '.join(idle)}")


async def _cloning(desk: Desk, request: Request, task: TaskSpec) -> tuple[TaskSpec, str | None]:
    """The task bound to where the disk is that it is to start from, and the image of that disk.

    Raises ClusterDoesNotExist, ClusterNotUpError for a source that is not stopped, ResourcesMismatchError for a task
    that asks for another place, NotSupportedError.
    """
    name = text(request.body, "clone_disk_from")
    if name is None:
        return task, None
    source = await desk.own(request, name)
    if source.phase is not Phase.STOPPED or source.placement is None:
        raise ClusterNotUpError(
            f"--clone-disk-from: cluster '{name}' is {source.status}; its disk can be copied while it is stopped: "
            f"sky stop {name}",
            cluster_status=source.status.value,
        )
    offer = source.placement.offer
    elsewhere = [
        each.infra
        for each in task.resources
        if each.infra.cloud not in (None, offer.cloud) or each.infra.region not in (None, offer.region)
    ]
    if elsewhere:
        raise ResourcesMismatchError(
            f"--clone-disk-from: the disk of '{name}' is on {offer.cloud}/{offer.region}, the task asks for "
            f"{elsewhere[0]}. Leave the place open, or clone a cluster of that place."
        )
    bound = tuple(
        each if each.infra.region else each.copy(infra=f"{offer.cloud}/{offer.region}") for each in task.resources
    )
    if flag(request.body, "dryrun"):
        return replace(task, resources=bound), None
    key = f"clone:{request.id}"
    image = (await desk.store.get_value(key) or "").rpartition(" ")[2]
    if not image:
        desk.talk.say(request.id, f"making an image of the disk of {name}")
        site = desk.provisioner.owned(source)
        # Where it will be is on record before it is made; what it is called, once it is.
        await desk.store.set_value(key, f"{site.cloud} {site.region} ")
        image = await desk.provisioner.image_of(source, request.id)
        await desk.store.set_value(key, f"{site.cloud} {site.region} {image}")
    return replace(task, resources=bound), image


async def _without_image(desk: Desk, request: Request) -> None:
    """Remove the image that a launch made of a disk: its machines are there, or will never be."""
    key = f"clone:{request.id}"
    made = await desk.store.get_value(key)
    if made:
        cloud, region, _ = made.split(" ", 2)
        await desk.provisioner.drop_images(Site(cloud, region, ""), request.id)
        await desk.store.set_value(key, "")


async def _resized(desk: Desk, request: Request, cluster: Cluster, task: TaskSpec) -> Cluster:
    """The cluster with as many nodes as the task asks for. Raises what hinders it; the cluster is then as it was."""
    if cluster.num_nodes == task.num_nodes and cluster.resize_to is None:
        return cluster
    desk.provisioner.check_resizable(cluster, task.num_nodes)
    cluster = await _bring_up(desk, request, cluster)
    held = [
        job.job_id
        for job in await desk.store.jobs.of_cluster(cluster.id)
        if job.phase is not JobPhase.DONE and TaskSpec.from_config(job.task_config).num_nodes > task.num_nodes
    ]
    if held:
        raise ResourcesMismatchError(
            f"Cluster '{cluster.name}' cannot shrink to {task.num_nodes} nodes: jobs {held} take more of them. "
            f"Wait for them, or cancel them: sky cancel {cluster.name} {' '.join(map(str, held))}"
        )
    letter = await desk.tell(cluster, cluster_life.ResizeAsked(task.num_nodes), once=f"resize:{request.id}")
    after = await desk.settled(request, cluster, lambda now: now.phase in _SETTLED, letter=letter)
    if after.num_nodes != task.num_nodes:
        why = after.refusals[-1].reason if after.refusals else after.reason or "another request came in between"
        raise ResourcesUnavailableError(
            f"Cluster '{after.name}' has {after.num_nodes} nodes and did not get {task.num_nodes}: {why}"
        )
    return after


async def _open_ports(desk: Desk, cluster: Cluster, task: TaskSpec) -> None:
    """Let the task's ports be reached; a cluster that was made for it has them open already."""
    asked = set(task.resources[0].ports or ())
    there = set(TaskSpec.from_config(cluster.task_config).resources[0].ports or ())
    if asked - there:
        await desk.provisioner.open_ports(cluster, sorted(asked | there))


def _drawn(desk: Desk, request: Request, task: TaskSpec, name: str, placements: tuple[Placement, ...]) -> Cluster:
    """The cluster as it is to be recorded."""
    now = desk.clock.now()
    return Cluster(
        id=new_id(now),
        name=name,
        user=request.user,
        workspace=request.workspace,
        phase=Phase.PROVISIONING,
        version=0,
        created_at=now,
        status_at=now,
        num_nodes=task.num_nodes,
        resources=described(placements[0]),
        resources_config=task.resources[0].to_yaml_config(),
        request_id=request.id,
        command=text(request.body, "command") or "",
        task_config=task.to_config(),
        candidates=placements,
        retry_until_up=flag(request.body, "retry_until_up"),
        planned=remembered(placements),
    )


async def _open(desk: Desk, drawn: Cluster, task: TaskSpec) -> Cluster:
    cluster, made = await desk.store.clusters.open(cluster_life.opening(drawn), drawn.created_at)
    if not made:
        _check_fits(cluster, task)
    desk.signals.notify("work:cluster")
    desk.signals.notify("clusters")
    return cluster


async def _bring_up(desk: Desk, request: Request, cluster: Cluster) -> Cluster:
    """Wait until the cluster is up, starting it where it is stopped or broken. Raises what hinders it."""
    if cluster.phase in (Phase.STOPPED, Phase.DEGRADED):
        if cluster.phase is Phase.STOPPED:
            await reserve_cluster(desk, request, cluster, cluster.placement)
        letter = await desk.tell(cluster, cluster_life.StartAsked())
        cluster = await desk.settled(request, cluster, _settled, letter=letter)
    else:
        cluster = await desk.settled(request, cluster, _settled)
        if cluster.phase is Phase.STOPPED and cluster.reason == cluster_life.AUTOSTOPPED:
            return await _bring_up(desk, request, cluster)
    if stuck(cluster):
        raise ClusterSetUpError(
            f"Cluster '{cluster.name}' could not be launched, and what there is of it cannot be ended for now: "
            f"{cluster.reason}. It is tried again and again; `sky down --purge {cluster.name}` gives up on it."
        )
    if cluster.phase is Phase.TERMINATED or (cluster.phase is Phase.STOPPED and not cluster.ever_up):
        raise _unavailable(cluster)
    if cluster.phase is not Phase.UP:
        raise ClusterSetUpError(
            f"Cluster '{cluster.name}' did not come up: {cluster.reason}. See: sky events {cluster.name}"
        )
    return cluster


def _settled(cluster: Cluster) -> bool:
    return cluster.phase in _SETTLED or stuck(cluster)


async def _deliver(
    desk: Desk, request: Request, cluster: Cluster, task: TaskSpec, *, setup: bool
) -> tuple[Cluster, int] | None:
    """The cluster with the job on it, started again where it was stopping itself; None if it went down instead.

    That it was is on record before it is started: after a crash, the next attempt goes on behind it.
    """
    for number in range(_MOST_AUTOSTOPS + 1):
        job = await _submit(desk, request, cluster, task, setup=setup, number=number)
        if job.job_id is not None:
            return cluster, job.job_id
        met = f"autostop:{request.id}:{number}"
        if await desk.store.get_value(met) is None:
            after = await _left_by_itself(desk, request, cluster, job)
            if after is None:
                break
            desk.talk.say(request.id, f"{cluster.name}: it was stopping for want of work; bringing it up again")
            await desk.store.set_value(met, after.id)
            if not after.alive:
                return None
            cluster = after
        if job.cluster_id == cluster.id:
            cluster = await _bring_up(desk, request, await desk.own(request, cluster.name))
    raise _not_reached(cluster, job)


async def _left_by_itself(desk: Desk, request: Request, cluster: Cluster, job: Job) -> Cluster | None:
    """The cluster once it has stopped or gone for want of work, if that is why a job did not reach it."""
    try:
        async with asyncio.timeout(_STOPPING_S if "takes no more jobs" in (job.reason or "") else 0.5):
            left = await desk.settled(request, cluster, lambda now: now.phase is not Phase.UP)
    except TimeoutError:
        return None
    after = await desk.at_rest(request, left)
    return after if after.reason in (cluster_life.AUTOSTOPPED, cluster_life.AUTODOWN) else None


def _not_reached(cluster: Cluster, job: Job) -> ClusterSetUpError:
    return ClusterSetUpError(f"The job did not reach cluster '{cluster.name}': {job.reason}")


async def _submit(
    desk: Desk, request: Request, cluster: Cluster, task: TaskSpec, *, setup: bool, number: int = 0
) -> Job:
    """The job of this request once it is in the cluster's queue, or has ended before; `number` of those before it."""
    now = desk.clock.now()
    id = new_id(now)
    drawn = Job(
        id=id,
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        request_id=f"{request.id}+{number}" if number else request.id,
        user=request.user,
        phase=JobPhase.SYNCING,
        status=JobStatus.INIT,
        version=0,
        created_at=now,
        task_config=task.to_config(),
        uploads={key: str(value) for key, value in _mapping(request.body, "uploads").items()},
        run_setup=setup,
        sync_mounts=request.name == "launch",
        name=task.name,
        task_id=f"sky-{_stamp(now)}-{id[-6:]}_{cluster.name}",
        resources=_job_resources(task),
    )
    job, _ = await desk.store.jobs.open(job_life.opening(drawn), now)
    desk.signals.notify("work:job")

    async def load() -> Job:
        found = await desk.store.jobs.get(job.id)
        return found or job

    return await until(
        desk.signals, f"job:{job.id}", load, lambda now: now.job_id is not None or now.phase is JobPhase.DONE
    )


async def _set_autostop(desk: Desk, request: Request, cluster: Cluster, wanted: Autostop | None) -> None:
    """Set after the job is in the queue: a cluster that goes when idle must not go before it."""
    if wanted is not None:
        await desk.set_autostop(request, cluster, cluster.autostop_with_hooks(wanted))


def _check_fits(cluster: Cluster, task: TaskSpec) -> None:
    """Raise ResourcesMismatchError if a task asks for more than an existing cluster has."""
    if task.num_nodes > cluster.num_nodes:
        raise ResourcesMismatchError(
            f"The task asks for {task.num_nodes} nodes, cluster '{cluster.name}' has {cluster.num_nodes}. "
            "Ask for fewer, or launch another cluster."
        )
    if why := None if cluster.placement is None else lacking(cluster.placement, task):
        raise ResourcesMismatchError(
            f"Cluster '{cluster.name}' ({cluster.resources}) does not fit the task: {why}. "
            "Ask for less, or launch another cluster with -c NAME."
        )


def lacking(placement: Placement, task: TaskSpec) -> str | None:
    """What machines that are there lack of what a task asks for, in words; None if they will do."""
    lent = replace(placement.offer, cpus=placement.cpus, accelerators=dict(placement.accelerators))
    # How a machine that is there is rented matters to those alone who say so.
    reasons = [
        shortfall(each, lent if each.use_spot_specified else replace(lent, use_spot=False)) for each in task.resources
    ]
    return "; ".join(dict.fromkeys(map(str, reasons))) if all(reasons) else None


def _unavailable(cluster: Cluster) -> ResourcesUnavailableError:
    history = [CapacityRefused(f"{each.place} {each.instance_type}: {each.reason}") for each in cluster.refusals]
    lines = "".join(f"\n  {each.place} {each.instance_type}: {each.reason}" for each in cluster.refusals)
    return ResourcesUnavailableError(
        f"Cluster '{cluster.name}' could not be launched: {cluster.reason}.{lines}", failover_history=history
    )


def _job_resources(task: TaskSpec) -> str:
    asked = task.resources[0].accelerator_request
    return f"{task.num_nodes}x [{asked or 'CPU:0.5'}]"


def _stamp(now: float) -> str:
    """A time that sorts, for names of log folders: milliseconds since the epoch."""
    return str(int(now * 1000))


def _goal(body: Mapping[str, object]) -> Goal:
    return Goal((text(body, "optimize_target") or "COST").lower())


def _said(body: Mapping[str, object]) -> Said:
    left_out = body.get("blocked_resources") or ()
    if not isinstance(left_out, list | tuple):
        raise ValueError(f"blocked_resources: found {type(left_out).__name__}; allowed: a list")
    return Said.of(_mapping(body, "config"), [left_out])


def _mapping(body: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = body.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: found {type(value).__name__}; allowed: a map")
    return value
