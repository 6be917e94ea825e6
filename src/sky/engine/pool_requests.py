"""What requests about pools do: make and change them, take them down; whether jobs fit them. Can be repeated."""

import fnmatch
from collections.abc import Mapping, Sequence

from sky.core.errors import (
    NotSupportedError,
    PermissionDeniedError,
    PoolDoesNotExistError,
    ResourcesMismatchError,
    ResourcesUnavailableError,
)
from sky.core.lifecycle import pools as life
from sky.core.model.dags import DagSpec
from sky.core.model.offers import Placement
from sky.core.model.pools import MOST_WORKERS, Pool, PoolStage, UpdateMode, check_pool_name
from sky.core.model.requests import Request
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy.pacing import STRATEGY
from sky.core.policy.recovery import strategy_name
from sky.core.policy.rights import LOCAL, Reach, infra_for, touches
from sky.core.ports import JobQuery
from sky.engine.budgets import reserve_pool
from sky.engine.desk import Desk, flag, text
from sky.engine.launch import lacking
from sky.engine.plans import Said
from sky.engine.refusals import refuse_unsupported
from sky.engine.waiting import until
from sky.kit.frozen import replace
from sky.kit.ids import new_id

#: Numbers of jobs that are named where a pool cannot go.
_MOST_NAMED = 10


async def apply(desk: Desk, request: Request) -> object:
    """Make a pool, or give one another version. Result: `{"pool": name, "version": number}`."""
    body = request.body
    name = check_pool_name(text(body, "pool_name") or "")
    there = await desk.store.pools.by_name(name)
    if there is not None:
        _refuse_others(request, there)
        if there.request_id == request.id:
            return _result(desk, request, there)
        if there.stage is not PoolStage.ACTIVE:
            raise ValueError(f"Pool '{name}' is being taken down. Apply it again once it is gone: sky jobs pool status")
    given = body.get("task")
    task = _wanted(there, given if isinstance(given, Mapping) else None, body.get("workers"))
    config, uploads = task.to_config(), _uploads(body)
    if not isinstance(given, Mapping) and there is not None:
        uploads = dict(there.uploads.get(str(there.revision), {}))
    mode = UpdateMode(text(body, "mode") or UpdateMode.ROLLING)
    if there is None:
        pool, made = await _open(desk, request, name, config, uploads)
        if made:
            return _result(desk, request, pool)
        raise ValueError(f"Pool '{name}' was made by somebody else in this moment; apply it again.")
    event = life.Applied(config, uploads, mode, request.user, request.id)
    letter = await desk.post.send("pool", desk.store.pools, there.id, event, once=f"pool:{request.id}")
    return _result(desk, request, await _heeded(desk, there, letter))


async def _open(
    desk: Desk, request: Request, name: str, config: Mapping[str, object], uploads: Mapping[str, str]
) -> tuple[Pool, bool]:
    now, layers = desk.clock.now(), request.body.get("config")
    said = desk.section("jobs").get("contact_lease")
    drawn = Pool(
        id=new_id(now),
        name=name,
        user=request.user,
        workspace=request.workspace,
        stage=PoolStage.ACTIVE,
        version=0,
        created_at=now,
        tasks={"1": config},
        uploads={"1": uploads},
        layers=layers if isinstance(layers, Mapping) else {},
        request_id=request.id,
        reach=request.reach,
        command=text(request.body, "command") or "",
    )
    if isinstance(said, int | float) and said > 0:
        drawn = replace(drawn, lease_s=float(said))
    await reserve_pool(desk, request, drawn)
    pool, made = await desk.store.pools.open(life.opening(drawn), now)
    desk.signals.notify("work:pool")
    return pool, made or pool.request_id == request.id


async def _heeded(desk: Desk, pool: Pool, letter: int) -> Pool:
    """The pool once a letter to it was read."""

    async def load() -> tuple[bool, Pool]:
        heeded = await desk.store.pools.heeded(letter)
        return heeded, await desk.store.pools.get(pool.id) or pool

    return (await until(desk.signals, f"pool:{pool.id}", load, lambda found: found[0]))[1]


def _result(desk: Desk, request: Request, pool: Pool) -> object:
    desk.talk.say(request.id, f"Pool '{pool.name}' is applied (version {pool.revision}).")
    return {"pool": pool.name, "version": pool.revision}


def _uploads(body: Mapping[str, object]) -> dict[str, str]:
    given = body.get("uploads")
    return {key: str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}


def _wanted(there: Pool | None, given: Mapping[str, object] | None, workers: object) -> TaskSpec:
    """The task of the pool as it is to be; without one, that of the pool that is there, with another size."""
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool)):
        raise ValueError(f"workers: found {workers!r}; allowed: a whole number")
    if given is None:
        if workers is None:
            raise ValueError(
                "Nothing says what the pool is to be: a YAML with `pool`, or --workers for one that exists."
            )
        if there is None:
            raise PoolDoesNotExistError("There is no pool of this name whose size could change; apply a YAML first.")
        given = there.tasks[str(there.revision)]  # type: ignore[assignment]
        assert given is not None
    config = dict(given)
    if workers is not None:
        config["pool"] = {"workers": workers}
    return checked(TaskSpec.from_config(config))


def checked(task: TaskSpec) -> TaskSpec:
    """The task, if a pool can be made from it. Raises ValueError, NotSupportedError."""
    if not task.pool or task.service is None:
        raise ValueError("The task has no `pool` section; allowed: pool: {workers: N}, or --workers N.")
    policy = task.service.replica_policy
    most = policy.min_replicas if policy.max_replicas is None else policy.max_replicas
    if not 0 <= most <= MOST_WORKERS:
        raise ValueError(f"pool: found {most} workers; allowed: {MOST_WORKERS} at most")
    refuse_unsupported(_without_pool(task))
    return task


def _without_pool(task: TaskSpec) -> TaskSpec:
    return TaskSpec.from_config({key: value for key, value in task.to_config().items() if key != "pool"})


def _refuse_others(request: Request, pool: Pool) -> None:
    if not touches(request.reach, request.user, request.workspace, owner=pool.user, inside=pool.workspace):
        raise PermissionDeniedError(
            f"Pool '{pool.name}' is {pool.user}'s, in the workspace '{pool.workspace}': {request.user} may not change "
            f"it (in the workspace '{request.workspace}')."
        )


# --- down ------------------------------------------------------------------------------------------------------------


async def down(desk: Desk, request: Request) -> object:
    """Take pools down, and wait until nothing is left. Result: `{"down": names}`."""
    own = f"pools-of:{request.id}"
    told = await desk.store.get_value(own)
    if told is None:
        chosen = await _chosen(desk, request)
        if not flag(request.body, "purge"):
            for pool in chosen:
                await _refuse_busy(desk, pool)
        # After a crash they may be gone by name already, and others there.
        await desk.store.set_value(own, " ".join(pool.id for pool in chosen))
    else:
        known = [await desk.store.pools.get(id) for id in told.split()]
        chosen = [pool for pool in known if pool is not None]
    rows, asked = desk.store.pools, life.DownAsked(request.user)
    letters = [await desk.post.send("pool", rows, pool.id, asked) for pool in chosen]
    for pool, letter in zip(chosen, letters, strict=True):
        await _heeded(desk, pool, letter)
        await _gone(desk, request, pool)
    return {"down": [pool.name for pool in chosen]}


async def _gone(desk: Desk, request: Request, pool: Pool) -> None:
    told = 0

    async def load() -> Pool | None:
        nonlocal told
        for line in await desk.store.stories.read("pool", pool.id, after=told):
            told = line.seq
            if line.text and line.time >= request.created_at:
                desk.talk.say(request.id, f"{pool.name}: {line.text}")
        return await desk.store.pools.get(pool.id)

    await until(desk.signals, f"pool:{pool.id}", load, lambda now: now is None or now.stage is PoolStage.DONE)


async def _chosen(desk: Desk, request: Request) -> Sequence[Pool]:
    names = request.body.get("names")
    living = await desk.store.pools.living()
    if flag(request.body, "all"):
        return [each for each in living if _theirs(request, each)]
    if not isinstance(names, list) or not names:
        raise ValueError("Nothing says which pools: names, or all.")
    found: dict[str, Pool] = {}
    for name in map(str, names):
        named = [each for each in living if fnmatch.fnmatchcase(each.name, name)]
        exact = [each for each in named if each.name == name]
        if not named:
            raise PoolDoesNotExistError(f"Pool '{name}' not found. `sky jobs pool status` lists those that exist.")
        for each in exact:
            _refuse_others(request, each)
        found |= {each.id: each for each in named if _theirs(request, each)}
    return list(found.values())


def _theirs(request: Request, pool: Pool) -> bool:
    return touches(request.reach, request.user, request.workspace, owner=pool.user, inside=pool.workspace)


async def _refuse_busy(desk: Desk, pool: Pool) -> None:
    left = (await desk.store.managed_jobs.listed(JobQuery(pool=pool.id, unfinished=True))).jobs
    if left and pool.stage is PoolStage.ACTIVE:
        numbers = [str(each.number) for each in left]
        more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
        raise ValueError(
            f"Pool '{pool.name}' has {len(left)} managed jobs that have not ended: {', '.join(numbers[:_MOST_NAMED])}"
            f"{more}. Wait for them, end them (sky jobs cancel --pool {pool.name}), or end both: "
            f"sky jobs pool down --purge {pool.name}"
        )


# --- jobs ------------------------------------------------------------------------------------------------------------


async def pool_for_jobs(desk: Desk, request: Request, name: str, dag: DagSpec) -> Pool:
    """The pool, if these tasks can run on its workers.

    Raises PoolDoesNotExistError, PermissionDeniedError, ResourcesMismatchError, ValueError for what a worker has from
    its pool and not from a job.
    """
    pool = await desk.store.pools.by_name(name)
    if pool is None or pool.stage is not PoolStage.ACTIVE:
        raise PoolDoesNotExistError(f"Pool '{name}' not found. `sky jobs pool status` lists those that exist.")
    await _check_open_to(desk, request, pool)
    placement = await _like(desk, pool)
    for task in dag.tasks:
        _check_own(pool, task)
        nodes = pool.task.num_nodes
        if task.num_nodes > nodes:
            raise ResourcesMismatchError(
                f"The task asks for {task.num_nodes} nodes, workers of the pool '{name}' have {nodes}. Ask for fewer, "
                "or apply a pool whose workers have more."
            )
        if why := None if placement is None else lacking(placement, task):
            raise ResourcesMismatchError(
                f"Workers of the pool '{name}' do not fit the task: {why}. Ask for less, or apply another pool."
            )
    return pool


async def _check_open_to(desk: Desk, request: Request, pool: Pool) -> None:
    """Whoever works in a workspace may use its pools; not those by which they would get at the server's own user."""
    if request.reach == Reach.ALL:
        return
    if pool.workspace != request.workspace:
        raise PermissionDeniedError(
            f"Pool '{pool.name}' is in the workspace '{pool.workspace}': {request.user} works in '{request.workspace}'."
        )
    within = infra_for(request.reach, await desk.workspaces.get(request.workspace))
    clouds = {each.infra.cloud for each in pool.task.resources} | {
        each.where.cloud for each in pool.workers if each.where is not None
    }
    if pool.reach == Reach.ALL and "disabled" in within.infra.get(LOCAL, {}) and clouds & {None, LOCAL}:
        raise PermissionDeniedError(
            f"Pool '{pool.name}' has, or may have, workers on the server's own machine: {request.user} may not use it."
        )


def _check_own(pool: Pool, task: TaskSpec) -> None:
    given = [
        name for name in ("setup", "workdir", "file_mounts", "storage_mounts", "volumes") if getattr(task, name, None)
    ]
    if given:
        raise ValueError(
            f"A job of a pool cannot have {', '.join(given)}: its worker has what the pool '{pool.name}' says. Put it "
            "into the pool's YAML and apply that: sky jobs pool apply"
        )
    recovery = task.resources[0].job_recovery or {}
    idle = [key for key in ("keep_on_failure", "max_cost") if recovery.get(key)]
    if idle:
        raise NotSupportedError(
            f"job_recovery.{idle[0]}: not for jobs of a pool, whose workers are the pool's to keep and to pay"
        )
    if strategy_name(recovery) == STRATEGY:
        raise NotSupportedError(f"job_recovery.strategy: {STRATEGY}: not for jobs of a pool, whose workers are there")


async def _like(desk: Desk, pool: Pool) -> Placement | None:
    """What a worker of the pool is, or would be."""
    for worker in reversed(pool.workers):
        cluster = await desk.store.clusters.get(worker.cluster_id)
        if cluster is not None and cluster.placement is not None and worker.revision == pool.revision:
            return cluster.placement
    within = infra_for(pool.reach, await desk.workspaces.get(pool.workspace))
    try:
        return (await desk.planner.place(pool.task, Goal.COST, Said.of(pool.layers), within)).placements[0]
    except (ResourcesUnavailableError, NotSupportedError, ValueError):
        return None
