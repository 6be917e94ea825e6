"""How many workers a pool should have, over any course of queue and time."""

from hypothesis import given
from hypothesis import strategies as st

from sky.core.model.services import ReplicaPolicy
from sky.core.policy.pool_scaling import Aim, Load, aimed, next_look

UP, DOWN = 30.0, 60.0


def policy(least=1, most=4, threshold=2):
    return ReplicaPolicy(
        least, most, upscale_delay_seconds=UP, downscale_delay_seconds=DOWN, queue_length_threshold=threshold
    )


def course(aim, loads, rules, step=10.0):
    """What is aimed at after each look."""
    found = []
    for at, load in enumerate(loads):
        aim = aimed(aim, load, rules, at * step)
        found.append(aim.target)
    return found


def test_a_fixed_number_is_that_number():
    assert aimed(Aim(9), Load(100, 0), ReplicaPolicy(3), 0.0) == Aim(3)


def test_one_more_after_the_delay_and_one_more_after_another():
    assert course(Aim(1), [Load(9, 1)] * 8, policy()) == [1, 1, 1, 2, 2, 2, 2, 3]


def test_a_queue_that_goes_away_calls_nobody():
    assert course(Aim(1), [Load(9, 1), Load(9, 1), Load(2, 1), Load(9, 1), Load(9, 1)], policy()) == [1] * 5


def test_what_the_threshold_allows_waits():
    assert course(Aim(1), [Load(2, 1)] * 20, policy()) == [1] * 20


def test_one_fewer_while_something_runs_and_the_least_when_nothing_does():
    assert course(Aim(4), [Load(0, 1)] * 8, policy()) == [4, 4, 4, 4, 4, 4, 3, 3]
    assert course(Aim(4), [Load(0, 0)] * 8, policy()) == [4, 4, 4, 4, 4, 4, 1, 1]


def test_of_none_the_first_comes_at_once():
    assert aimed(Aim(0), Load(1, 0), policy(least=0), 5.0) == Aim(1)


LOADS = st.builds(Load, st.integers(0, 8), st.integers(0, 6))


@given(
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(1, 3),
    st.lists(st.tuples(LOADS, st.floats(0.1, 100)), max_size=60),
)
def test_whatever_comes_it_stays_within_bounds_and_moves_one_step_at_a_time(least, more, threshold, seen):
    rules = policy(least, max(least + more, 1), threshold)
    aim, now = Aim(least), 0.0
    changed: list[tuple[float, int]] = []
    for load, pause in seen:
        now += pause
        before, aim = aim, aimed(aim, load, rules, now)
        assert rules.min_replicas <= aim.target <= rules.max_replicas
        change = aim.target - before.target
        assert change <= 1
        if change > 0:
            assert load.waiting
        if change < 0:
            assert not load.waiting
            assert change == -1 or load.busy == 0
        assert aim.pressed_since is None or aim.idle_since is None
        if change:
            # Hysteresis: between two steps lies the delay of the second, unless nobody could be served at all.
            delay = UP if change > 0 else DOWN
            assert not changed or before.target == 0 or now >= changed[-1][0] + delay
            changed.append((now, change))
        look = next_look(aim, rules)
        if look is not None and aim.target == before.target:
            assert now - max(UP, DOWN) <= look <= now + max(UP, DOWN)


@given(LOADS, st.integers(0, 3), st.integers(0, 4))
def test_when_nothing_changes_it_comes_to_rest(load, least, more):
    rules = policy(least, max(least + more, 1))
    aim, now, looks = Aim(least), 0.0, 0
    while (look := next_look(aim := aimed(aim, load, rules, now), rules)) is not None and looks < 50:
        now, looks = look, looks + 1
    assert looks < 50
    assert aimed(aim, load, rules, now + 1e6).target == aim.target
