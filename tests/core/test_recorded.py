"""Tasks on record: the same config is read once, and another one is another task."""

import pytest

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.recorded import recorded_task
from sky.core.model.tasks import TaskSpec

CONFIG = {"run": "true", "envs": {"A": "1"}, "resources": {"cpus": 2}}


def test_it_is_what_reading_it_gives_and_it_is_read_once():
    first = recorded_task(dict(CONFIG))
    assert first == TaskSpec.from_config(CONFIG)
    assert recorded_task({**CONFIG, "envs": {"A": "1"}}) is first


@pytest.mark.parametrize("change", [{"run": "false"}, {"envs": {"A": "2"}}, {"num_nodes": 2}])
def test_another_config_is_another_task(change):
    other = recorded_task({**CONFIG, **change})
    assert other == TaskSpec.from_config({**CONFIG, **change}) != recorded_task(CONFIG)


def test_what_is_wrong_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(InvalidSkyPilotConfigError):
            recorded_task({"run": "true", "num_nodes": "many"})


def test_only_some_are_remembered():
    first = recorded_task({"run": "echo first"})
    for number in range(600):
        recorded_task({"run": f"echo {number}"})
    assert recorded_task({"run": "echo first"}) is not first
