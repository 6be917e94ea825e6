"""The stages of managed jobs that wait for others (HELD), meet the others of their group (MEETING), or lead members.

Rules of the table of managed jobs, which `managed_jobs` takes in by `register`; what is decided is decided by
`core.policy.job_groups`. As there, every look is of the rows as they are, and every order can be repeated.
"""

from collections.abc import Callable, Iterable

from sky.core.lifecycle.group_events import (
    EVENTS,
    Alone,
    AwaitedSeen,
    CancelMembers,
    Freed,
    Lead,
    LookAtAwaited,
    Meet,
    MembersSeen,
    Met,
    Steer,
    Steered,
)
from sky.core.lifecycle.machine import Step, Table
from sky.core.lifecycle.managed_events import CancelAsked, Changed, Due, NotSeen, OpenJob, Seen
from sky.core.model.job_groups import MEET_S, Group, Member
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy import job_groups as policy
from sky.core.policy import recovery
from sky.kit.frozen import replace

#: Seconds before a member that waits for addresses, and a parent or a waiting job of which nothing is heard, looks.
MEET_AGAIN_S, LOOK_AGAIN_S, NOT_HEARD_S = 1.0, 10.0, 60.0
#: Seconds that a parent lets pass after it has looked, for each member: what changes meanwhile is seen in one look.
_PACE_S = 0.005
#: Why the members that decide nothing end, as who ended them.
_PRIMARY_OVER = "the end of the primary tasks"

S = Stage
#: What a look at a cluster leads to while it comes up: the rule of LAUNCHING.
SeenLaunching = Callable[[ManagedJob, Seen, float], Step[ManagedJob]]
EndAsked = Callable[[ManagedJob, CancelAsked, float], Step[ManagedJob]]


def opening(job: ManagedJob, text: str) -> Step[ManagedJob] | None:
    """The first step of a parent, or of a job that waits for others; None of any other."""
    if job.group is not None:
        return Step(replace(job, stage=S.LEADING, tasks=job.tasks), (Lead(),), f"submitted, {len(job.tasks)} tasks")
    if job.after or (job.member is not None and job.member.gated):
        return Step(replace(job, stage=S.HELD), (LookAtAwaited(),), text)
    return None


def register(table: Table[ManagedJob], seen_launching: SeenLaunching, cancel: EndAsked) -> None:
    """Declare the rules; `seen_launching` and `cancel` are those of the stages that have a cluster."""
    table.on(S.HELD, AwaitedSeen, to={S.HELD, S.WAITING, S.DONE})(awaited_seen)
    table.on(S.HELD, Freed, to={S.HELD, S.WAITING})(freed)
    table.on(S.HELD, CancelAsked, to={S.DONE})(cancelled_held)
    table.on(S.HELD, Changed, to=())(_look_at_awaited)
    table.on(S.HELD, Due, to=())(_look_at_awaited)
    table.on(S.MEETING, Met, to={S.SUBMITTING})(met)
    table.on(S.MEETING, Alone, to=())(alone)
    table.on(S.MEETING, Changed, to=())(_meet_again)
    table.on(S.MEETING, Due, to=())(_meet_again)
    after_a_look = {S.MEETING, S.SUBMITTING, S.REPAIRING, S.CLEARING, S.BACKOFF, S.ENDING, S.DONE}
    table.on(S.MEETING, Seen, to=after_a_look)(_seen_meeting(seen_launching))
    table.on(S.MEETING, CancelAsked, to={S.ENDING, S.CANCELLING})(cancel)
    table.on(S.LEADING, MembersSeen, to={S.LEADING, S.DONE})(members_seen)
    table.on(S.LEADING, Steered, to=())(steered)
    table.on(S.LEADING, CancelAsked, to=())(cancel_members)
    table.on(S.LEADING, Changed, to=())(member_changed)
    table.on(S.LEADING, Due, to=())(lead)
    for stage in (S.HELD, S.MEETING, S.LEADING):
        table.on(stage, NotSeen, to=())(not_seen)
    for event in EVENTS:
        _ignore_rest(table, event)


# --- waiting for others ----------------------------------------------------------------------------------------------


def awaited_seen(job: ManagedJob, event: AwaitedSeen, now: float) -> Step[ManagedJob]:
    """Begin when all have come as they were to; end when one of them never will."""
    found = policy.waits(job.after, event.statuses)
    if found.broken:
        return _called_off(job, Status.CANCELLED, now, found.broken)
    return _let(replace(job, after=found.left), found.words, now)


def freed(job: ManagedJob, event: Freed, now: float) -> Step[ManagedJob]:
    """Its parent has room for it."""
    if job.member is None or not job.member.gated:
        return Step(job)
    return _let(replace(job, member=replace(job.member, gated=False)), job.task.reason or "", now)


def _let(job: ManagedJob, words: str, now: float) -> Step[ManagedJob]:
    gated = job.member is not None and job.member.gated
    if job.after or gated:
        shown = words or "waiting for others of its sweep to end"
        text = shown if shown != job.task.reason else ""
        return Step(replace(_with_reason(job, shown), wake_at=now + NOT_HEARD_S), None, text)
    told = "what it waited for has come" if job.task.reason else ""
    return Step(replace(_with_reason(job, None), stage=S.WAITING, wake_at=None), None, told)


def cancelled_held(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """Nothing of it exists."""
    words, goal = recovery.called_off(event.user, event.failed)
    return _called_off(replace(job, cancel_asked=True), goal, now, words)


def _look_at_awaited(job: ManagedJob, event: object, now: float) -> Step[ManagedJob]:
    return Step(job, (LookAtAwaited(),))


def _called_off(job: ManagedJob, goal: Status, now: float, words: str) -> Step[ManagedJob]:
    tasks = tuple(
        replace(task, status=Status.CANCELLED if at else goal, ended_at=now, reason=words)
        for at, task in enumerate(job.tasks)
    )
    over = replace(job, stage=S.DONE, tasks=tasks, ended_at=now, wake_at=None, reason=words)
    return Step(over, (), words)


# --- meeting the others of a group -----------------------------------------------------------------------------------


def meets(job: ManagedJob) -> bool:
    """Whether it begins only when the others of its group are there."""
    return job.member is not None and job.member.meets


def meet(job: ManagedJob, now: float) -> Step[ManagedJob]:
    """Its cluster is up, and those of the others may not be."""
    assert job.member is not None
    if job.stage is S.MEETING:
        return Step(replace(job, wake_at=now + MEET_AGAIN_S))
    waiting = replace(job, stage=S.MEETING, member=replace(job.member, meet_by=now + MEET_S), wake_at=None)
    return Step(waiting, (Meet(),), "its cluster is up")


def met(job: ManagedJob, event: Met, now: float) -> Step[ManagedJob]:
    """It begins."""
    assert job.member is not None
    there = replace(job.member, addresses=event.known, meet_by=None)
    words = f"{', '.join(event.missing)}: no address for {MEET_S:.0f} s; beginning without" if event.missing else ""
    begun = replace(_with_reason(job, None), stage=S.SUBMITTING, failures=0, wake_at=None, member=there)
    return Step(begun, (OpenJob(),), words)


def alone(job: ManagedJob, event: Alone, now: float) -> Step[ManagedJob]:
    """It waits, for a while."""
    words = f"waiting for the addresses of {', '.join(event.missing)}"
    text = words if words != job.task.reason else ""
    # Each look reads all members: the more are missing, the longer it takes them anyway.
    pause = min(LOOK_AGAIN_S, MEET_AGAIN_S * max(1.0, len(event.missing) / 5))
    return Step(replace(_with_reason(job, words), wake_at=now + pause), None, text)


def _seen_meeting(seen_launching: SeenLaunching) -> SeenLaunching:
    """Its own cluster is not up just now: who goes on waiting looks again in a while, and not at once."""

    def seen(job: ManagedJob, event: Seen, now: float) -> Step[ManagedJob]:
        step = seen_launching(job, event, now)
        after = step.entity
        if after.stage is not S.MEETING or (after.wake_at is not None and after.wake_at > now):
            return step
        return replace(step, entity=replace(after, wake_at=now + MEET_AGAIN_S))

    return seen


def _meet_again(job: ManagedJob, event: object, now: float) -> Step[ManagedJob]:
    return Step(job, (Meet(),))


# --- leading members -------------------------------------------------------------------------------------------------


def members_seen(job: ManagedJob, event: MembersSeen, now: float) -> Step[ManagedJob]:
    """The whole is what its members are."""
    group = _group(job)
    found = policy.verdict(group, event.members, now, cancelling=job.cancel_asked)
    members = tuple(
        Member(known.id, each.done, each.gated, each.cluster_name, each.schedule, each.told)
        for known, each in zip(group.members, event.members, strict=True)
    )
    seen = replace(
        job,
        tasks=tuple(each.task for each in event.members),
        group=replace(group, members=members, status=found.status),
        reason=next((each.task.reason for each in event.members if each.task.status is found.status), None),
    )
    if found.over:
        return Step(
            replace(seen, stage=S.DONE, ended_at=now, wake_at=None), (), f"{found.status.value}: all have ended"
        )
    due = now + NOT_HEARD_S if found.wake_at is None else min(found.wake_at, now + NOT_HEARD_S)
    orders = (Steer(found.free, found.stop, _PRIMARY_OVER),) if found.free or found.stop else None
    return Step(replace(seen, wake_at=due), orders, _told(group, found))


def _told(group: Group, found: policy.Verdict) -> str:
    return "the primary tasks have ended; ending the others" if found.stop else ""


def steered(job: ManagedJob, event: Steered, now: float) -> Step[ManagedJob]:
    """What came of it is seen as they change; looked at unasked, should that not be heard."""
    due = now + LOOK_AGAIN_S
    return Step(replace(job, wake_at=due if job.wake_at is None else min(job.wake_at, due)))


def cancel_members(job: ManagedJob, event: CancelAsked, now: float) -> Step[ManagedJob]:
    """All of them end, and with them it does."""
    words, _ = recovery.called_off(event.user, event.failed)
    group = _group(job)
    status = group.status if group.status.is_terminal() else Status.CANCELLING
    asked = replace(job, cancel_asked=True, reason=words, group=replace(group, status=status))
    order = CancelMembers(event.user, event.graceful, event.timeout, event.failed)
    return Step(asked, (order,), words)


def member_changed(job: ManagedJob, event: Changed, now: float) -> Step[ManagedJob]:
    """Look; of many members not for every change of one."""
    pace = _PACE_S * len(job.tasks)
    if pace < 0.5:
        return Step(job, (Lead(),))
    soon = now + pace
    return Step(replace(job, wake_at=soon if job.wake_at is None else min(job.wake_at, soon)))


def lead(job: ManagedJob, event: Due, now: float) -> Step[ManagedJob]:
    """It is time to."""
    return Step(job, (Lead(),))


def not_seen(job: ManagedJob, event: NotSeen, now: float) -> Step[ManagedJob]:
    """Say so, and look again."""
    text = "" if job.reason == event.reason else event.reason
    return Step(replace(job, reason=event.reason, wake_at=now + LOOK_AGAIN_S), None, text)


# --- parts -----------------------------------------------------------------------------------------------------------


def _group(job: ManagedJob) -> Group:
    assert job.group is not None
    return job.group


def _with_reason(job: ManagedJob, words: str | None) -> ManagedJob:
    task = replace(job.task, reason=words)
    return replace(job, tasks=(*job.tasks[: job.at], task, *job.tasks[job.at + 1 :]), reason=words)


def _ignore_rest(table: Table[ManagedJob], event: type) -> None:
    ruled = {before for before, name, _ in table.arrows() if name == event.__name__}
    left: Iterable[Stage] = [stage for stage in S if stage.value not in ruled]
    table.ignore(left, event, "outcome of an order that was called off, or it has begun already")
