"""What is remembered of refusals and successes, and how honest the intervals are."""

import random

import pytest

from sky.core.model.catalog import Market
from sky.core.optimizer import memory as remembered
from sky.core.optimizer.memory import Key, Memory, wilson

HERE = Key("a", "r1", "z1", "p5", Market.SPOT)


def after(outcomes, key=HERE, now=0.0):
    made = Memory()
    for granted in outcomes:
        made = made.remember(key, granted, now, "no capacity")
    return made


def test_nothing_known_is_nothing_said():
    assert Memory().chance(HERE, 0.0) is None
    assert after([True]).chance(HERE._replace(cloud="b"), 0.0) is None
    assert after([True]).within(HERE._replace(cloud="b"), 0.0, 30) is None


def test_refusals_lower_the_chance_and_time_forgets_them():
    refused = after([False] * 4)
    fresh = refused.chance(HERE, 0.0)
    assert fresh.high < 0.5
    later = refused.chance(HERE, 2 * refused.half_life_s)
    assert later.high > fresh.high
    assert later.weight == pytest.approx(fresh.weight / 4)
    assert refused.chance(HERE, 20 * refused.half_life_s) is None


def test_the_region_speaks_for_a_zone_that_was_never_tried():
    made = after([False] * 5)
    neighbour = made.chance(HERE._replace(zone="z2"), 0.0)
    assert neighbour.weight == pytest.approx(remembered.PRIOR_WEIGHT)
    assert neighbour.mean < 0.5
    assert made.chance(HERE._replace(zone="z2", market=Market.ON_DEMAND), 0.0) is None


def test_what_was_seen_here_outweighs_what_was_seen_around():
    made = after([True] * 8)
    for _ in range(20):
        made = made.remember(HERE._replace(zone="z2"), False, 0.0)
    assert made.chance(HERE, 0.0).mean > 0.8


def test_more_tries_within_a_while_are_more_likely():
    made = after([True, False, False])
    now, soon = made.chance(HERE, 0.0), made.within(HERE, 0.0, 120)
    assert now.mean < soon.mean < 1
    assert now.low <= soon.low
    assert soon.high <= 1


def test_the_last_refusal_and_its_words():
    made = after([False]).remember(HERE, True, 50.0)
    assert made.last_refusal(HERE) == (0.0, "no capacity")
    assert made.last_refusal(HERE._replace(zone="z9")) is None


def test_it_is_bounded_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(remembered, "MOST_KEYS", 40)
    made = Memory()
    for number in range(100):
        made = made.remember(Key("a", f"r{number}", None, "m", Market.SPOT), True, float(number))
    assert len(made.records) == 40
    assert made.chance(Key("a", "r99", None, "m", Market.SPOT), 99.0) is not None
    assert Key("a", "r0", None, "m", Market.SPOT) not in made.records


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [5, 20])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(share, count):
    dice = random.Random(3)
    held = 0
    for _ in range(2000):
        yes = sum(dice.random() < share for _ in range(count))
        found = wilson(yes, count - yes)
        held += found.low <= share <= found.high
        assert 0 <= found.low <= found.mean <= found.high <= 1
    assert held / 2000 > 0.84


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("unlike", [0.0, 0.2])
def test_so_does_that_of_a_place_that_was_never_tried(unlike, count):
    """Its neighbours were: zones whose chances differ from that of their region by up to so much."""
    dice = random.Random(1)
    zones = [HERE._replace(zone=f"z{number}") for number in range(3)]
    held = 0
    for _ in range(1500):
        usual = dice.random()
        chances = [min(1.0, max(0.0, usual + dice.uniform(-unlike, unlike))) for _ in zones]
        told = [(zones[at], dice.random() < chances[at], 0.0, "") for at in (1, 2) for _ in range(count)]
        found = Memory.of(told).chance(zones[0], 0.0)
        held += found.low <= chances[0] <= found.high
    assert held / 1500 > 0.9
