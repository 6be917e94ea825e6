"""Pipelines run by kfp itself against a Sky server: they end as their tasks do, and leave nothing behind."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import sky

from household import until

LOCAL = {"infra": "local"}


@pytest.mark.parametrize("managed", [False, True])
def test_a_task_runs_and_its_outputs_go_on(house: Any, managed: bool) -> None:
    task = {"name": "hello", "resources": LOCAL, "envs": {"WHO": "nobody"}, "run": "echo hello $WHO"}
    code, said = house.run("one", task=task, env={"WHO": "there"}, managed=managed)
    assert code == 0, said
    assert "hello there" in said
    assert '"SUCCEEDED True"' in said
    logs = [each.read_text() for each in house.home.glob("outputs/**/log") if each.is_file()]
    assert any("hello there" in each for each in logs)


def test_a_job_that_fails_fails_the_pipeline(house: Any, tmp_path: Path) -> None:
    code, said = house.run(
        "one", task={"resources": LOCAL, "run": f"echo x >> {tmp_path}/marks; echo the reason; exit 3"}
    )
    assert code != 0
    assert "ended FAILED" in said and "the reason" in said
    assert (tmp_path / "marks").read_text() == "x\n"


def test_a_task_is_tried_again(house: Any, tmp_path: Path) -> None:
    mark = tmp_path / "marks"
    task = {"resources": LOCAL, "run": f"echo x >> {mark}; [ $(wc -l < {mark}) = 2 ]"}
    code, said = house.run("again", task=task)
    assert code == 0, said
    assert mark.read_text() == "x\nx\n"


def test_a_task_file_that_is_none(house: Any) -> None:
    code, said = house.run("one", task={"resources": LOCAL, "runn": "true"})
    assert code != 0
    assert "runn" in said


def test_secrets_come_from_the_pod(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"resources": LOCAL, "run": "echo ${#KEY_OF_TESTS} letters"}
    code, said = house.run("one", task=task, secret_variables=["KEY_OF_TESTS"])
    assert code != 0
    assert "not set in this pod: KEY_OF_TESTS" in said
    monkeypatch.setenv("KEY_OF_TESTS", "very-secret-word")
    code, said = house.run("one", task=task, secret_variables=["KEY_OF_TESTS"])
    assert code == 0, said
    assert "16 letters" in said
    assert "very-secret-word" not in said


@pytest.mark.parametrize("command", ["true", "exit 3"], ids=["succeeds", "fails"])
def test_a_cluster_for_several_tasks_goes_at_the_end(house: Any, command: str) -> None:
    code, said = house.run("shared", task={"resources": LOCAL, "run": command}, cluster="of-a-pipeline")
    assert (code == 0) == (command == "true"), said
    assert "of-a-pipeline" in said


def begun(house: Any, managed: bool) -> Any:
    """A run whose task runs now."""
    program = house.start("one", task={"name": "slow", "resources": LOCAL, "run": "sleep 300"}, managed=managed)

    def runs() -> bool:
        if managed:
            return any(each.status.value == "RUNNING" for each in sky.get(sky.jobs.queue(skip_finished=True)))
        return house.running("slow-") is not None

    until(runs)
    return program


@pytest.mark.parametrize("managed", [False, True], ids=["cluster", "managed"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_run_leaves_nothing(house: Any, managed: bool, sent: signal.Signals) -> None:
    program = begun(house, managed)
    os.killpg(program.pid, sent)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [], 30)


def test_an_interruption_while_machines_come_up(house: Any) -> None:
    program = house.start("one", task={"name": "slow", "resources": LOCAL, "run": "sleep 300"})
    until(lambda: any(each.name.startswith("slow-") for each in sky.get(sky.status())))
    os.killpg(program.pid, signal.SIGTERM)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [], 30)
