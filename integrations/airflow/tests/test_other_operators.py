"""Managed jobs, and tasks that share a cluster, run by a whole Airflow."""

import os
from pathlib import Path

import pytest

from household import until

MODES = ("now", "deferred")


@pytest.mark.parametrize("mode", MODES)
def test_a_managed_job(flow, sky_side, mode):
    flight = flow.run(f"managed_{mode}")
    assert flight.ends() == "success", flight.log()
    assert "hello world" in flight.log()
    told = flight.xcom("return_value")
    assert told["status"] == "SUCCEEDED"
    assert told["infra"] == "local"
    assert told["cost"] == 0.0
    assert told["cluster_name"]


@pytest.mark.parametrize("mode", MODES)
def test_a_managed_job_that_fails_twice(flow, sky_side, mode, tmp_path):
    marks = tmp_path / "marks"
    flight = flow.run(f"managed_{mode}", run="echo the disk is on fire; exit 3", marks=str(marks))
    assert flight.ends() == "failed"
    assert marks.read_text() == "x\nx\n"
    assert "the disk is on fire" in flight.log().partition("SkyJobFailed: Managed job")[2]


@pytest.mark.parametrize("mode", MODES)
def test_a_managed_job_that_is_called_off(flow, sky_side, mode):
    import sky

    flight = flow.run(f"managed_{mode}", run="echo it runs now; sleep 300")
    flight.says("it runs now")
    flight.mark("failed")
    until(lambda: not sky_side.clusters(), 90, flight.log)
    newest = sky.get(sky.jobs.queue())[0]
    assert newest.job_name.startswith("steady-")
    assert newest.status.value == "CANCELLED"


@pytest.mark.parametrize("mode", MODES)
def test_tasks_that_share_a_cluster(flow, sky_side, mode):
    flight = flow.run(f"shared_{mode}")
    assert flight.ends() == "success", flight.log("job") + flight.log("seen")
    assert flight.xcom("return_value", "first")["job_id"] == 1
    assert flight.xcom("return_value", "job")["job_id"] == 2
    assert flight.xcom("return_value", "there") == "UP"
    assert flight.xcom("return_value", "down") == 0.0
    assert sky_side.ever(flight.xcom("cluster_name", "first")) == [flight.xcom("cluster_name", "first")]


def test_a_shared_cluster_survives_what_is_called_off_on_it(flow, sky_side):
    flight = flow.run("shared_now", run="echo it runs now; [ -e ~/once ] && sleep 300; touch ~/once")
    flight.says("it runs now", "job")
    flight.mark("failed", "job")
    assert flight.ends() == "failed"
    assert "is gone" in flight.log("down")


@pytest.mark.parametrize("mode", MODES)
def test_an_address_and_a_token_by_a_connection_and_secrets_stay_hidden(flow, sky_side, mode):
    home = Path(os.environ["HOME"])
    token = (home / ".local" / "state" / "sky" / "token").read_text().strip()
    flight = flow.run(f"job_{mode}", conn="sky_far", run="echo a key of ${#KEY} letters: $KEY")
    assert flight.ends() == "success", flight.log()
    assert "a key of 12 letters: ***" in flight.log()
    # What Airflow keeps, in its tables and in its logs.
    kept = [path for path in (home / "airflow").rglob("*") if path.is_file()]
    assert len(kept) > 3
    holding = [path for path in kept if token.encode() in path.read_bytes() or b"not-for-logs" in path.read_bytes()]
    assert holding == []
