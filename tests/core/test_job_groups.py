"""Managed jobs that belong together: what follows from their members, in all cases; and the stages of both."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.lifecycle import group_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.managed_events import CancelAsked, Changed, Due, OpenJob, Seen
from sky.core.model.clusters import Phase
from sky.core.model.job_groups import MEET_S, Addressed, Awaited, Group, Kind, Member, Membership, hosts
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy.job_groups import Sighting, status_of, verdict, waits

NOW = 1000.0
GOING = [each for each in Status if not each.is_terminal()]
OVER = [each for each in Status if each.is_terminal()]

members = st.lists(st.sampled_from(list(Status)), min_size=1, max_size=5)


def group(count, kind=Kind.GROUP, **more):
    return Group(kind, tuple(Member(f"m{at}") for at in range(count)), **more)


def sighted(status, *, done=False, gated=False, ended_at=None):
    return Sighting(ManagedTask("t", status=status, ended_at=ended_at), done, gated)


# --- the end of the whole --------------------------------------------------------------------------------------------


@given(members, st.data())
def test_it_has_ended_exactly_when_all_members_have(statuses, data):
    primary = data.draw(st.sets(st.integers(0, len(statuses) - 1)))
    whole = group(len(statuses), primary=tuple(sorted(primary)))
    assert status_of(whole, statuses).is_terminal() == all(each.is_terminal() for each in statuses)


@given(st.lists(st.sampled_from(OVER), min_size=1, max_size=5), st.data())
def test_only_those_that_decide_count_at_the_end(statuses, data):
    primary = data.draw(st.sets(st.integers(0, len(statuses) - 1)))
    whole = group(len(statuses), primary=tuple(sorted(primary)))
    deciding = [each for at, each in enumerate(statuses) if at in primary or not primary]
    found = status_of(whole, statuses)
    assert found.is_failed() == any(each.is_failed() for each in deciding)
    assert (found is Status.SUCCEEDED) == all(each is Status.SUCCEEDED for each in deciding)
    assert found in deciding


def test_while_it_goes_on_the_furthest_is_shown():
    for one, two in product(GOING, repeat=2):
        found = status_of(group(2), [one, two])
        if Status.RUNNING in (one, two):
            assert found is Status.RUNNING
        assert (found is Status.PENDING) == (one is two is Status.PENDING)
    assert status_of(group(2), [Status.SUCCEEDED, Status.PENDING]) is Status.STARTING
    assert status_of(group(2), [Status.RUNNING, Status.PENDING], cancelling=True) is Status.CANCELLING


@given(members, st.data())
def test_nobody_is_stopped_while_one_that_decides_goes_on_and_only_those_that_do_not(statuses, data):
    primary = tuple(sorted(data.draw(st.sets(st.integers(0, len(statuses) - 1)))))
    kind = data.draw(st.sampled_from(list(Kind)))
    delays = data.draw(st.dictionaries(st.sampled_from([str(at) for at in range(len(statuses))]), st.floats(0, 100)))
    ended = data.draw(st.floats(900, 1000))
    whole = group(len(statuses), kind, primary=primary, delays=delays)
    seen = [sighted(each, ended_at=ended if each.is_terminal() else None) for each in statuses]
    found = verdict(whole, seen, NOW)
    deciding = [each for at, each in enumerate(statuses) if whole.is_primary(at)]
    left = {at for at, each in enumerate(statuses) if not whole.is_primary(at) and not each.is_terminal()}
    if kind is not Kind.GROUP or not all(each.is_terminal() for each in deciding):
        assert (found.stop, found.wake_at) == ((), None)
        return
    due = {at for at in left if ended + whole.delay(at) <= NOW}
    assert set(found.stop) == due
    assert found.wake_at == min((ended + whole.delay(at) for at in left - due), default=None)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 4) | st.none(),
    st.booleans(),
)
def test_no_more_are_let_go_than_there_is_room_for_and_no_room_is_left_over(drawn, most, cancelling):
    seen = [sighted(Status.SUCCEEDED if done else Status.PENDING, done=done, gated=gated) for done, gated in drawn]
    found = verdict(group(len(seen), Kind.SWEEP, most_at_once=most), seen, NOW, cancelling=cancelling)
    gated = [at for at, each in enumerate(seen) if each.gated and not each.done]
    begun = sum(not each.gated and not each.done for each in seen)
    if cancelling:
        assert found.free == ()
        return
    assert list(found.free) == gated[: len(found.free)]
    assert len(found.free) == (len(gated) if most is None else min(len(gated), max(0, most - begun)))


def test_it_is_over_when_nothing_of_any_member_is_left():
    one, two = sighted(Status.SUCCEEDED, done=True), sighted(Status.SUCCEEDED)
    assert not verdict(group(2), [one, two], NOW).over
    assert verdict(group(2), [one, replace(two, done=True)], NOW).over


# --- what is waited for ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, *Status])), min_size=1, max_size=4))
def test_waiting_ends_when_all_have_come_and_breaks_when_one_never_will(drawn):
    awaited = [Awaited(f"j{at}", f"task '{at}'", any_end) for at, (any_end, _) in enumerate(drawn)]
    statuses = [status for _, status in drawn]
    found = waits(awaited, statuses)
    broken = any(
        not any_end and (status is None or (status.is_terminal() and status is not Status.SUCCEEDED))
        for any_end, status in drawn
    )
    assert bool(found.broken) == broken
    if not broken:
        going = [each for each, status in zip(awaited, statuses, strict=True) if status and not status.is_terminal()]
        assert list(found.left) == going
        assert bool(found.words) == bool(going)


def test_names_of_nodes():
    known = (Addressed("a", ("10.0.0.1", "10.0.0.2")), Addressed("b", ("10.0.0.3",)))
    assert hosts("g", known) == [
        ("10.0.0.1", ("a-0.g", "a.g")),
        ("10.0.0.2", ("a-1.g",)),
        ("10.0.0.3", ("b-0.g", "b.g")),
    ]


# --- the stages ------------------------------------------------------------------------------------------------------


def job(stage=Stage.WAITING, tasks=1, **more):
    base = ManagedJob(
        "j", 1, "r:0", "name", "u", "default", stage, 1, 0.0, tuple(ManagedTask(f"t{at}") for at in range(tasks)),
        task_configs={str(at): {"run": "true"} for at in range(tasks)},
    )  # fmt: skip
    return replace(base, **more)


def step(before, event, now=NOW):
    return life.TABLE.step(before, event, now)


def test_one_that_waits_for_others_is_held_then_admitted_as_any():
    held = life.opening(job(after=(Awaited("a", "managed job 7"),)))
    assert (held.entity.stage, held.orders) == (Stage.HELD, (events.LookAtAwaited(),))
    waiting = step(held.entity, events.AwaitedSeen((Status.RUNNING,)))
    assert (waiting.entity.stage, waiting.text) == (Stage.HELD, "waiting for managed job 7 (RUNNING)")
    assert step(waiting.entity, Changed()).orders == (events.LookAtAwaited(),)
    begun = step(waiting.entity, events.AwaitedSeen((Status.SUCCEEDED,)))
    assert (begun.entity.stage, begun.entity.after, begun.entity.task.reason) == (Stage.WAITING, (), None)


@pytest.mark.parametrize("tasks", [1, 3])
def test_what_never_can_begin_is_cancelled_in_words(tasks):
    held = life.opening(job(tasks=tasks, after=(Awaited("a", "task 'x'"),))).entity
    over = step(held, events.AwaitedSeen((Status.FAILED_SETUP,))).entity
    assert (over.stage, over.status, over.ended_at) == (Stage.DONE, Status.CANCELLED, NOW)
    assert [each.reason for each in over.tasks] == ["task 'x', which it was to wait for, ended as FAILED_SETUP"] * tasks
    asked = step(held, CancelAsked("u")).entity
    assert [each.status for each in asked.tasks] == [Status.CANCELLED] * tasks


def test_a_gated_member_needs_both_the_word_and_what_it_waits_for():
    where = Membership("p", 0, "g", Kind.SWEEP, gated=True)
    held = life.opening(job(member=where, after=(Awaited("a", "managed job 7"),))).entity
    assert held.stage is Stage.HELD
    come = step(held, events.AwaitedSeen((Status.SUCCEEDED,))).entity
    freed = step(held, events.Freed()).entity
    assert (come.stage, freed.stage) == (Stage.HELD, Stage.HELD)
    assert step(come, events.Freed()).entity.stage is Stage.WAITING
    assert step(freed, events.AwaitedSeen((Status.SUCCEEDED,))).entity.stage is Stage.WAITING
    assert step(freed, events.Freed()).entity == freed


def test_a_member_begins_when_it_has_met_the_others():
    up = Seen(Phase.UP, ever_up=True)
    launching = job(Stage.LAUNCHING, member=Membership("p", 0, "g", Kind.GROUP, meets=True))
    meeting = step(launching, up)
    assert (meeting.entity.stage, meeting.orders) == (Stage.MEETING, (events.Meet(),))
    assert meeting.entity.member.meet_by == NOW + MEET_S
    alone = step(meeting.entity, events.Alone(("b",)))
    assert (alone.text, alone.entity.wake_at) == ("waiting for the addresses of b", NOW + 1)
    assert step(alone.entity, events.Alone(("b",))).text == ""
    assert step(alone.entity, Due()).orders == (events.Meet(),)
    met = step(alone.entity, events.Met((Addressed("b", ("1.2.3.4",)),), ("c",)))
    assert (met.entity.stage, met.orders) == (Stage.SUBMITTING, (OpenJob(),))
    assert met.entity.member.addresses == (Addressed("b", ("1.2.3.4",)),)
    assert "c: no address" in met.text
    lost = step(meeting.entity, Seen(Phase.TERMINATED, ever_up=True, cluster_reason="gone"))
    assert lost.entity.stage is Stage.BACKOFF


@pytest.mark.parametrize("look_at", [None, NOW - 5])
@pytest.mark.parametrize("phase", [Phase.BOOTSTRAPPING, Phase.PROVISIONING, Phase.DEGRADED])
def test_a_member_whose_own_cluster_is_not_up_again_looks_in_a_while_and_not_at_once(phase, look_at):
    meeting = job(Stage.MEETING, member=Membership("p", 0, "g", Kind.GROUP, meets=True, meet_by=NOW + 60))
    for wake_at in (None, NOW - 0.001, NOW):
        waits_on = step(replace(meeting, wake_at=wake_at, look_at=look_at), Seen(phase, ever_up=True, num_nodes=1))
        assert waits_on.entity.stage is Stage.MEETING
        assert waits_on.entity.wake_at > NOW


def test_a_parent_is_what_its_members_are():
    parent = life.opening(job(tasks=2, group=group(2, primary=(0,), delays={"1": 5.0})))
    assert (parent.entity.stage, parent.orders) == (Stage.LEADING, (events.Lead(),))
    runs = step(parent.entity, events.MembersSeen((sighted(Status.RUNNING), sighted(Status.RUNNING))))
    assert (runs.entity.status, runs.orders) == (Status.RUNNING, None)
    ended = sighted(Status.SUCCEEDED, done=True, ended_at=NOW)
    waits_ = step(runs.entity, events.MembersSeen((ended, sighted(Status.RUNNING))))
    assert (waits_.entity.wake_at, waits_.orders) == (NOW + 5, None)
    stops = step(waits_.entity, events.MembersSeen((ended, sighted(Status.RUNNING))), NOW + 5)
    assert stops.orders == (events.Steer((), (1,), "the end of the primary tasks"),)
    told = step(stops.entity, events.Steered(), NOW + 5)
    assert told.entity.wake_at == NOW + 15
    over = step(told.entity, events.MembersSeen((ended, sighted(Status.CANCELLED, done=True))))
    assert (over.entity.stage, over.entity.status, over.entity.ended_at) == (Stage.DONE, Status.SUCCEEDED, NOW)


def test_many_members_that_change_are_looked_at_once():
    few = job(Stage.LEADING, tasks=3, group=group(3))
    assert step(few, Changed()).orders == (events.Lead(),)
    many = job(Stage.LEADING, tasks=400, group=group(400))
    later = step(many, Changed())
    assert (later.orders, later.entity.wake_at) == (None, NOW + 2)
    assert step(later.entity, Changed(), NOW + 1).entity.wake_at == NOW + 2


def test_a_parent_that_is_cancelled_ends_its_members_and_lets_none_begin():
    parent = job(Stage.LEADING, tasks=2, group=group(2, Kind.SWEEP, most_at_once=1))
    asked = step(parent, CancelAsked("u", graceful=True, timeout=3.0))
    assert asked.orders == (events.CancelMembers("u", True, 3.0, ""),)
    assert asked.entity.status is Status.CANCELLING
    seen = step(
        asked.entity, events.MembersSeen((sighted(Status.CANCELLED, done=True), sighted(Status.PENDING, gated=True)))
    )
    assert (seen.entity.status, seen.orders) == (Status.CANCELLING, None)
