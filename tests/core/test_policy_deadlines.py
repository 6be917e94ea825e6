"""Deadline policies as functions: the even pace, the hysteresis, the net, what is learnt of zones, at any cadence."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sky.core.policy.catalogue import DEFAULT, POLICIES
from sky.core.policy.deadlines import (
    BEHIND,
    CATCH_UP,
    EMPTY,
    HOUR,
    NET,
    STAY,
    WAIT,
    Observation,
    Offer,
    back,
    greedy,
    net,
    on_demand,
    slack,
    uniform_progress,
    uniform_progress_away,
)
from sky.core.policy.spot_regions import (
    DEAR,
    FADE,
    MOVE,
    adaptive,
    hazards,
    price_of_progress,
    tiered,
    watched,
)

OD = Offer("a1", "a", False, 3.0, 720.0)
OD_B = Offer("b1", "b", False, 3.1, 720.0)
SPOT = Offer("a1", "a", True, 1.0, 720.0)
SPOT_B = Offer("b1", "b", True, 0.8, 720.0)
DEAR_B = Offer("b1", "b", True, 2.4, 720.0)


def seen(hours=0.0, left=48.0, spot=(), running=None, deadline=60.0, **more):
    """48 hours of work in 60, a restart of 0.2 hours, asked every ten minutes."""
    more = {"work": 48 * HOUR, "overhead": 720.0, "on_demand": (OD, OD_B), "grain": 600.0, "region": "a", **more}
    return Observation(
        now=hours * HOUR,
        began=0.0,
        deadline=deadline * HOUR,
        left=left * HOUR,
        spot=tuple(spot),
        running=running,
        **more,
    )


def decide(policy, observed, memory=EMPTY):
    return policy(observed, memory)[0]


def test_the_default_is_one_of_the_policies():
    assert DEFAULT in POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_what_runs_on_demand_and_cannot_be_left_goes_on(name):
    observed = seen(11.9, 48.0, [SPOT], OD)
    assert decide(POLICIES[name][0], observed).offer == OD


def test_greedy_takes_spot_waits_without_and_gives_up_at_the_net():
    assert decide(greedy, seen(1, 48, [SPOT_B, SPOT])).offer == SPOT_B
    waits = decide(greedy, seen(1, 48))
    assert (waits.offer, waits.reason) == (None, WAIT)
    # The net is at 60 - 48 - 0.2 hours, and one more look must fit before it.
    assert waits.review == pytest.approx(11.8 * HOUR - 600)
    assert decide(greedy, seen(11.5, 48)).offer is None
    assert decide(greedy, seen(11.7, 48)).offer == OD
    assert decide(greedy, seen(11.5, 48, [SPOT])).offer == SPOT
    # Spot could be lost while it starts, and on-demand would be late then.
    assert decide(greedy, seen(11.7, 48, [SPOT])).offer == OD


def test_on_demand_is_taken_where_it_costs_least_to_the_end():
    assert decide(on_demand, seen()).offer == OD
    far = OD_B._replace(price=2.9, entry=100.0)
    assert decide(on_demand, seen(on_demand=(far, OD))).offer == OD
    assert decide(on_demand, seen(on_demand=(far._replace(entry=1.0), OD))).offer.zone == "b1"


def test_uniform_progress_keeps_the_pace():
    ahead, behind = seen(10, 39.9), seen(10, 40.1)
    waits = decide(uniform_progress, ahead)
    assert waits.offer is None
    # 8.1 hours are done, which the even pace of 0.8 reaches after 10.125.
    assert waits.review == pytest.approx(10.125 * HOUR)
    assert (decide(uniform_progress, behind).offer, decide(uniform_progress, behind).reason) == (OD, BEHIND)
    assert decide(uniform_progress, seen(10, 40.1, [SPOT])).offer == SPOT


def test_uniform_progress_leaves_on_demand_for_spot_only_and_two_restarts_ahead():
    barely, ahead = 40 - 0.8 * 0.4 + 0.01, 40 - 0.8 * 0.4 - 0.01
    kept = decide(uniform_progress, seen(10, barely, [SPOT], OD))
    assert (kept.offer, kept.reason) == (OD, CATCH_UP)
    assert kept.review == pytest.approx(10 * HOUR + 0.01 * HOUR / 0.2)
    assert decide(uniform_progress, seen(10, ahead, [SPOT], OD)).offer == SPOT
    assert decide(uniform_progress, seen(10, 30, (), OD)).offer == OD


def test_uniform_progress_stays_on_spot_and_the_away_form_tries_the_last_region_last():
    assert decide(uniform_progress, seen(10, 30, [SPOT_B, SPOT], SPOT)).reason == STAY
    assert decide(uniform_progress_away, seen(10, 30, [SPOT, SPOT_B._replace(price=1.2)])).offer.region == "b"


def test_work_on_spot_goes_on_when_nothing_else_ends_in_time():
    assert decide(greedy, seen(12.1, 48, [SPOT], SPOT)).offer == SPOT
    assert decide(greedy, seen(12.1, 48, [SPOT], SPOT, lag=600.0)).offer == SPOT


def test_unsaved_work_makes_the_net_come_sooner():
    assert decide(greedy, seen(11.7, 48, [SPOT], SPOT)).offer == SPOT
    left = decide(greedy, seen(11.7, 48, [SPOT], SPOT, lag=1800.0))
    assert (left.offer, left.reason) == (OD, NET)


def test_tiers_take_dear_spot_for_on_demand_and_move_where_it_pays():
    assert decide(tiered, seen(10, 39.9, [DEAR_B])).offer is None
    dear = decide(tiered, seen(10, 40.1, [DEAR_B]))
    assert (dear.offer, dear.reason) == (DEAR_B, DEAR)
    cheap = SPOT_B._replace(price=0.2)
    assert decide(tiered, seen(10, 30, [cheap, SPOT], SPOT)).reason == MOVE
    assert decide(tiered, seen(10, 30, [SPOT_B, SPOT], SPOT._replace(price=0.81))).reason == STAY


def test_progress_costs_more_where_machines_do_not_last():
    lasting = price_of_progress(SPOT, 1 / (100 * HOUR), 720, 0, 0, 48 * HOUR)
    short = price_of_progress(SPOT, 1 / (0.5 * HOUR), 720, 0, 0, 48 * HOUR)
    assert 1.0 < lasting < 1.01
    assert short == pytest.approx(math.exp(0.2 / 0.5), rel=1e-6)
    assert price_of_progress(SPOT, 1 / (0.5 * HOUR), 720, 0, 3.0, 48 * HOUR) > short
    assert price_of_progress(SPOT, 1 / (100 * HOUR), 720, 1.0, 0, 1 * HOUR) > lasting + 1.0
    assert math.isfinite(price_of_progress(SPOT, 1.0, 1e9, 0, 0, 0.0))


def flapping(until, step):
    """What is learnt of a zone that comes and goes each half hour beside one that stays."""
    memory, now = EMPTY, 0.0
    while now <= until:
        offers = [SPOT, SPOT_B] if int(now // 1800) % 2 == 0 else [SPOT]
        observed = seen(now / HOUR, spot=offers)
        memory = watched(observed, memory)
        now += step
    return hazards(seen(until / HOUR, spot=[SPOT, SPOT_B]), memory)


def test_a_zone_that_flaps_is_believed_to_last_less_and_looking_more_often_changes_nothing():
    rates = flapping(6 * HOUR, 1800)
    assert rates["b1"] > 5 * rates["a1"]
    for step in (60, 600):
        again = flapping(6 * HOUR, step)
        assert again == pytest.approx(rates, rel=1e-6)


def test_what_was_seen_fades():
    memory = EMPTY
    for place in range(9):
        memory = watched(seen(place, spot=[SPOT] if place % 2 == 0 else []), memory)
    soon = hazards(seen(8), memory)["a1"]
    late = hazards(seen(8 + 10 * FADE / HOUR, deadline=1000.0), memory)["a1"]
    assert late < soon
    assert watched(seen(9, spot=[SPOT]), memory) is memory


def test_our_default_prefers_what_lasts_to_what_is_a_little_cheaper():
    memory = EMPTY
    for place in range(13):
        offers = [SPOT_B, SPOT] if place % 2 == 0 else [SPOT]
        memory = watched(seen(place / 2, spot=offers), memory)
    assert decide(adaptive, seen(6, 44, [SPOT_B, SPOT]), memory).offer == SPOT
    assert decide(adaptive, seen(6, 44, [SPOT_B, SPOT])).offer == SPOT_B


def test_our_default_waits_while_there_is_much_time_and_buys_when_there_is_not():
    assert decide(adaptive, seen(10, 40, deadline=120.0)).offer is None
    assert decide(adaptive, seen(10, 40, [DEAR_B], deadline=120.0)).offer is None
    behind = decide(adaptive, seen(10, 40.1))
    assert (behind.offer, behind.reason) == (OD, BEHIND)
    assert decide(adaptive, seen(10, 40.1, [DEAR_B])).reason == DEAR


offers = st.builds(
    Offer,
    zone=st.sampled_from(["a1", "a2", "b1"]),
    region=st.sampled_from(["a", "b"]),
    spot=st.just(True),
    price=st.floats(0.01, 100),
    start=st.floats(0, 7200),
    entry=st.floats(0, 5),
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(POLICIES)),
    spot=st.lists(offers, max_size=3, unique_by=lambda offer: offer.zone),
    left=st.floats(0.01, 60),
    spare=st.floats(-2, 10),
    warming=st.floats(0, 3600),
    grain=st.floats(0, 3600),
    lag=st.floats(0, 3600),
    runs=st.sampled_from(["nothing", "spot", "on-demand"]),
)
def test_whoever_can_end_in_time_still_can_after_any_decision(name, spot, left, spare, warming, grain, lag, runs):
    spot = sorted(spot, key=lambda offer: offer.price)
    running = {"nothing": None, "spot": spot[0] if spot else None, "on-demand": OD}[runs]
    hours = 60 - left - spare
    observed = seen(hours, left, spot, running, warming=warming if running else 0.0, grain=grain, lag=lag)
    decision = decide(POLICIES[name][0], observed)
    offer = decision.offer
    room = slack(observed)
    assert offer is None or offer in (*spot, OD, OD_B) or offer == running
    if running == OD or room < OD.start:
        return
    # Nothing runs on on-demand, and on-demand would end in time if it began now.
    if offer is None:
        assert room - grain >= OD.start - 1
    elif not offer.spot:
        assert offer.start <= room + 1
    elif offer != running:
        assert room >= offer.start + lag + back(observed, offer.region) - 1
    elif not observed.warming:
        assert room >= OD.start - 1


def test_the_net_lets_pass_what_is_safe():
    wanted = decide(greedy, seen(1, 48, [SPOT]))
    assert net(seen(1, 48, [SPOT]), wanted) is wanted
