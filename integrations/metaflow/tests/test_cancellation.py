"""Ctrl-C, a runtime that is killed, a run that another step has ended: nothing goes on elsewhere."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import sky

from household import until


def begun(house: Any, marks: Path, managed: str = "0", **more: str) -> Any:
    """A run whose slow step runs now."""
    program = house.start("Slow", MARKS=str(marks), MANAGED=managed, **more)
    until(lambda: marks.exists() or program.poll() is not None)
    assert program.poll() is None, program.communicate()[0]
    return program


@pytest.mark.parametrize("managed", ["0", "1"], ids=["cluster", "managed"])
def test_ctrl_c_takes_the_cluster_down(house: Any, tmp_path: Path, managed: str) -> None:
    program = begun(house, tmp_path / "marks", managed)
    os.killpg(program.pid, signal.SIGINT)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [], 30)


def test_ctrl_c_while_machines_come_up(house: Any) -> None:
    program = house.start("Slow")
    until(lambda: any(each.name.startswith("slow-") for each in sky.get(sky.status())))
    os.killpg(program.pid, signal.SIGINT)
    said = house.end(program)
    assert program.returncode != 0, said
    until(lambda: house.clusters() == [], 30)


def test_a_runtime_that_is_killed_leaves_nothing(house: Any, tmp_path: Path) -> None:
    program = begun(house, tmp_path / "marks")
    program.kill()
    until(lambda: house.clusters() == [], 30)
    house.end(program)


@pytest.mark.parametrize("managed", ["0", "1"], ids=["cluster", "managed"])
def test_a_step_that_another_has_ended_leaves_nothing(house: Any, tmp_path: Path, managed: str) -> None:
    program = house.start("Slow", MARKS=str(tmp_path / "marks"), BREAKS="1", MANAGED=managed)
    said = house.end(program)
    assert program.returncode != 0
    assert "another step has failed" in said
    until(lambda: house.clusters() == [], 30)
