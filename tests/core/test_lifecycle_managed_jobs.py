"""The life of a managed job: what is seen of its cluster and its job there decides, and every loss leads back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.lifecycle import managed_events as events
from sky.core.lifecycle import managed_jobs as life
from sky.core.model.clusters import Phase
from sky.core.model.jobs import CheckpointSeen, FailureCause, Seen
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage, Where
from sky.core.model.statuses import JobStatus, ManagedJobScheduleState
from sky.core.model.statuses import ManagedJobStatus as Status
from sky.core.policy import pacing

NOW = 1000.0
PLACE = Where("a", "r", "z", "t", True, 1.0)
UP = events.Seen(Phase.UP, ever_up=True, where=PLACE)
RUNS = replace(UP, job=JobStatus.RUNNING, version=3, number=1, start_at=900.0)
GONE = events.Seen(Phase.TERMINATED, ever_up=True, cluster_reason="preempted", where=PLACE)


def job(stage: Stage = Stage.WAITING, tasks: int = 1, recovery: object = None, **changes: object) -> ManagedJob:
    config = {"run": "true", **({"resources": {"job_recovery": recovery}} if recovery else {})}
    base = ManagedJob(
        "j", 1, "r:0", "name", "u", "default", stage, 1, 0.0, tuple(ManagedTask(f"t{at}") for at in range(tasks)),
        task_configs={str(at): config for at in range(tasks)},
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def step(before: ManagedJob, event: object, now: float = NOW):
    return life.TABLE.step(before, event, now)


def after(before: ManagedJob, *events: object, now: float = NOW) -> ManagedJob:
    for event in events:
        before = step(before, event, now).entity
    return before


def launching(**changes: object) -> ManagedJob:
    return after(job(**changes), events.Admitted(), events.Launched("c", "name-1"))


def running(**changes: object) -> ManagedJob:
    return after(launching(**changes), UP, RUNS)


def test_from_submission_to_success():
    now = job()
    told = []
    for event in (
        events.Admitted(), events.Launched("c", "name-1"), UP, RUNS,
        replace(RUNS, job=JobStatus.SUCCEEDED, end_at=950.0, version=4), GONE,
    ):  # fmt: skip
        done = step(now, event)
        now = done.entity
        told.append((now.stage, now.status, now.schedule_state, done.orders))
    going, alive = ManagedJobScheduleState.LAUNCHING, ManagedJobScheduleState.ALIVE
    assert told == [
        (Stage.PLACING, Status.STARTING, going, (events.Launch(),)),
        (Stage.LAUNCHING, Status.STARTING, going, (events.Look(),)),
        (Stage.SUBMITTING, Status.STARTING, alive, (events.OpenJob(),)),
        (Stage.RUNNING, Status.RUNNING, alive, None),
        (Stage.ENDING, Status.SUCCEEDED, alive, (events.Close(),)),
        (Stage.DONE, Status.SUCCEEDED, ManagedJobScheduleState.DONE, ()),
    ]
    assert (now.task.started_at, now.task.ended_at, now.task.duration(NOW)) == (900.0, 950.0, 50.0)
    assert now.ended_at == NOW


def test_a_lost_machine_leads_back_once_nothing_is_left():
    lost = step(running(), replace(RUNS, phase=Phase.TERMINATING, cluster_reason="its machines are gone"))
    assert (lost.entity.stage, lost.entity.status, lost.orders) == (
        Stage.CLEARING,
        Status.RECOVERING,
        (events.Close(),),
    )
    assert lost.entity.task.recoveries == 1
    assert lost.entity.lost == (PLACE,)
    still = step(lost.entity, replace(GONE, phase=Phase.TERMINATING))
    assert still.entity.stage is Stage.CLEARING, "never two clusters at once"
    again = step(still.entity, GONE)
    assert (again.entity.stage, again.entity.status, again.orders) == (
        Stage.PLACING,
        Status.RECOVERING,
        (events.Launch(),),
    )
    assert (again.entity.attempt, again.entity.cluster_id, again.entity.task.attempts) == (2, None, (1, 2))
    back = after(again.entity, events.Launched("c2", "name-1"), UP, replace(RUNS, start_at=990.0))
    assert (back.status, back.task.recovered_at, back.task.ran, back.lost) == (Status.RUNNING, 990.0, 100.0, ())


@pytest.mark.parametrize("phase", [Phase.BOOTSTRAPPING, Phase.DEGRADED, Phase.RESUMING])
def test_contact_lost_is_not_a_job_lost(phase):
    silent = replace(RUNS, phase=phase, cluster_reason="the agent does not answer")
    waiting = after(running(), silent)
    assert (waiting.stage, waiting.status, waiting.silent_since) == (Stage.RUNNING, Status.RUNNING, NOW)
    assert life.due_at(waiting) == pytest.approx(NOW + waiting.lease_s, abs=1)
    assert after(waiting, silent, now=NOW + 10).silent_since == NOW
    back = after(waiting, RUNS, now=NOW + 20)
    assert (back.silent_since, back.stage) == (None, Stage.RUNNING)
    over = after(waiting, silent, now=NOW + waiting.lease_s)
    assert (over.stage, over.status) == (Stage.CLEARING, Status.RECOVERING)


def test_machines_that_their_provider_says_are_gone_are_lost_at_once():
    assert after(running(), replace(RUNS, phase=Phase.DEGRADED, missing=1)).stage is Stage.CLEARING


def test_one_that_is_not_to_be_recovered_ends():
    ended = after(running(recovery={"strategy": "NONE"}), replace(RUNS, phase=Phase.TERMINATING))
    assert (ended.stage, ended.status) == (Stage.ENDING, Status.FAILED)


@pytest.mark.parametrize(
    ("reported", "status"), [(JobStatus.FAILED, Status.FAILED), (JobStatus.FAILED_SETUP, Status.FAILED_SETUP)]
)
def test_its_own_failure_ends_it(reported, status):
    failed = after(running(), replace(RUNS, job=reported, exit_codes=(3,), reason="exit code 3"))
    assert (failed.stage, failed.status, failed.task.exit_codes) == (Stage.ENDING, status, (3,))
    assert after(failed, GONE).status is status


def test_a_failure_while_machines_go_is_not_its_own():
    fell = after(running(), replace(RUNS, job=JobStatus.FAILED, exit_codes=(143,), missing=1))
    assert (fell.stage, fell.status) == (Stage.CLEARING, Status.RECOVERING)


def test_restarts_after_errors_are_counted_and_listed_codes_are_not():
    recovery = {"max_restarts_on_errors": 1, "recover_on_exit_codes": [7]}
    now = running(recovery=recovery)
    for code, restarts in ((7, 0), (5, 1), (7, 1)):
        now = after(now, replace(RUNS, job=JobStatus.FAILED, exit_codes=(0, code)))
        assert (now.stage, now.task.restarts) == (Stage.CLEARING, restarts)
        now = after(now, GONE, events.Launched("c", "n"), UP, RUNS)
    assert after(now, replace(RUNS, job=JobStatus.FAILED, exit_codes=(5,))).status is Status.FAILED
    assert now.task.recoveries == 3


def test_a_job_that_never_begins_to_run_is_given_up():
    now = launching()
    for _ in range(life.STUMBLES - 1):
        now = after(now, UP, replace(UP, job=JobStatus.FAILED_DRIVER, reason="no such file"))
        assert now.stage is Stage.CLEARING
        now = after(now, GONE, events.Launched("c", "n"))
    now = after(now, UP, replace(UP, job=JobStatus.FAILED_DRIVER, reason="no such file"))
    assert (now.stage, now.status) == (Stage.ENDING, Status.FAILED_CONTROLLER)


def test_a_failed_job_may_leave_its_cluster():
    failed = step(running(recovery={"keep_on_failure": 7200.0}), replace(RUNS, job=JobStatus.FAILED, exit_codes=(1,)))
    assert (failed.entity.stage, failed.entity.kept, failed.orders) == (Stage.DONE, True, (events.Release(7200.0),))


def test_places_that_refuse_are_tried_again_ever_later():
    now, waits = launching(), []
    for _ in range(4):
        now = after(now, replace(GONE, ever_up=False))
        assert (now.stage, now.schedule_state) == (Stage.BACKOFF, ManagedJobScheduleState.ALIVE_BACKOFF)
        waits.append(now.wake_at - NOW)
        now = after(now, events.Due(), events.Launched("c", "n"))
    assert waits == [10, 20, 40, 80]
    assert now.attempt == 5


def test_what_can_never_be_placed_ends_and_what_ran_before_does_not():
    placing = after(job(), events.Admitted())
    assert after(placing, events.NotPlaced("none", hopeless=True)).status is Status.FAILED_NO_RESOURCE
    assert after(placing, events.NotPlaced("bad", wrong=True)).status is Status.FAILED_PRECHECKS
    unfit = after(launching(), replace(GONE, ever_up=False, unfit=True))
    assert (unfit.stage, unfit.status) == (Stage.DONE, Status.FAILED_NO_RESOURCE)
    ran = after(running(), replace(RUNS, phase=Phase.TERMINATING), GONE)
    assert after(ran, events.NotPlaced("none", hopeless=True)).stage is Stage.BACKOFF


def test_an_attempt_without_a_cluster_is_the_same_attempt_later():
    rested = after(job(), events.Admitted(), events.Postponed(60.0, "cheaper later"))
    assert (rested.stage, rested.wake_at) == (Stage.BACKOFF, NOW + 60)
    again = after(rested, events.Due())
    assert (again.attempt, again.task.attempts) == (1, (1,))


def test_tasks_follow_one_another():
    first = after(running(tasks=2), replace(RUNS, job=JobStatus.SUCCEEDED, end_at=950.0))
    assert (first.stage, first.status) == (Stage.CLEARING, Status.PENDING)
    second = after(first, GONE)
    assert (second.at, second.stage, second.status, second.attempt) == (1, Stage.PLACING, Status.STARTING, 2)
    done = after(second, events.Launched("c", "n"), UP, RUNS, replace(RUNS, job=JobStatus.SUCCEEDED), GONE)
    assert (done.stage, done.status) == (Stage.DONE, Status.SUCCEEDED)


def test_the_failure_of_a_task_leaves_out_the_rest():
    failed = after(running(tasks=3), replace(RUNS, job=JobStatus.FAILED, exit_codes=(1,)), GONE)
    assert [task.status for task in failed.tasks] == [Status.FAILED, Status.CANCELLED, Status.CANCELLED]
    assert failed.status is Status.FAILED


def test_a_cancelled_job_ends_with_its_cluster():
    for before in (launching(), running(), after(job(), events.Admitted())):
        asked = step(before, events.CancelAsked("ada"))
        assert (asked.entity.stage, asked.entity.status, asked.orders) == (
            Stage.ENDING, Status.CANCELLING, (events.Close(),)
        )  # fmt: skip
        assert after(asked.entity, replace(GONE, phase=Phase.TERMINATING)).status is Status.CANCELLING
        over = after(asked.entity, GONE)
        assert (over.stage, over.status, over.task.reason) == (Stage.DONE, Status.CANCELLED, "cancelled by ada")


def test_one_that_waits_is_cancelled_at_once():
    over = step(job(), events.CancelAsked())
    assert (over.entity.stage, over.entity.status, over.orders) == (Stage.DONE, Status.CANCELLED, ())


def test_cancelled_between_two_tasks_keeps_what_succeeded():
    between = after(running(tasks=2), replace(RUNS, job=JobStatus.SUCCEEDED))
    over = after(between, events.CancelAsked(), GONE)
    assert [task.status for task in over.tasks] == [Status.SUCCEEDED, Status.CANCELLED]


def test_a_graceful_end_has_its_time():
    asked = step(running(), events.CancelAsked(graceful=True, timeout=30.0))
    assert (asked.entity.stage, asked.orders) == (Stage.CANCELLING, (events.CancelJob(),))
    assert after(asked.entity, replace(RUNS, job=JobStatus.CANCELLED)).stage is Stage.ENDING
    assert after(asked.entity, events.Due(), now=NOW + 29).stage is Stage.CANCELLING
    assert after(asked.entity, events.Due(), now=NOW + 30).stage is Stage.ENDING
    assert after(asked.entity, events.CancelAsked()).stage is Stage.ENDING


def test_it_runs_no_longer_than_it_may():
    now = after(launching(recovery={"max_run_time": 150.0}), UP, RUNS)
    assert life.due_at(now) == 900.0 + 150
    assert step(now, events.Due(), 1049.0).orders == (events.Look(),)
    late = step(now, events.Due(), 1050.0)
    assert (late.entity.stage, late.orders) == (Stage.CANCELLING, (events.CancelJob(),))
    ended = after(late.entity, replace(RUNS, job=JobStatus.CANCELLED), GONE, now=1051.0)
    assert (ended.status, "max_run_time" in (ended.task.reason or "")) == (Status.FAILED, True)


def test_the_time_of_earlier_attempts_counts():
    now = after(running(recovery={"max_run_time": 150.0}), replace(RUNS, phase=Phase.TERMINATING), GONE)
    now = after(now, events.Launched("c", "n"), UP, replace(RUNS, start_at=1200.0), now=1200.0)
    assert life.due_at(now) == 1200.0 + 50


def test_a_change_has_the_stage_order_given_again():
    assert step(launching(), events.Changed()).orders == (events.Look(),)
    assert step(running(), events.Changed()).orders == (events.Look(),)
    ending = after(running(), events.CancelAsked())
    assert step(ending, events.Changed()).orders == (events.Close(),)
    placing = after(job(), events.Admitted())
    assert step(placing, events.Changed()).orders is None, "the order under way decides"


def test_a_cluster_that_left_before_the_job_was_there_is_given_it_when_it_is_back():
    gap = after(launching(), UP, replace(UP, phase=Phase.BOOTSTRAPPING))
    assert gap.stage is Stage.RUNNING
    back = step(gap, UP)
    assert (back.entity.stage, back.orders) == (Stage.SUBMITTING, (events.OpenJob(),))


SEEN = st.builds(
    events.Seen,
    phase=st.none() | st.sampled_from(Phase),
    missing=st.integers(0, 2),
    ever_up=st.booleans(),
    unfit=st.booleans(),
    cluster_reason=st.none() | st.just("why"),
    where=st.none() | st.just(PLACE),
    job=st.none() | st.sampled_from(JobStatus),
    version=st.integers(-1, 5),
    start_at=st.none() | st.just(900.0),
    exit_codes=st.just((1,)),
)
EVENTS = st.one_of(
    SEEN,
    SEEN,
    st.sampled_from([
        events.Due(), events.Changed(), events.Admitted(), events.CancelAsked(), events.CancelAsked(graceful=True),
        events.Launched("c", "n"), events.NotPlaced("no"), events.NotPlaced("no", hopeless=True),
        events.Postponed(5, "wait"), events.NotSeen("broken"),
    ]),
)  # fmt: skip
RECOVERIES = st.sampled_from(
    [None, {"strategy": "NONE"}, {"max_restarts_on_errors": 2}, {"max_run_time": 50.0}, {"keep_on_failure": True}]
)


@given(st.lists(EVENTS, max_size=40), st.integers(1, 3), RECOVERIES)
def test_any_sequence_ends_once_and_in_order(events, tasks, recovery):
    current = life.opening(job(tasks=tasks, recovery=recovery)).entity
    for number, event in enumerate(events):
        done = step(current, event, NOW + number * 30)
        if current.stage is Stage.DONE:
            assert done.entity == current
            assert done.orders is None
        following = done.entity
        assert following.attempt - current.attempt in (0, 1)
        if following.attempt > current.attempt and current.attempt:
            assert event == events.Due() or (isinstance(event, events.Seen) and event.gone), (
                "nothing of the last is left"
            )
        assert following.at in (current.at, current.at + 1)
        assert all(task.status is Status.SUCCEEDED for task in following.tasks[: following.at])
        if following.stage is Stage.DONE:
            assert following.status.is_terminal()
            assert all(task.status.is_terminal() for task in following.tasks)
            assert following.ended_at is not None
        elif following.stage not in (Stage.WAITING, Stage.PLACING, Stage.LAUNCHING, Stage.SUBMITTING, Stage.RUNNING):
            assert following.wake_at is not None, "it is looked at again, whatever gets lost"
        current = following


# --- with a deadline, checkpoints, memory ----------------------------------------------------------------------------

DEADLINE = {"strategy": "DEADLINE", "deadline": 9000.0, "work": 3600.0}


def asked_for(zone: str = "a/r/z", *, spot: bool = True) -> dict[str, object]:
    return pacing.dump(pacing.Pace(asked=zone, spot=spot, region="a/r", asked_at=NOW, price=1.0))


def paced(**changes: object) -> ManagedJob:
    begun = events.Launched("c", "name-1", "", asked_for(), NOW + 50)
    return after(job(recovery=DEADLINE, **changes), events.Admitted(), begun)


def test_its_policy_is_asked_when_it_is_time_and_the_look_goes_on():
    coming = paced()
    assert (coming.stage, life.due_at(coming)) == (Stage.LAUNCHING, NOW + 50)
    early, late = step(coming, events.Due(), NOW + 10), step(coming, events.Due(), NOW + 50)
    assert (early.orders, late.orders) == ((events.Look(),), (events.Weigh(),))
    assert life.due_at(late.entity) > NOW + 50, "an answer that is lost is asked for again"
    runs = after(coming, UP, RUNS)
    assert life.due_at(runs) == NOW + 50
    stays = step(runs, events.Weighed(asked_for(), NOW + 99, "stays"), NOW + 50)
    assert (stays.entity.stage, life.due_at(stays.entity), stays.orders) == (Stage.RUNNING, NOW + 99, ())
    silent = replace(runs, silent_since=NOW)
    assert step(silent, events.Weighed(asked_for(), NOW + 99, "stays"), NOW + 50).orders == (events.Look(),)


def test_a_reason_is_told_once():
    runs = after(paced(), UP, RUNS)
    pace = {**asked_for(), "reason": "spot lasts"}
    first = step(runs, events.Weighed(pace, NOW + 60, "spot: spot lasts"))
    assert (first.text, step(first.entity, events.Weighed(pace, NOW + 70, "spot: spot lasts")).text) == (
        "spot: spot lasts",
        "",
    )


def test_it_leaves_after_its_notice_or_at_once():
    runs = after(paced(), UP, RUNS)
    told = step(runs, events.Weighed(asked_for(), NOW + 99, "on demand", "on demand", 30.0))
    assert (told.entity.stage, told.orders) == (Stage.RUNNING, (events.Warn(30.0, "on demand"),))
    assert life.due_at(told.entity) == NOW + 30
    assert step(told.entity, events.Due(), NOW + 29).orders == (events.Look(),)
    gone = step(told.entity, events.Due(), NOW + 30)
    assert (gone.entity.stage, gone.entity.status, gone.orders) == (
        Stage.CLEARING,
        Status.RECOVERING,
        (events.Close(),),
    )
    assert (gone.entity.leave_at, gone.entity.look_at, gone.entity.lost) == (None, None, ())
    assert pacing.load(gone.entity.pace, 0).beliefs == (), "it was nobody's fault"
    for now in (runs, paced()):
        assert after(now, events.Weighed(asked_for(), NOW + 99, "x", "x", 0.0)).stage is Stage.CLEARING
    ended = after(told.entity, replace(RUNS, job=JobStatus.SUCCEEDED, end_at=NOW + 5))
    assert (ended.stage, ended.status) == (Stage.ENDING, Status.SUCCEEDED), "what ends meanwhile has ended"


def test_a_zone_that_refused_or_took_it_away_rests_and_another_is_asked_soon():
    refused = after(paced(), replace(GONE, ever_up=False))
    assert (refused.stage, life.due_at(refused)) == (Stage.BACKOFF, NOW + 1)
    lost = after(paced(), UP, RUNS, GONE)
    for each in (refused, lost):
        (belief,) = pacing.load(each.pace, 0).beliefs
        assert (belief.zone, belief.failures) == ("a/r/z", 1)
    there = events.Launched("c", "n", "", {**lost.pace, "asked": "a/r/z", "spot": True}, NOW)
    back = after(lost, GONE, there, UP, RUNS)
    assert pacing.load(back.pace, 0).beliefs == ()


def test_out_of_reach_its_policy_is_asked_on_and_nothing_counts_as_done():
    runs = after(paced(), UP, replace(RUNS, start_at=NOW - 500))
    silent = replace(RUNS, phase=Phase.DEGRADED, start_at=NOW - 500)
    waits = after(runs, silent)
    assert life.due_at(waits) == NOW + 50
    assert step(waits, events.Due(), NOW + 50).orders == (events.Weigh(),)
    later = after(waits, silent, now=NOW + 40)
    assert pacing.load(later.pace, 0).done == pacing.load(waits.pace, 0).done == 500.0


def test_it_waits_as_its_policy_wants_and_carries_along_what_it_learnt():
    waits = after(job(recovery=DEADLINE), events.Admitted(), events.Postponed(42.0, "no spot", asked_for("q")))
    assert (waits.stage, life.due_at(waits), waits.pace["asked"]) == (Stage.BACKOFF, NOW + 42, "q")


def test_what_is_saved_is_what_the_newest_checkpoint_has():
    saved = Seen(progress=0.5, progress_at=NOW, checkpoint=CheckpointSeen("step-5", NOW - 60, 10))
    runs = after(paced(), UP, replace(RUNS, start_at=NOW - 1000), replace(RUNS, start_at=NOW - 1000, noted=saved))
    pace = pacing.load(runs.pace, 0)
    assert (pace.done, pace.saved) == (1800.0, 1800.0), "it declares no checkpoint: its own word counts"
    assert (runs.task.progress, runs.task.checkpoint, runs.task.checkpoint_at) == (0.5, "step-5", NOW - 60)
    lost = step(runs, GONE)
    assert "its newest complete checkpoint is step-5, 1 min old" in lost.text
    assert lost.text == "lost: preempted; its newest complete checkpoint is step-5, 1 min old; recovering"
    again = after(lost.entity, GONE, events.Launched("c", "n", "", dict(lost.entity.pace), NOW), UP, RUNS)
    assert again.task.checkpoint == "step-5", "what is kept outlives the machine"


def test_a_recovery_says_that_there_is_no_checkpoint():
    assert "declares no checkpoint" in step(running(), GONE).text
    declared = replace(running(), task_configs={"0": {"run": "true", "checkpoint": {"path": "~/c"}}})
    assert "no complete checkpoint, so it begins from the start" in step(declared, GONE).text


OOM = replace(RUNS, job=JobStatus.FAILED, exit_codes=(137,), cause=FailureCause.OUT_OF_MEMORY, memory_gb=16.0)


def hungry(**wish: object) -> ManagedJob:
    return replace(running(), task_configs={"0": {"run": "true", "on_oom": {"grow": "2x", **wish}}})


def test_one_without_enough_memory_asks_for_more_and_says_so():
    grown = step(hungry(), OOM)
    assert (grown.entity.stage, grown.entity.task.grown, grown.entity.task.restarts) == (Stage.CLEARING, 1, 0)
    assert "out_of_memory with 16 GB: 32 GB on the next try" in grown.text
    assert grown.entity.task_configs["0"]["resources"]["memory"] == "32+"
    placed = after(grown.entity, GONE)
    over = after(placed, events.NotPlaced("nobody has 32 GB", hopeless=True))
    assert (over.stage, over.status) == (Stage.DONE, Status.FAILED_NO_RESOURCE)
    assert after(placed, events.NotPlaced("none is free")).stage is Stage.BACKOFF


def test_it_grows_to_its_limit_and_fails_then():
    failed = step(hungry(max="16GB"), OOM)
    assert (failed.entity.stage, failed.entity.status) == (Stage.ENDING, Status.FAILED)
    assert "on_oom.max allows 16 GB" in failed.text
    assert after(running(), OOM).status is Status.FAILED, "without on_oom it is a failure like any other"
