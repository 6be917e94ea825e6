"""Waits grow, come apart, and are never shorter than what was asked for."""

import random
from itertools import islice

from sky.kit.backoff import delays, stretched


def test_delays_grow_to_their_ceiling_and_differ_a_little():
    found = list(islice(delays(1.0, 2.0, 5.0, jitter=0.1), 50))
    for told, meant in zip(found, [1.0, 2.0, 4.0] + [5.0] * 47, strict=True):
        assert 0.9 * meant <= told <= 1.1 * meant
    assert len(set(found[3:])) > 1


def test_a_wait_that_was_asked_for_is_not_cut_short_and_not_the_same_for_all():
    found = [stretched(4.0, 0.5) for _ in range(100)]
    assert all(4.0 <= each <= 6.0 for each in found)
    assert len(set(found)) > 50
    assert stretched(4.0, 0.0) == 4.0


def test_a_seed_decides_all_of_it():
    """Simulated worlds seed the module's generator."""
    before = random.getstate()
    try:
        told = []
        for _ in range(2):
            random.seed(7)
            told.append([stretched(1.0), *islice(delays(1.0), 5)])
    finally:
        random.setstate(before)
    assert told[0] == told[1]
