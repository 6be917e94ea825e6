"""What requests about managed jobs do: put jobs on record, ask for their end. Both can be repeated after a crash."""

from collections.abc import Mapping, Sequence

from sky.core.errors import NotSupportedError, PermissionDeniedError, PoolDoesNotExistError, SkyError
from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.pools import Changed
from sky.core.model.dags import DagSpec
from sky.core.model.job_groups import Awaited, Kind
from sky.core.model.managed_jobs import CONTACT_LEASE_S, ManagedJob, ManagedTask, Stage
from sky.core.model.names import check_task_name
from sky.core.model.notifications import read_sinks
from sky.core.model.requests import Request
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy import survival
from sky.core.policy.pacing import RESTART_S, STRATEGY
from sky.core.policy.recovery import strategy_name
from sky.core.policy.rights import Reach, infra_for, touches
from sky.core.ports import JobQuery
from sky.engine.budgets import reserve_jobs, reserve_members
from sky.engine.desk import Desk, flag, text
from sky.engine.job_group_requests import (
    awaited,
    call_off_late,
    check_members,
    family,
    joined,
    kind_of,
    one_task,
    opened_out,
    together,
)
from sky.engine.plans import Said
from sky.engine.pool_requests import pool_for_jobs
from sky.engine.recovering import check_recovery
from sky.engine.refusals import refuse_unsupported
from sky.kit.frozen import replace
from sky.kit.ids import new_id

#: The most jobs that one request opens.
MOST_JOBS = 10_000


async def launch(desk: Desk, request: Request) -> object:
    """Result: `{"job_ids": [numbers]}`."""
    body = request.body
    config = body.get("dag")
    dag = DagSpec.from_config(config if isinstance(config, Mapping) else {})
    check(dag)
    count, kind = _count(body), kind_of(dag)
    now = desk.clock.now()
    _check_notify(request, dag)
    after, attached = await awaited(desk, request), await joined(desk, request)
    name = text(body, "pool")
    pool = None if name is None else await pool_for_jobs(desk, request, name, dag)
    if kind is None:
        made = [drawn(desk, request, dag, now, rank=rank, count=count, after=after) for rank in range(count or 1)]
        made = [replace(job, attached=attached) for job in made]
        if pool is None:
            await _tell_survival(desk, request, dag)
            await reserve_jobs(desk, request, made, dag.tasks)
        else:
            # Its workers are paid for as clusters of the pool.
            made = [replace(job, pool=pool.name, pool_id=pool.id) for job in made]
    else:
        if pool is not None:
            raise NotSupportedError("a group, a graph or a sweep in a pool: not supported yet in this version")
        if attached is not None and not flag(body, "job_group_lax"):
            raise ValueError("job_group: a group, a graph or a sweep cannot be launched into a job group; one task can")
        await _tell_survival(desk, request, dag)
        check_members(dag, kind, count)
        tasks = opened_out(dag, kind, text(body, "name") or dag.name or "task")
        parent = drawn(desk, request, replace(dag, tasks=tuple(tasks)), now, after=after)
        place = await together(desk, request, dag) if kind is Kind.GROUP else None
        made = family(parent, dag, kind, tasks, place=place)
        await reserve_members(desk, request, made[1:], tasks)
    jobs = await desk.store.managed_jobs.open([life.opening(job) for job in made], now)
    desk.signals.notify("managed_jobs:room")
    await call_off_late(desk, jobs)
    if pool is not None:
        await desk.post.send("pool", desk.store.pools, pool.id, Changed())
    numbers = [job.number for job in jobs]
    desk.talk.say(request.id, f"Managed Job ID: {', '.join(map(str, numbers))}")
    return {"job_ids": numbers}


def check(dag: DagSpec) -> None:
    """Raise for what cannot be run as a managed job."""
    if not dag.tasks:
        raise ValueError("There is no task to run.")
    for task in dag.tasks:
        refuse_unsupported(task, managed=True)
        if task.run is None and task.setup is None:
            raise ValueError(f"The task {task.name or ''} has nothing to run.")
        check_recovery(task.resources[0].job_recovery or {})


async def _tell_survival(desk: Desk, request: Request, dag: DagSpec) -> None:
    """Tell of tasks that will hardly end on spot. Raises ValueError where they are to be refused (`strict`)."""
    within = infra_for(request.reach, await desk.workspaces.get(request.workspace))
    config = request.body.get("config")
    said = Said.of(config if isinstance(config, Mapping) else {})
    for task in dag.tasks:
        work, every, restart = _declared(task)
        asked = task.resources[0].job_recovery or {}
        if work is None or not task.resources[0].use_spot or strategy_name(asked) == STRATEGY:
            continue
        try:
            first = (await desk.planner.place(task, Goal.COST, said, within)).placements[0].offer
        except (SkyError, ValueError):
            continue  # the job will say so itself
        words = survival.warning(work, every, restart, first.interruption, first.place, task.num_nodes)
        if words is None:
            continue
        words = f"{task.name or 'the task'}: {words}"
        if flag(request.body, "strict"):
            raise ValueError(f"Not taken on (strict): {words}.")
        desk.talk.say(request.id, f"warning: {words}")


def _declared(task: TaskSpec) -> tuple[float | None, float | None, float]:
    """A task's work, the time between its checkpoints (None: none), what a restart takes; seconds."""
    config = task.resources[0].job_recovery or {}
    work = config.get("work") or (task.progress.duration if task.progress is not None else None)
    every = None if task.checkpoint is None else task.checkpoint.every or survival.USUAL_EVERY_S
    return work, every, config.get("restart_overhead") or RESTART_S


def _check_notify(request: Request, dag: DagSpec) -> None:
    """Raise for news that cannot go where a task wants them."""
    for task in dag.tasks:
        for sink in read_sinks(task.notify):
            if sink.command and request.reach != Reach.ALL:
                raise PermissionDeniedError(
                    f"notify: a command runs as the server's own user, and {request.user} may not do that; an admin "
                    "can name one in the configuration (notifications.sinks), and a webhook is open to everybody."
                )


def drawn(
    desk: Desk,
    request: Request,
    dag: DagSpec,
    now: float,
    *,
    rank: int | None = None,
    count: int | None = None,
    after: tuple[Awaited, ...] = (),
) -> ManagedJob:
    """A job as it is to be recorded; its number comes with that."""
    body = request.body
    name = check_task_name(text(body, "name") or dag.name or dag.tasks[0].name or "sky-cmd")
    # A lone task goes by the name of its job.
    tasks = dag.tasks if len(dag.tasks) > 1 else (replace(dag.tasks[0], name=name),)
    config, uploads = body.get("config"), body.get("uploads")
    return ManagedJob(
        id=new_id(now),
        number=0,
        key=f"{request.id}:{rank or 0}",
        name=name if count is None else f"{name}-{rank}",
        user=request.user,
        workspace=request.workspace,
        stage=Stage.WAITING,
        version=0,
        created_at=now,
        tasks=tuple(ManagedTask(task.name, resources=asked_for(task)) for task in tasks),
        task_configs={str(at): task.to_config() for at, task in enumerate(tasks)},
        layers=config if isinstance(config, Mapping) else {},
        uploads={key: str(value) for key, value in uploads.items()} if isinstance(uploads, Mapping) else {},
        request_id=request.id,
        reach=request.reach,
        command=text(body, "command") or "",
        priority=dag.tasks[0].resources[0].priority or 0,
        rank=rank if count is not None else None,
        num_jobs=count,
        lease_s=_lease(desk.section("jobs")),
        after=after,
    )


def _lease(section: Mapping[str, object]) -> float:
    said = section.get("contact_lease")
    return float(said) if isinstance(said, int | float) and said > 0 else CONTACT_LEASE_S


def _count(body: Mapping[str, object]) -> int | None:
    count = body.get("num_jobs")
    if count is None:
        return None
    if not isinstance(count, int) or not 1 <= count <= MOST_JOBS:
        raise ValueError(f"num_jobs: found {count!r}; allowed: 1 to {MOST_JOBS}")
    return count


def asked_for(task: TaskSpec) -> str:
    """What a task asks for, in one line: `2x [H100:8][Spot]`."""
    first = task.resources[0]
    what = str(first.accelerator_request or f"CPU:{first.cpus or '1+'}")
    return f"{task.num_nodes}x [{what}]{'[Spot]' if first.use_spot else ''}"


async def cancel(desk: Desk, request: Request) -> object:
    """Result: `{"cancelled": [numbers]}`: those that had not ended."""
    body = request.body
    chosen = await _chosen(desk, request)
    timeout = body.get("graceful_timeout")
    asked = events.CancelAsked(
        request.user,
        graceful=flag(body, "graceful"),
        timeout=float(timeout) if isinstance(timeout, int | float) else None,
    )
    task = body.get("task")
    if isinstance(task, int | str) and not isinstance(task, bool):
        chosen = await one_task(desk, chosen, task)
    for job in chosen:
        await desk.post.send("managed_job", desk.store.managed_jobs, job.id, asked)
    return {"cancelled": sorted(job.known_as for job in chosen)}


async def _chosen(desk: Desk, request: Request) -> Sequence[ManagedJob]:
    body, rows = request.body, desk.store.managed_jobs
    numbers, name = body.get("job_ids"), text(body, "name")
    if isinstance(numbers, list) and numbers:
        found = (await rows.listed(JobQuery(numbers=[int(each) for each in numbers]))).jobs
        missing = sorted(set(map(int, numbers)) - {job.number for job in found})
        if missing:
            raise ValueError(f"Managed job {', '.join(map(str, missing))} not found. `sky jobs queue -a` lists them.")
        for job in found:
            if not _theirs(request, job):
                raise PermissionDeniedError(
                    f"Managed job {job.number} is {job.user}'s, in the workspace '{job.workspace}': {request.user} may "
                    "not change it."
                )
    elif name is not None:
        found = (await rows.listed(JobQuery(name=name, unfinished=True))).jobs
        if not any(_theirs(request, job) for job in found):
            raise ValueError(f"No managed job called '{name}' is under way. `sky jobs queue` lists those that are.")
    elif (pool := text(body, "pool")) is not None:
        of = await desk.store.pools.by_name(pool)
        if of is None:
            raise PoolDoesNotExistError(f"Pool '{pool}' not found. `sky jobs pool status` lists those that exist.")
        found = (await rows.listed(JobQuery(pool=of.id, unfinished=True))).jobs
    elif flag(body, "all") or flag(body, "all_users"):
        users = None if flag(body, "all_users") else [request.user]
        found = (await rows.listed(JobQuery(users=users, unfinished=True))).jobs
    else:
        raise ValueError("Nothing says which managed jobs: ids, a name, a pool, all, or all_users.")
    return [job for job in found if job.ended_at is None and _theirs(request, job)]


def _theirs(request: Request, job: ManagedJob) -> bool:
    return touches(request.reach, request.user, request.workspace, owner=job.user, inside=job.workspace)
