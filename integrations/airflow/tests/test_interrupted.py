"""Tasks that are called off, cut off, cleared or too slow: what they began ends, or is found again."""

import os
import signal
from pathlib import Path

import pytest

from household import until

MODES = ("now", "deferred")
SLOW = "echo it runs now; sleep 300"


def running(flight, mode):
    flight.reaches("deferred" if mode == "deferred" else "running")
    flight.says("it runs now")


def worker_of(flight):
    """The process that runs a task: it bears the task instance's id."""
    ours = flight.task()["id"]
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"airflow worker -- {ours}" in (entry / "cmdline").read_text(errors="replace"):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process runs {ours}")


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("mode", MODES)
def test_marking_it_failed_ends_job_and_cluster(flow, sky_side, mode):
    flight = flow.run(f"job_{mode}", run=SLOW)
    running(flight, mode)
    assert len(sky_side.clusters()) == 1
    flight.mark("failed")
    until(lambda: not sky_side.clusters(), 60, flight.log)
    assert flight.ends() == "failed"


@pytest.mark.parametrize("mode", MODES)
def test_called_off_while_it_is_set_up(flow, sky_side, mode):
    flight = flow.run(f"job_{mode}", setup="echo it is set up now; sleep 300")
    flight.says("it is set up now")
    flight.mark("failed")
    until(lambda: not sky_side.clusters(), 60, flight.log)
    assert flight.ends() == "failed"


@pytest.mark.parametrize("mode", MODES)
def test_clearing_it_begins_anew(flow, sky_side, mode, tmp_path):
    go = tmp_path / "go"
    flight = flow.run(
        f"job_{mode}", run=f"echo it runs now; while [ ! -e {go} ]; do sleep 0.2; done", marks=str(tmp_path / "marks")
    )
    running(flight, mode)
    old = sky_side.clusters()
    flight.clear()
    until(lambda: flight.task()["try_number"] == 2, 60)
    until(lambda: not set(old) & set(sky_side.clusters()), 60, sky_side.clusters)
    go.touch()
    assert flight.ends() == "success", flight.log()
    assert (tmp_path / "marks").read_text() == "x\nx\n"
    assert sky_side.clusters() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_after_a_failure_has_a_cluster_of_its_own(flow, sky_side, mode, tmp_path):
    marks = tmp_path / "marks"
    flight = flow.run(f"again_{mode}", run=f"[ $(wc -l < {marks}) = 2 ]", marks=str(marks))
    assert flight.ends() == "success", flight.log()
    assert marks.read_text() == "x\nx\n"
    name = flight.xcom("cluster_name")
    assert name.endswith("-t2")
    assert len(sky_side.ever(name.removesuffix("-t2"))) == 2


def test_a_try_that_was_cut_off_is_found_again(flow, sky_side, tmp_path):
    marks, go = tmp_path / "marks", tmp_path / "go"
    flight = flow.run("again_now", run=f"echo it runs now; while [ ! -e {go} ]; do sleep 0.2; done", marks=str(marks))
    running(flight, "now")
    (name,) = sky_side.clusters()
    worker = worker_of(flight)
    # First who looks after it, as when a machine is lost: the scheduler misses its sign of life.
    for pid in (parent_of(worker), worker):
        os.kill(pid, signal.SIGKILL)
    until(lambda: flight.task()["try_number"] == 2 and flight.state() == "running", 120, flight.task)
    flight.says("going on with its cluster")
    assert sky_side.clusters() == [name]
    go.touch()
    assert flight.ends() == "success", flight.log()
    assert "it runs now" in flight.log()
    assert marks.read_text() == "x\n"
    assert flight.xcom("cluster_name") == name
    assert sky_side.ever(name.removesuffix("-t1")) == [name]


def test_a_job_that_ended_when_nobody_looked_is_not_run_again(flow, sky_side, tmp_path):
    marks = tmp_path / "marks"
    flight = flow.run("again_now", run="echo it runs now; sleep 6", marks=str(marks))
    running(flight, "now")
    os.kill(worker_of(flight), signal.SIGKILL)
    assert flight.ends() == "success", flight.log()
    assert int(flight.task()["try_number"]) == 2
    assert marks.read_text() == "x\n"


def test_a_triggerer_that_is_killed_and_started_again_goes_on(flow, sky_side, tmp_path):
    marks, go = tmp_path / "marks", tmp_path / "go"
    flight = flow.run(
        "job_deferred", run=f"echo it runs now; while [ ! -e {go} ]; do sleep 0.2; done", marks=str(marks)
    )
    running(flight, "deferred")
    (name,) = sky_side.clusters()
    flow.stop("triggerer", signal.SIGKILL)
    flow.start("triggerer", "--skip-serve-logs")
    until(flow.healthy, 120)
    assert sky_side.clusters() == [name]
    go.touch()
    assert flight.ends() == "success", flight.log()
    assert marks.read_text() == "x\n"


@pytest.mark.parametrize("mode", MODES)
def test_a_time_limit_ends_job_and_cluster(flow, sky_side, mode):
    flight = flow.run(f"limited_{mode}", run=SLOW)
    assert flight.ends() == "failed"
    assert "Timeout" in flight.log()
    until(lambda: not sky_side.clusters(), 60, flight.log)


@pytest.mark.parametrize("mode", MODES)
def test_what_no_repetition_mends_is_not_repeated(flow, sky_side, mode):
    flight = flow.run(f"again_{mode}", cpus="many")
    assert flight.ends() == "failed"
    assert int(flight.task()["try_number"]) == 1
    assert "many" in flight.log()
    assert sky_side.clusters() == []
