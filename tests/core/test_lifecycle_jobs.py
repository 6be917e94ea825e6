"""The life of a job as the server sees it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.lifecycle import jobs as life
from sky.core.model.jobs import CheckpointSeen, FailureCause, Job, JobPhase, Seen
from sky.core.model.statuses import JobStatus


def job(phase: JobPhase = JobPhase.ON_CLUSTER, **changes: object) -> Job:
    number = 7 if phase in (JobPhase.ON_CLUSTER, JobPhase.CANCELLING, JobPhase.DONE) else None
    base = Job("j", "c", "c", "r", "u", phase, JobStatus.PENDING, 1, 0.0, job_id=number)
    return replace(base, **changes)


def step(before: Job, event: object):
    return life.TABLE.step(before, event, 50.0)


@pytest.mark.parametrize("files", [{"workdir": "."}, {"file_mounts": {"/a": "b"}}])
def test_files_first_then_the_queue(files):
    opened = life.opening(job(JobPhase.SYNCING, task_config={"run": "true", **files}))
    synced = step(opened.entity, life.FilesSynced())
    assert (opened.orders, synced.orders) == ((life.SyncFiles(),), (life.Submit(),))


def test_without_files_there_is_only_the_queue():
    opened = life.opening(job(JobPhase.SYNCING, task_config={"run": "true", "file_mounts": {}}))
    assert (opened.entity.phase, opened.orders) == (JobPhase.SUBMITTING, (life.Submit(),))


def test_what_could_not_be_delivered_never_ran():
    after = step(job(JobPhase.SUBMITTING), life.DeliveryFailed("disk full"))
    assert (after.entity.status, after.entity.reason) == (JobStatus.FAILED_DRIVER, "disk full")


def test_the_nodes_report_is_taken_over():
    report = life.Reported(JobStatus.FAILED, start_at=1.0, end_at=2.0, exit_codes=(0, 3))
    after = step(job(), report).entity
    assert (after.phase, after.status, after.end_at, after.exit_codes) == (
        JobPhase.DONE,
        JobStatus.FAILED,
        2.0,
        (0, 3),
    )


def test_the_story_says_which_job_it_is_about():
    assert step(job(), life.Reported(JobStatus.RUNNING, start_at=1.0)).text == "job 7: RUNNING"
    ended = step(job(), life.Reported(JobStatus.FAILED, end_at=1.0, reason="exit code 3"))
    assert ended.text == "job 7: FAILED: exit code 3"


def test_a_repeated_report_says_nothing_new():
    once = step(job(), life.Reported(JobStatus.RUNNING, start_at=1.0))
    assert step(once.entity, life.Reported(JobStatus.RUNNING, start_at=1.0)).text == ""


def test_cancel_before_submission_needs_no_node():
    after = step(job(JobPhase.SYNCING), life.CancelAsked())
    assert (after.entity.status, after.orders) == (JobStatus.CANCELLED, ())


def test_cancel_while_submitting_happens_on_arrival():
    asked = step(job(JobPhase.SUBMITTING), life.CancelAsked()).entity
    after = step(asked, life.Submitted(7))
    assert (after.entity.phase, after.orders) == (JobPhase.CANCELLING, (life.Cancel(),))


@pytest.mark.parametrize(("asked", "status"), [(False, JobStatus.FAILED_DRIVER), (True, JobStatus.CANCELLED)])
def test_a_lost_cluster_ends_its_jobs(asked, status):
    assert step(job(cancel_asked=asked), life.ClusterLost("gone")).entity.status is status


EVENTS = st.one_of(
    st.builds(life.FilesSynced),
    st.builds(life.Submitted, st.just(7)),
    st.builds(life.DeliveryFailed, st.just("why")),
    st.builds(life.Reported, st.sampled_from(JobStatus)),
    st.builds(life.CancelAsked),
    st.builds(life.CancelDelivered),
    st.builds(life.ClusterLost, st.just("why")),
)


@given(st.lists(EVENTS, max_size=20))
def test_any_sequence_ends_once(events):
    current = life.opening(job(JobPhase.SYNCING)).entity
    for event in events:
        after = step(current, event).entity
        if current.phase is JobPhase.DONE:
            assert after == current
        assert (after.phase is JobPhase.DONE) == after.status.is_terminal()
        current = after


DECLARED = {"checkpoint": {"path": "/ck", "every": "600s", "max_size": "1GB"}, "progress": {"duration": "100s"}}
CHECKPOINT = CheckpointSeen("s1", 10.0, 2_000_000_000)


def test_what_is_seen_is_recorded_and_told_only_where_somebody_should_look():
    running = job(status=JobStatus.RUNNING, start_at=1.0, task_config=DECLARED)
    first = step(running, life.Reported(JobStatus.RUNNING, 1.0, seen=Seen(0.4, 2.0, CHECKPOINT)))
    assert first.entity.seen.checkpoint == CHECKPOINT and first.text == "" and first.orders is None
    concerned = step(first.entity, life.Reported(JobStatus.RUNNING, 1.0, seen=Seen(0.4, 2.0, CHECKPOINT, ("large",))))
    assert "s1 takes 2 GB" in concerned.text and "max_size" in concerned.text
    both = Seen(0.5, 3.0, CHECKPOINT, ("late", "large"))
    later = step(concerned.entity, life.Reported(JobStatus.RUNNING, 1.0, seen=both))
    assert "longer than 600s" in later.text and "takes" not in later.text
    silent = step(later.entity, life.Reported(JobStatus.RUNNING, 1.0))
    assert silent.entity.seen == both, "news without it does not take it back"


def test_why_it_failed_stays_on_record():
    report = life.Reported(JobStatus.FAILED, 1.0, 2.0, (137,), "run failed", cause=FailureCause.OUT_OF_MEMORY)
    assert step(job(), report).entity.cause is FailureCause.OUT_OF_MEMORY


def test_progress_is_what_it_says_itself_or_the_time_that_has_passed():
    running = job(status=JobStatus.RUNNING, start_at=100.0, task_config=DECLARED)
    assert running.progress(150.0) == 0.5
    assert running.progress(1000.0) == 0.99
    assert replace(running, seen=Seen(0.1)).progress(150.0) == 0.1
    assert replace(running, status=JobStatus.SUCCEEDED).progress(150.0) == 1.0
    assert replace(running, task_config={}).progress(150.0) is None
    assert replace(running, start_at=None).progress(150.0) is None
