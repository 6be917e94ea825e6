"""What is asked for after a want of memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.model.jobs import FailureCause
from sky.core.model.resources import Resources
from sky.core.model.safeguards import OnOom
from sky.core.policy.oom import MOST_TRIES, Grown, NoMore, after_oom

HOST, DEVICE = FailureCause.OUT_OF_MEMORY, FailureCause.CUDA_OUT_OF_MEMORY


def test_memory_grows_from_what_there_was():
    wish = OnOom(grow=2, max_gb=320)
    first = after_oom(Resources(memory="32+"), wish, HOST, had_gb=64)
    assert isinstance(first, Grown) and first.resources.memory == "128+"
    assert after_oom(Resources(cpus="4", memory="4x"), wish, HOST).resources.memory == "32+"
    assert "64 GB" in first.reason and "128 GB" in first.reason


def test_it_grows_no_further_than_allowed():
    wish = OnOom(grow=4, max_gb=100)
    capped = after_oom(Resources(memory="64"), wish, HOST)
    assert capped.resources.memory == "100+" and "on_oom.max" in capped.reason
    assert isinstance(after_oom(capped.resources, wish, HOST), NoMore)


@pytest.mark.parametrize(
    ("asked", "sold", "wanted"),
    [
        ("L4:1", None, "nvidia:32GB+"),
        ("A100:8", None, "nvidia:48GB+"),
        ("A100:8", ("A100-80GB", "H100"), "nvidia:80GB+"),
        ("80GB+:2", None, "94GB+"),
    ],
)
def test_the_next_device_is_the_one_with_the_next_larger_memory(asked, sold, wanted):
    step = after_oom(Resources(accelerators=asked), OnOom(gpu="next"), DEVICE, sold=sold)
    assert isinstance(step, Grown), step
    request = step.resources.accelerator_request
    assert (request.name, request.count) == (wanted, float(asked.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("asked", "wish", "cause", "words"),
    [
        ({"memory": 8}, None, HOST, "no 'on_oom'"),
        ({"memory": 8}, OnOom(gpu="next"), HOST, "grow"),
        ({}, OnOom(grow=2), HOST, "name 'memory'"),
        ({"infra": "aws", "instance_type": "m5.large"}, OnOom(grow=2), HOST, "m5.large"),
        ({}, OnOom(gpu="next"), DEVICE, "no accelerator"),
        ({"accelerators": "Unheard:1"}, OnOom(gpu="next"), DEVICE, "not known"),
        ({"accelerators": "H100"}, OnOom(grow=2), DEVICE, "gpu: next"),
    ],
)
def test_where_more_would_not_help_it_says_why(asked, wish, cause, words):
    step = after_oom(Resources(**asked), wish, cause)
    assert isinstance(step, NoMore) and words in step.reason


@given(st.floats(1.01, 100), st.floats(1, 4096), st.one_of(st.none(), st.floats(1, 8192)))
def test_it_always_ends(grow, memory, most):
    asked, tries = Resources(memory=f"{memory:.2f}+"), 0
    wish = OnOom(grow=grow, max_gb=most)
    while isinstance(step := after_oom(asked, wish, HOST, tries=tries), Grown):
        assert float(step.resources.memory.rstrip("+")) > float(asked.memory.rstrip("+")) - 1e-3
        assert most is None or float(step.resources.memory.rstrip("+")) <= most + 1e-3
        asked, tries = step.resources, tries + 1
    assert tries <= MOST_TRIES
