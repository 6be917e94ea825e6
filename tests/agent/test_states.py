import itertools

import pytest

from sky.agent import states

PUBLIC = [
    "INIT",
    "PENDING",
    "SETTING_UP",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "FAILED_SETUP",
    "FAILED_DRIVER",
    "CANCELLED",
]


def test_the_table_names_every_status():
    assert list(states.STEPS) == PUBLIC
    assert set(itertools.chain(*states.STEPS.values())) <= set(PUBLIC)


def test_what_ends_never_goes_on():
    assert {status for status, steps in states.STEPS.items() if not steps} == states.TERMINAL


@pytest.mark.parametrize(("before", "after"), list(itertools.product(PUBLIC, PUBLIC)))
def test_every_step_is_permitted_or_refused_with_the_reason(before, after):
    if after in states.STEPS[before]:
        states.check(7, before, after)
    else:
        with pytest.raises(states.ForbiddenStep, match=rf"job 7 cannot go from {before} to {after}; allowed: .+"):
            states.check(7, before, after)


def test_every_job_can_be_cancelled_or_given_up_until_it_ends():
    for status in set(PUBLIC) - states.TERMINAL:
        assert {states.CANCELLED, states.FAILED_DRIVER} <= states.STEPS[status]
