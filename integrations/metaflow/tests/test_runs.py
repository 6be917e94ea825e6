"""Flows whose steps run elsewhere: how they end is how the steps ended, and nothing is left of them."""

import json
from pathlib import Path
from typing import Any

import pytest


def test_steps_run_there_and_artifacts_come_back(house: Any) -> None:
    code, said = house.run("Fans", KEY_OF_TESTS="very-secret-word")
    assert code == 0, said
    assert "hello there p 16" in said
    assert "very-secret-word" not in said
    run = house.latest("Fans")
    assert run.successful
    assert run.data.total == 30
    assert run.data.here
    task = run["start"].task
    assert task.data.node_ips
    assert "hello there" in task.stdout
    assert "pid=" not in task.stdout
    assert task.metadata_dict["sky-cluster"].startswith("start-")
    assert "very-secret-word" not in json.dumps(task.metadata_dict)
    assert sorted(each.data.product for each in run["each"]) == [10, 20]


def test_a_step_that_fails_fails_the_run(house: Any, tmp_path: Path) -> None:
    code, said = house.run("Fails", MARKS=str(tmp_path / "marks"))
    assert code != 0
    assert "the disk is full" in said
    assert "ended FAILED" in said
    assert not house.latest("Fails").successful
    assert (tmp_path / "marks").read_text() == "0\n"


@pytest.mark.parametrize("managed", ["0", "1"], ids=["cluster", "managed"])
def test_a_step_is_tried_again(house: Any, tmp_path: Path, managed: str) -> None:
    code, said = house.run("Fails", MARKS=str(tmp_path / "marks"), TIMES="2", ENOUGH="1", MANAGED=managed)
    assert code == 0, said
    assert (tmp_path / "marks").read_text() == "0\n1\n"
    run = house.latest("Fails")
    assert run.data.done == 1
    if managed == "1":
        assert int(run["start"].task.metadata_dict["sky-managed-job"]) > 0


def test_a_failure_that_is_caught(house: Any) -> None:
    code, said = house.run("Caught")
    assert code == 0, said
    assert "caught" in said


def test_what_no_repetition_mends_is_not_repeated(house: Any) -> None:
    code, said = house.run("Wrong")
    assert code != 0
    assert "acelerators" in said
    assert said.count("Task is starting") == 1, said


def test_a_flow_that_knows_nothing_of_it(house: Any) -> None:
    code, said = house.run("Plain", "run", "--with", "sky:infra=local")
    assert code == 0, said
    data = house.latest("Plain").data
    assert data.where != "here"
    assert data.where_end != "here"


def test_a_resumed_run_takes_over_what_was_done(house: Any, tmp_path: Path) -> None:
    code, said = house.run("Fans", "resume", "end", KEY_OF_TESTS="k")
    assert code == 0, said
    assert "hello there" not in said
    assert house.latest("Fans").data.total == 30


def test_a_local_datastore_that_nodes_do_not_see(house: Any) -> None:
    code, said = house.run("Plain", "run", "--with", "sky:infra=aws")
    assert code != 0
    assert "--datastore=s3" in said


def test_gpus_of_no_kind_are_asked_about(house: Any) -> None:
    code, said = house.run("Plain", "run", "--with", "resources:gpu=1", "--with", "sky:infra=local")
    assert code != 0
    assert "accelerators='A100:1'" in said


def test_a_secret_that_is_not_set(house: Any) -> None:
    code, said = house.run("Fans")
    assert code != 0
    assert "KEY_OF_TESTS" in said
    assert "Traceback" not in said
