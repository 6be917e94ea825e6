"""What a job with a deadline tells its policy: its terms, what is done and saved, where spot is believed to be."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sky.core.policy import pacing
from sky.core.policy.catalogue import POLICIES
from sky.core.policy.deadlines import HOUR, Memory, Zone, back, slack
from sky.core.policy.pacing import Facts, Pace, Rate, Terms

SAID = {"strategy": "DEADLINE", "deadline": 20 * HOUR, "work": 12 * HOUR}
TERMS = Terms(0.0, 20 * HOUR, 12 * HOUR, 720.0, "greedy", checkpoints=True)
SPOT = Rate("aws/r/a", "aws/r", True, 1.0)
FAR = Rate("aws/q/a", "aws/q", True, 0.8)
FIXED = Rate("aws/r/a", "aws/r", False, 3.0)


def never(zone: str) -> None:
    return None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, None),
        ({"work": 19.8 * HOUR}, None),
        ({"work": 19.9 * HOUR}, "Give it more time"),
        ({"restart_overhead": 9 * HOUR}, "Give it more time"),
        ({"deadline": None}, "job_recovery.deadline: not given"),
        ({"work": 0}, "job_recovery.work: not given"),
        ({"policy": "luck"}, "adaptive, tiered"),
        ({"on_max_cost": "spot"}, "the policy chooses the market"),
        ({"on_max_cost": "stop"}, None),
    ],
)
def test_what_cannot_be_is_told(said, words):
    found = pacing.problem({**SAID, **said})
    assert (found is None) if words is None else (words in found)


def test_terms_are_read_off_the_task():
    task = {"checkpoint": {"path": "~/c", "max_size": "40GB"}, "on_preemption": {"signal": "TERM", "grace": "90s"}}
    read = pacing.terms({**SAID, "restart_overhead": 600.0, "policy": "tiered"}, task, 50.0)
    assert read == Terms(50.0, 50 + 20 * HOUR, 12 * HOUR, 600.0, "tiered", 40.0, True, 90.0)
    bare = pacing.terms(SAID, {}, 0.0)
    assert (bare.policy, bare.restart, bare.checkpoints, bare.notice) == ("adaptive", pacing.RESTART_S, False, 0.0)


def test_what_is_kept_is_read_back_and_another_form_is_begun_anew():
    pace = Pace(2, Memory(5.0, (Zone("z", True, 1.0, 2.0),)), (pacing.Belief("z", 2, 9.0),), "z", True, "r", 1.5, 3.0,
                1.0, 2.0, 3.0, 4.0, 5.0, "why", "c", "z2", "h", 7)  # fmt: skip
    kept = pacing.dump(pace)
    assert pacing.load(kept, 2) == pace
    assert pacing.load(kept, 3) == Pace(3)
    assert pacing.load({**kept, "version": 99}, 2) == Pace(2)
    assert pacing.load({}, 0) == Pace()


@pytest.mark.parametrize(
    ("checkpoints", "facts", "done", "saved"),
    [
        # The time that it has run, none of it saved.
        (True, Facts(1000.0), 5000.0, 1000.0),
        (False, Facts(1000.0), 5000.0, 1000.0),
        # The checkpoint of 1,000 s ago saves what was done by then.
        (True, Facts(1000.0, checkpoint_at=4000.0), 5000.0, 4000.0),
        # One from before this attempt says nothing new.
        (True, Facts(1000.0, checkpoint_at=900.0), 5000.0, 1000.0),
        # Its own word counts; where it writes no checkpoints, as what is saved, too.
        (True, Facts(1000.0, 0.25, 4500.0, 4000.0), 10800.0, 10300.0),
        (False, Facts(1000.0, 0.25, 4500.0), 10800.0, 10800.0),
        # Less than was believed: it knows better.
        (True, Facts(1000.0, 0.01, 4500.0), 432.0, 432.0),
        (True, Facts(), 1000.0, 1000.0),
    ],
)
def test_what_is_done_and_saved(checkpoints, facts, done, saved):
    terms = Terms(0.0, 20 * HOUR, 12 * HOUR, checkpoints=checkpoints)
    noted = pacing.noted(Pace(saved=1000.0, base=1000.0, done=1000.0), terms, facts, 5000.0)
    assert (noted.done, noted.saved) == (pytest.approx(done), pytest.approx(saved))


def test_it_is_never_done_before_it_is():
    assert pacing.noted(Pace(), TERMS, Facts(0.0), 99 * HOUR).done < TERMS.work


def test_a_zone_that_refused_rests_twice_as_long_each_time():
    pace = Pace(asked="z", spot=True)
    rests = []
    for _ in range(8):
        pace = pacing.failed(pace, TERMS, 0.0)
        (belief,) = pace.beliefs
        rests.append(belief.until)
        assert pace.asked == ""
        pace = pacing.works(pace) if not rests else Pace(beliefs=pace.beliefs, asked="z", spot=True)
    assert rests[:5] == [720.0, 1440.0, 2880.0, 5760.0, 11520.0]
    assert rests[5:] == [11520.0] * 3, "bounded"
    assert pacing.works(pace).beliefs == (), "once it ran there, it is forgiven"
    on_demand = pacing.failed(Pace(asked="z"), TERMS, 0.0)
    assert on_demand.beliefs == ()


@pytest.mark.parametrize(
    ("until", "refused", "believed"),
    [(None, None, True), (99.0, None, True), (101.0, None, False), (None, 50.0, False), (None, -700.0, True)],
)
def test_spot_is_believed_to_be_where_nobody_was_refused_of_late(until, refused, believed):
    pace = Pace(beliefs=() if until is None else (pacing.Belief("z", 1, until),))
    assert pacing.has_spot(pace, TERMS, "z", 100.0, refused) is believed


def test_the_policy_is_shown_what_a_move_costs():
    pace = Pace(asked="aws/r/a", region="aws/r", done=3600.0, saved=3000.0, asked_at=0.0)
    terms = Terms(0.0, 20 * HOUR, 12 * HOUR, 720.0, "greedy", 100.0, True, 30.0)
    seen = pacing.observation(terms, pace, [SPOT, FAR, FIXED], 5000.0, never, works=True)
    assert seen.running is not None and not seen.running.spot
    far, near = seen.spot
    leaving = 30.0 + terms.clearing + 600.0
    assert (near.start, near.entry) == (720.0 + leaving, 0.0)
    assert (far.start, far.entry) == (720.0 + leaving + 1600.0, 2.0)
    assert seen.lag == terms.grain + terms.clearing + 30.0 + 600.0
    assert seen.left == 11 * HOUR
    coming = pacing.observation(terms, pace, [FIXED], 300.0, never, works=False)
    assert coming.warming == 420.0


def test_what_nobody_offers_any_more_still_runs():
    pace = Pace(asked="gone/r/z", spot=True, region="gone/r", price=0.5)
    seen = pacing.observation(TERMS, pace, [FIXED], 100.0, never, works=True)
    assert seen.running == seen.spot[0]
    verdict, _ = pacing.decide(TERMS, pace, seen)
    assert not verdict.moves


def test_without_on_demand_the_spot_that_there_is_is_taken_when_it_is_late():
    late = Terms(0.0, 12 * HOUR, 12 * HOUR, 720.0, "greedy")
    verdict, pace = pacing.decide(late, Pace(), pacing.observation(late, Pace(), [SPOT], HOUR, never, works=False))
    assert (verdict.offer.zone, pace.asked, pace.spot) == ("aws/r/a", "aws/r/a", True)


def test_a_decision_is_told_with_its_reason_and_what_it_costs():
    seen = pacing.observation(TERMS, Pace(), [SPOT, FIXED], HOUR, never, works=False)
    verdict, _ = pacing.decide(TERMS, Pace(), seen)
    assert pacing.told(verdict, TERMS, 1.234, HOUR) == (
        "spot in aws/r/a: spot is to be had; $1.23 so far, 12 h of work left, 19 h to the deadline"
    )


def test_what_was_asked_for_is_adopted_by_the_next_attempt():
    offer = pacing.observation(TERMS, Pace(), [SPOT], 0.0, never, works=False).spot[0]
    asked = pacing.probing(Pace(asked="x"), offer, "cluster", 10.0)
    assert pacing.awaited(pacing.dump(asked), 0, 1) == {"cluster"}
    assert pacing.awaited(pacing.dump(asked), 1, 1) == frozenset(), "what the task before had asked for"
    assert pacing.beside(pacing.dump(asked), 1) == {"cluster"}
    assert not pacing.overdue(asked, TERMS, 1000.0) and pacing.overdue(asked, TERMS, 2000.0)
    taken = pacing.dump(pacing.adopting(asked, 2))
    assert (pacing.adopted(taken, 2), pacing.adopted(taken, 3)) == ("cluster", None)
    assert (pacing.awaited(taken, 0, 1), pacing.awaited(taken, 0, 2)) == ({"cluster"}, frozenset())
    refused = pacing.unprobed(asked, TERMS, 10.0, refused=True)
    assert (refused.probe, refused.beliefs) == ("", (pacing.Belief("aws/r/a", 1, 730.0),))
    assert pacing.unprobed(asked, TERMS, 10.0, refused=False).beliefs == ()


@settings(max_examples=300, deadline=None)
@given(
    policy=st.sampled_from(sorted(POLICIES)),
    now=st.floats(0, 7 * HOUR),
    done=st.floats(0, 11 * HOUR),
    unsaved=st.floats(0, HOUR),
    up=st.booleans(),
    running=st.sampled_from(["", "spot", "fixed"]),
    notice=st.sampled_from([0.0, 120.0]),
)
def test_who_could_end_in_time_on_demand_can_at_the_next_question(policy, now, done, unsaved, up, running, notice):
    """The net, with what a move and a loss really cost: whatever spot does until the policy is asked again."""
    terms = Terms(0.0, 20 * HOUR, 12 * HOUR, 720.0, policy, 0.0, True, notice)
    saved = max(0.0, done - unsaved)
    pace = Pace(done=done, saved=saved, base=saved, asked=SPOT.zone if running else "", spot=running == "spot",
                region="aws/r" if running else "", price=1.0)  # fmt: skip
    rates = [FIXED, SPOT] if up or running == "spot" else [FIXED]
    seen = pacing.observation(terms, pace, rates, now, never, works=bool(running))
    haven = min(seen.on_demand, key=lambda offer: offer.start)
    if (haven.start if running != "fixed" else 0.0) > slack(seen):
        return
    verdict, after = pacing.decide(terms, pace, seen)
    wait = verdict.review - now
    assert wait > 0 and math.isfinite(wait)
    if verdict.offer is None:
        assert terms.deadline - verdict.review >= seen.left + terms.restart - 1.0
    elif verdict.offer.spot and not verdict.moves:
        # Lost right before the next question: what was not saved until then is done again.
        loss = (done - saved) + wait + terms.grain + terms.clearing
        assert terms.deadline - verdict.review >= (terms.work - done - wait) + loss + back(seen, "aws/r") - 1.0 or (
            wait <= terms.grain + 1e-6
        )
    assert after.reason == verdict.reason
