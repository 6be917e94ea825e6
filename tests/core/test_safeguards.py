"""What a task declares so that its work survives: read, refused, given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.safeguards import CheckpointSpec, OnOom, OnPreemption, ProgressSpec
from sky.core.model.tasks import TaskSpec


def task(**config):
    return TaskSpec.from_config({"run": "true", **config})


def test_everything_is_read_in_the_units_of_people():
    spec = task(
        checkpoint={"path": "~/ck", "every": "10m", "max_size": "1.5TB"},
        progress={"pattern": r"step (\d+)/(\d+)"},
        on_oom={"grow": "2x", "max": "320GB", "gpu": "next"},
        on_preemption={"signal": "SIGUSR1", "grace": "90s", "run": "save"},
    )
    assert spec.checkpoint == CheckpointSpec("~/ck", 600, 1500)
    assert spec.progress == ProgressSpec(r"step (\d+)/(\d+)")
    assert spec.on_oom == OnOom(2, 320, "next")
    assert spec.on_preemption == OnPreemption("USR1", 90, "save")
    assert task(checkpoint="/ck").checkpoint == CheckpointSpec("/ck")
    assert task(progress={"duration": "6h"}).progress == ProgressSpec(duration=21600)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"checkpoint": {"every": "10m"}}, "checkpoint.path"),
        ({"checkpoint": {"path": "ck"}}, "below ~/"),
        ({"checkpoint": {"path": "/a/../b"}}, "checkpoint.path"),
        ({"checkpoint": {"path": "/a", "every": 0}}, "checkpoint.every"),
        ({"checkpoint": {"path": "/a", "max_size": "much"}}, "checkpoint.max_size"),
        ({"checkpoint": {"path": "/a", "evry": 3}}, "did you mean 'every'"),
        ({"progress": {}}, "either 'pattern' or 'duration'"),
        ({"progress": {"pattern": "x", "duration": 3}}, "either 'pattern' or 'duration'"),
        ({"progress": {"pattern": "step"}}, "0 groups"),
        ({"progress": {"pattern": "("}}, "cannot be read"),
        ({"progress": {"pattern": "((a+)+)"}}, "repeats"),
        ({"progress": {"pattern": "(a)" * 300}}, "groups"),
        ({"on_oom": {"max": 3}}, "nothing to grow"),
        ({"on_oom": {"grow": "1x"}}, "above 1"),
        ({"on_oom": {"grow": "2x", "max": "3+"}}, "amount of memory"),
        ({"on_oom": {"gpu": "larger"}}, "next"),
        ({"on_preemption": {"grace": "3s"}}, "nothing to do"),
        ({"on_preemption": {"signal": "KILL"}}, "on_preemption.signal"),
        ({"on_preemption": {"run": "x" * 20000}}, "16384 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(config, words):
    with pytest.raises(InvalidSkyPilotConfigError) as refused:
        task(**config)
    assert words in str(refused.value)


seconds = st.floats(0.001, 1e7).map(lambda number: round(number, 3)).filter(lambda number: number > 0)
sizes = st.one_of(st.none(), st.floats(0.001, 1e5).map(lambda number: round(number, 3)))


@given(st.one_of(st.none(), seconds), sizes, seconds, st.floats(1.001, 100).map(lambda number: round(number, 3)), sizes)
def test_what_is_written_is_read_back(every, size, grace, grow, most):
    spec = TaskSpec(
        run="true",
        checkpoint=CheckpointSpec("/ck", every, size),
        progress=ProgressSpec(duration=grace),
        on_oom=OnOom(grow, most, "next"),
        on_preemption=OnPreemption("INT", grace, None),
    )
    assert TaskSpec.from_config(spec.to_config()) == spec
