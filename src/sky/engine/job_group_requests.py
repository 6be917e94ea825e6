"""What launches of managed jobs that belong together put on record, and for whom a launch waits.

Called by `managed_requests`. The rows of one launch are recorded in one transaction, once for each request.
"""

from collections.abc import Mapping, Sequence

from sky.core.errors import SkyError
from sky.core.lifecycle.managed_events import CancelAsked
from sky.core.model.dags import DEFAULT_DELAY, DagSpec
from sky.core.model.job_groups import MOST_MEMBERS, Attached, Awaited, Group, Kind, Member, Membership
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.model.requests import Request
from sky.core.model.statuses import ManagedJobStatus
from sky.core.model.sweeps import names_of
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.goals import Goal
from sky.core.policy.rights import infra_for, touches
from sky.core.ports import JobQuery
from sky.engine.desk import Desk, flag, text
from sky.engine.plans import Questions, Said
from sky.kit.frozen import replace
from sky.kit.ids import new_id

#: The most jobs that one launch waits for.
MOST_AWAITED = 1000


async def one_task(desk: Desk, chosen: Sequence[ManagedJob], task: str | int) -> list[ManagedJob]:
    """The member of a parent that is meant by a task's name or position. Raises ValueError."""
    if len(chosen) != 1 or chosen[0].group is None:
        raise ValueError("task: allowed with one job whose tasks are jobs of their own (a group, a graph or a sweep)")
    names = [each.name for each in chosen[0].tasks]
    numbered = isinstance(task, int) or task.isdecimal()
    at = int(task) if numbered else names.index(task) if task in names else -1
    if not 0 <= at < len(names):
        raise ValueError(f"Managed job {chosen[0].number} has no task {task!r}; it has: {', '.join(map(str, names))}")
    member = await desk.store.managed_jobs.get(chosen[0].group.members[at].id)
    return [member] if member is not None and member.ended_at is None else []


async def joined(desk: Desk, request: Request) -> Attached | None:
    """The running group that a launch goes into, where it names one. Raises ValueError for one that it cannot."""
    said = text(request.body, "job_group")
    if said is None:
        return None
    query = JobQuery(numbers=[int(said)]) if said.isdecimal() else JobQuery(name=said, unfinished=True)
    for job in (await desk.store.managed_jobs.listed(query)).jobs:
        theirs = touches(request.reach, request.user, request.workspace, owner=job.user, inside=job.workspace)
        leads = job.group is not None and job.group.kind is Kind.GROUP
        if theirs and leads and not _closing(job):
            return Attached(job.id, job.number)
    if flag(request.body, "job_group_lax"):
        return None
    raise ValueError(f"job_group: no job group '{said}' of yours is under way. `sky jobs queue` lists those that are.")


async def call_off_late(desk: Desk, jobs: Sequence[ManagedJob]) -> None:
    """Call those off that were launched into a group in the very moment in which it was called off itself."""
    for job in jobs:
        group = None if job.attached is None else await desk.store.managed_jobs.get(job.attached.parent_id)
        if group is not None and group.cancel_asked:
            await desk.post.send("managed_job", desk.store.managed_jobs, job.id, CancelAsked(group.user))


def _closing(job: ManagedJob) -> bool:
    return job.ended_at is not None or job.cancel_asked


def kind_of(dag: DagSpec) -> Kind | None:
    """How the tasks belong together; None for a single one, and for one after another."""
    if dag.is_job_group:
        return Kind.GROUP
    if len(dag.tasks) == 1 and dag.tasks[0].sweep is not None:
        return Kind.SWEEP
    return Kind.GRAPH if dag.is_graph else None


async def awaited(desk: Desk, request: Request) -> tuple[Awaited, ...]:
    """For which jobs a launch waits: `after`, which are to succeed, and `after_any`, which are to end.

    Raises ValueError for a number that there is not, or that the user may not touch.
    """
    found: dict[int, Awaited] = {}
    for key, any_end in (("after_any", True), ("after", False)):
        said = request.body.get(key)
        for number in said if isinstance(said, list) else ():
            found[int(number)] = Awaited("", f"managed job {int(number)}", any_end)
    if not found:
        return ()
    if len(found) > MOST_AWAITED:
        raise ValueError(f"after: found {len(found)} jobs; allowed: at most {MOST_AWAITED}")
    rows = (await desk.store.managed_jobs.listed(JobQuery(numbers=list(found)))).jobs
    theirs = {
        job.number: job.id
        for job in rows
        if touches(request.reach, request.user, request.workspace, owner=job.user, inside=job.workspace)
    }
    missing = sorted(set(found) - set(theirs))
    if missing:
        raise ValueError(
            f"after: managed job {', '.join(map(str, missing))} not found. `sky jobs queue -a` lists those on record."
        )
    return tuple(replace(each, id=theirs[number]) for number, each in sorted(found.items()))


def opened_out(dag: DagSpec, kind: Kind, name: str) -> list[TaskSpec]:
    """The tasks of the members: those of the file, or one for each combination of values."""
    if kind is not Kind.SWEEP:
        return [replace(task, name=task.name or f"{name}-{at}", depends_on=None) for at, task in enumerate(dag.tasks)]
    (task,) = dag.tasks
    assert task.sweep is not None
    every = task.sweep.combinations()
    names = names_of(task.name or "task", every)
    return [
        replace(task, name=named, sweep=None, depends_on=None, envs={**task.envs, **values})
        for named, values in zip(names, every, strict=True)
    ]


def check_members(dag: DagSpec, kind: Kind, count: int | None) -> None:
    """Raise ValueError for what cannot be led."""
    if count is not None:
        raise ValueError(f"num_jobs: found {count} of a {_WORDS[kind]}; allowed: of one task, or of tasks in a row")
    if len(dag.tasks) > MOST_MEMBERS:
        raise ValueError(f"found {len(dag.tasks)} tasks; allowed: at most {MOST_MEMBERS}")


_WORDS = {Kind.GROUP: "job group", Kind.GRAPH: "graph of tasks", Kind.SWEEP: "sweep"}


async def together(desk: Desk, request: Request, dag: DagSpec) -> str | None:
    """The `cloud/region` that has room for all tasks of a group, where there is one."""
    config = request.body.get("config")
    within = infra_for(request.reach, await desk.workspaces.get(request.workspace))
    said = Said.of(config if isinstance(config, Mapping) else {})
    try:
        answers = await desk.planner.optimize(dag, Questions(goal=Goal.COST, said=said, workspace=within))
    except (SkyError, ValueError):
        # Each member looks on its own, and says so itself where it finds nothing.
        return None
    places = {
        (each.plan.placements[0].offer.cloud, each.plan.placements[0].offer.region) if each.plan.placements else None
        for each in answers
    }
    only = places.pop() if len(places) == 1 else None
    return None if only is None or only[0] == only[1] else "/".join(only)


def family(
    parent: ManagedJob, dag: DagSpec, kind: Kind, tasks: Sequence[TaskSpec], *, place: str | None
) -> list[ManagedJob]:
    """A parent, as it was drawn for its tasks, and its members behind it."""
    ids = [new_id(parent.created_at) for _ in tasks]
    connects = kind is Kind.GROUP and dag.inter_connection is not False
    most = dag.tasks[0].sweep.max_parallel if kind is Kind.SWEEP and dag.tasks[0].sweep is not None else None
    before: dict[int, list[Awaited]] = {at: [] for at in range(len(tasks))}
    for first, then in dag.edges if kind is Kind.GRAPH else ():
        before[then].append(Awaited(ids[first], f"task '{tasks[first].name}'"))
    members = []
    for at, task in enumerate(tasks):
        belongs = Membership(parent.id, at, parent.name, kind, gated=most is not None, meets=connects, place=place)
        member = replace(
            parent,
            id=ids[at],
            key=f"{parent.key}:{at}",
            name=task.name or parent.name,
            tasks=(parent.tasks[at],),
            task_configs={"0": task.to_config()},
            # What comes first waits for the other submissions, and all others for what comes first.
            after=(*before[at], *(() if before[at] else parent.after)),
            rank=at if kind is Kind.SWEEP else None,
            num_jobs=len(tasks) if kind is Kind.SWEEP else None,
            priority=task.resources[0].priority or parent.priority,
            member=belongs,
        )
        members.append(member)
    names = [task.name for task in tasks]
    primary = tuple(names.index(each) for each in dag.primary_tasks)
    usual = dag.termination_delay.get(DEFAULT_DELAY, 0.0)
    delays = {str(at): dag.termination_delay.get(str(each), usual) for at, each in enumerate(names)}
    group = Group(
        kind,
        tuple(Member(id) for id in ids),
        primary,
        {at: delay for at, delay in delays.items() if delay},
        most,
        connects,
        ManagedJobStatus.PENDING,
    )
    return [replace(parent, task_configs={}, uploads={}, after=(), group=group, stage=Stage.LEADING), *members]
