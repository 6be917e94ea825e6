"""A whole Airflow runs them: its scheduler, executor, triggerer and API server."""

import pytest

MODES = ("now", "deferred")


def test_train_pipeline(flow, sky_side, tmp_path):
    flight = flow.run("sky_train", data=str(tmp_path), epochs=2)
    assert flight.ends() == "success", flight.log("train")
    assert "epoch 2 of 2" in flight.log("train")
    assert "the model says 50.5" in flight.log("evaluate")
    told = flight.xcom("return_value", "train")
    assert told["status"] == "SUCCEEDED"
    assert told["infra"] == "local"
    assert told["cost"] == flight.xcom("cost", "train") == 0.0
    assert flight.xcom("job_id", "train") == told["job_id"] == 1
    assert sky_side.clusters() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_job_succeeds_and_leaves_nothing(flow, sky_side, mode):
    flight = flow.run(f"job_{mode}")
    assert flight.ends() == "success", flight.log()
    assert "hello world" in flight.log()
    name = flight.xcom("cluster_name")
    assert sky_side.ever(name) == [name]
    assert sky_side.clusters() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_job_fails_the_task_with_its_own_words(flow, sky_side, mode):
    flight = flow.run(f"job_{mode}", run="echo the disk is on fire; exit 3")
    assert flight.ends() == "failed"
    log = flight.log()
    assert "SkyJobFailed: Job 1 on cluster" in log
    assert "ended FAILED" in log
    assert "the disk is on fire" in log.partition("SkyJobFailed")[2]
    assert flight.xcom("status") == "FAILED"
    assert flight.xcom("cost") == 0.0
    assert sky_side.clusters() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_setup_says_so(flow, sky_side, mode):
    flight = flow.run(f"job_{mode}", setup="echo no such wheel; exit 4")
    assert flight.ends() == "failed"
    assert "FAILED_SETUP" in flight.log()
    assert "no such wheel" in flight.log().partition("SkyJobFailed")[2]
    assert sky_side.clusters() == []
