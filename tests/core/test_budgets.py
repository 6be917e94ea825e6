"""Budgets: whose money counts, what follows from a share, what is refused, and how a job's own limit is kept."""

import itertools
from datetime import UTC, datetime

import pytest

from sky.core.model.budgets import (
    USUAL,
    Action,
    Budget,
    Period,
    Reservation,
    Rung,
    Scope,
    Spending,
    Standing,
    Whose,
    read_budget,
    read_rung,
)
from sky.core.policy import budgets as policy

ANN = Whose("ann", "team", {"project": "x", "cost": "a"}, "managed:1")
BOB = Whose("bob", "team", {"project": "y"}, "managed:2")
CY = Whose("cy", "default", {}, "c3")


def budget(scope=Scope.ALL, of="", amount=100.0, rungs=USUAL, **more):
    return Budget("b", scope, of, amount, rungs=rungs, **more)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("scope", "of", "counted"),
    [
        (Scope.ALL, "", "ann bob cy"),
        (Scope.USER, "bob", "bob"),
        (Scope.WORKSPACE, "team", "ann bob"),
        (Scope.LABEL, "project=x", "ann"),
        (Scope.LABEL, "cost=a", "ann"),
        (Scope.LABEL, "project=", ""),
        (Scope.LABEL, "none=x", ""),
        (Scope.JOB, "2", "bob"),
    ],
)
def test_whose_money_counts(scope, of, counted):
    one = budget(scope, of, origin="managed:2" if scope is Scope.JOB else "")
    assert " ".join(each.owner for each in (ANN, BOB, CY) if policy.covers(one, each)) == counted


def test_a_job_that_is_not_known_is_nobodys():
    assert not policy.covers(budget(Scope.JOB, "2"), Whose("x", "y", {}, ""))


@pytest.mark.parametrize(
    ("period", "now", "begin", "end"),
    [
        (Period.DAY, "2026-03-31T23:59:59", "2026-03-31", "2026-04-01"),
        (Period.WEEK, "2026-03-01T00:00:00", "2026-02-23", "2026-03-02"),
        (Period.WEEK, "2026-03-02T00:00:00", "2026-03-02", "2026-03-09"),
        (Period.MONTH, "2026-12-31T12:00:00", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        (Period.MONTH, "2026-01-31T00:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_periods_begin_in_utc(period, now, begin, end):
    assert policy.window(budget(period=period), at(now)) == (at(begin), at(end))


def test_a_total_counts_from_when_it_was_set():
    assert policy.window(budget(created_at=12.0), 1e9) == (12.0, None)


def test_a_standing_counts_what_is_covered_and_what_is_left_of_promises():
    spent = [Spending(ANN, 10), Spending(BOB, 5), Spending(CY, 70)]
    promised = [Reservation("1", "r", ANN, 8, 0, spent=3), Reservation("2", "r", BOB, 4, 0, spent=9),
                Reservation("3", "r", CY, 50, 0)]  # fmt: skip
    one = policy.standing(budget(Scope.WORKSPACE, "team"), spent, promised, 0.0)
    assert (one.spent, one.reserved) == (15, 5)


AMOUNTS = (0.0, 49.9, 50.0, 79.99, 80.0, 99.9, 100.0, 130.0, 151.0)
RUNGS = tuple(Rung(share, action) for share, action in zip((0.5, 0.8, 1.0, 1.2, 1.5), Action, strict=True))


@pytest.mark.parametrize("spent", AMOUNTS)
def test_each_action_is_due_from_its_share_on(spent):
    one = Standing(budget(rungs=RUNGS), 0, None, spent, 0)
    assert [each.action for each in policy.due(one)] == [each.action for each in RUNGS if spent >= each.share * 100]
    assert policy.actions([one], ANN) == {each.action for each in RUNGS if spent >= each.share * 100}


def test_actions_are_those_of_all_budgets_that_cover_somebody():
    mine = Standing(budget(Scope.USER, "ann", rungs=(Rung(1.0, Action.STOP_ALL),)), 0, None, 100, 0)
    all_ = Standing(budget(rungs=(Rung(0.1, Action.STOP_IDLE),)), 0, None, 100, 0)
    assert policy.actions([mine, all_], ANN) == {Action.STOP_ALL, Action.STOP_IDLE}
    assert policy.actions([mine, all_], BOB) == {Action.STOP_IDLE}


@pytest.mark.parametrize(
    "actions",
    [each for n in range(1, 4) for each in itertools.combinations(Action, n)],
    ids="+".join,
)
def test_refusals_over_all_ladders_and_amounts(actions):
    """Against the plain rule: what is spent, reserved and asked may not exceed the least share that closes."""
    shares = dict(zip(actions, (0.5, 0.9, 1.2), strict=False))
    one = budget(rungs=tuple(Rung(share, action) for action, share in shares.items()))
    closing = [share for action, share in shares.items() if action in ("refuse_new", "checkpoint_and_stop", "stop_all")]
    for spent, reserved, asked in itertools.product((0, 40, 50, 89, 90, 125), (0, 1, 30), (0.0, 0.5, 9, 60, 200)):
        why = policy.refusal([Standing(one, 0, None, spent, reserved)], [(ANN, asked)])
        most = min(closing, default=None)
        refused = most is not None and (spent >= most * 100 or spent + reserved + asked > most * 100)
        assert (why is not None) == refused, (actions, spent, reserved, asked, why)


def test_a_refusal_names_the_budget_and_all_figures():
    one = budget(Scope.LABEL, "project=x", 100, period=Period.MONTH)
    why = policy.refusal([Standing(one, 0, None, 61.5, 20)], [(ANN, 12.25), (BOB, 900), (ANN, 12.25)])
    assert why == (
        "the budget 'b' (label project=x: $100.00 per month) has $61.50 spent and $20.00 reserved; asked: $24.50"
    )


def test_what_concerns_no_budget_is_not_refused():
    full = Standing(budget(Scope.USER, "ann"), 0, None, 1000, 0)
    assert policy.refusal([full], [(BOB, 10)]) is None
    assert policy.refusal([], [(BOB, 10)]) is None


def test_all_or_none_of_an_array_may_begin():
    one = Standing(budget(amount=10.0), 0, None, 0, 0)
    assert policy.refusal([one], [(ANN, 1.0)] * 10) is None
    assert policy.refusal([one], [(ANN, 1.0)] * 11) is not None


@pytest.mark.parametrize(
    ("config", "usd"),
    [
        ({}, 3.0),
        ({"max_run_time": 7200}, 6.0),
        ({"max_cost": 2}, 2.0),
        ({"max_cost": 2, "max_run_time": 600}, 0.5),
        ({"max_cost": 2, "max_run_time": 36000}, 2.0),
        ({"work": 3600 * 4}, 12.0),
        ({"max_cost": True}, 3.0),
    ],
)
def test_what_is_reserved(config, usd):
    assert policy.estimate(config, 3.0) == usd


def task(**recovery):
    return {"resources": {"job_recovery": recovery}}


def test_the_least_limit_of_a_job_counts():
    assert policy.max_cost({"0": task(max_cost=5), "1": task(max_cost=3), "2": task()}) == 3
    assert policy.max_cost({"0": {"resources": {"any_of": [{"job_recovery": {"max_cost": 4}}]}}}) == 4
    assert policy.max_cost({"0": {}, "1": {"resources": 3}}) is None


@pytest.mark.parametrize(("spent", "price", "told"), [(0, 1, False), (9.9, 0, False), (9.5, 36, True), (10, 0, True)])
def test_a_job_is_told_before_its_money_is_spent(spent, price, told):
    assert policy.reaches(spent, price, 10.0, 60.0) is told


def test_spot_comes_before_the_limit_and_only_where_it_is_wanted():
    wants = {"0": task(max_cost=10, on_max_cost="spot")}
    assert [policy.downgrades(wants, spent) for spent in (7.9, 8.0, 12)] == [False, True, True]
    assert not policy.downgrades({"0": task(max_cost=10, on_max_cost="stop")}, 9)
    assert not policy.downgrades({"0": task(on_max_cost="spot")}, 9)


@pytest.mark.parametrize(
    ("said", "rung"),
    [("80% notify", (0.8, "notify")), ("100%:refuse_new", (1.0, "refuse_new")), ("stop_all", (1.0, "stop_all")),
     (" 12.5 % STOP_IDLE ", (0.125, "stop_idle"))],
)  # fmt: skip
def test_actions_as_people_write_them(said, rung):
    assert read_rung(said) == rung


@pytest.mark.parametrize("said", ["0% notify", "1001% notify", "80% nothing", "", "80 notify", "-5% notify"])
def test_actions_that_mean_nothing(said):
    with pytest.raises(ValueError, match="actions: found"):
        read_rung(said)


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "a b"}, {"name": ""}, {"scope": "team"}, {"scope": "user", "of": ""}, {"scope": "all", "of": "x"},
        {"amount": 0}, {"amount": float("nan")}, {"amount": float("inf")}, {"period": "year"},
        {"scope": "label", "of": "=x"}, {"scope": "job", "of": "one"}, {"scope": "user", "of": "x" * 300},
    ],
)  # fmt: skip
def test_budgets_that_make_no_sense(bad):
    good = {
        "name": "b",
        "scope": "all",
        "of": "",
        "amount": 5.0,
        "period": "day",
        "actions": [],
        "made_by": "",
        "now": 0,
    }
    assert read_budget(**good).rungs == USUAL
    with pytest.raises(ValueError, match=r"found|scope"):
        read_budget(**{**good, **bad})
