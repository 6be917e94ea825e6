"""Runs against a real Sky server, without Airflow: what a try finds of the one before, and who ended it."""

import threading
from dataclasses import replace

import pytest

from airflow_sky.lines import Lines
from airflow_sky.runs import Work, find, follow, order_end, release, submit
from airflow_sky.tasks import read_tasks
from household import until


def begun(tmp_path, name, run="echo it runs now; sleep 300"):
    tasks = read_tasks({"resources": {"infra": "local"}, "run": run}, tmp_path)
    return submit(Work("launch", name, name, own=True), tasks, {})


def followed(work):
    """Follows in a thread: lines, and how it ended as soon as it has."""
    said, ended = [], []
    lines = Lines(said.append)
    thread = threading.Thread(
        target=lambda: ended.append(follow(work, lines, lambda known: None, lambda seconds: False)), daemon=True
    )
    thread.start()
    until(lambda: ended or any("it runs now" in line for line in said), 90)
    return thread, ended


@pytest.mark.parametrize(("taken_over", "status"), [(True, "CANCELLED"), (False, "FAILED")])
def test_who_takes_over_tells_a_failure_from_an_end_by_others(sky_side, tmp_path, taken_over, status):
    work = begun(tmp_path, f"race-{status.lower()}-t1")
    thread, ended = followed(replace(work, taken_over=taken_over))
    order_end(work)
    thread.join(60)
    assert ended[0].status == status
    assert ended[0].called_off is taken_over


def test_a_job_that_fails_by_itself_was_not_called_off(sky_side, tmp_path):
    work = begun(tmp_path, "fails-t1", "exit 3")
    thread, ended = followed(replace(work, taken_over=True))
    thread.join(60)
    assert (ended[0].status, ended[0].called_off) == ("FAILED", False)
    release(work)
    assert sky_side.clusters() == []


def test_what_is_under_way_is_found_and_what_has_failed_is_ended(sky_side, tmp_path):
    plain = Work("launch", "found-t1", "found-t1", own=True)
    work = begun(tmp_path, "found-t1")
    launching = find([plain])
    assert launching is not None
    assert launching.taken_over
    assert launching.request_id == work.request_id or launching.job_id == 1
    thread, _ended = followed(work)
    running = find([plain])
    assert running is not None
    assert running.job_id == 1
    order_end(running)
    assert find([plain]) is None
    thread.join(60)
    failed = begun(tmp_path, "found-t2", "exit 3")
    thread, _ended = followed(failed)
    thread.join(60)
    assert find([replace(failed, request_id="")]) is None
    assert sky_side.clusters() == []
