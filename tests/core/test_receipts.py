"""Receipts add up the ledger; FOCUS rows lie in their months and add up to the same."""

import itertools
import json

import pytest

from sky.core.model.catalog import Market
from sky.core.model.ledger import Billed, Entry
from sky.core.model.offers import Offer, Placement
from sky.core.policy import focus
from sky.core.policy.receipts import Run, receipt, remembered, second_best


def line(resource, began, ended, price=3.6, **more):
    given = dict(kind=Billed.MACHINE, mark="m", cluster_id="c1", cluster_name="one", owner="u", workspace="w",
                 cloud="aws", region="r1", zone="r1-a", instance_type="big", market=Market.SPOT)  # fmt: skip
    return Entry(**{**given, **more}, resource=resource, price_hourly=price, began=began, ended=ended)


def placed(region, price, **more):
    return Placement(Offer("aws", region, None, "big", 1, 1, price, **more), 2, 1, 1)


def test_a_receipt_of_a_job_that_was_lost_once():
    lines = [
        line("i1", 0, 1000), line("i2", 2, 1000), line("disk", 0, 1000, 0.36, kind=Billed.DISK),
        line("i3", 1100, 3100, 7.2, cluster_id="c2", cluster_name="two", market=Market.ON_DEMAND),
    ]  # fmt: skip
    runs = [Run("c1", 200, 950, 0), Run("c2", 1300, 3000, 0)]
    made = receipt(lines, runs, placed("r9", 1.8), 9999)
    assert made.total == sum(each.cost(9999) for each in lines)
    assert made.machines + made.other == pytest.approx(made.total) and made.other == pytest.approx(0.1)
    first, second = made.intervals
    assert (first.nodes, first.began, first.ended, first.ran, first.spot, first.place) == (
        2,
        0,
        1000,
        750,
        True,
        "aws/r1/r1-a",
    )
    assert (second.nodes, second.cost, second.ran, second.spot) == (1, 4.0, 1700, False)
    (lost,) = made.recoveries
    # From 950 to 1300: two machines (and a disk) for 50 s, then one for 200 s.
    assert (lost.at, lost.seconds) == (950, 350)
    assert lost.cost == pytest.approx(50 / 3600 * (3.6 * 2 + 0.36) + 200 / 3600 * 7.2)
    assert (made.held, made.ran) == (3000, 2450)
    assert made.idle_cost == pytest.approx(first.cost * 0.25 + 4.0 * 0.15)
    assert made.idle_share == pytest.approx(made.idle_cost / made.machines)
    assert made.transfer is None, "bytes that leave AWS cost money that nobody counted"
    assert made.second_best is not None and made.second_best.cost == pytest.approx(3000 / 3600 * 1.8 * 2)
    assert not made.open


def test_what_is_not_on_record_is_not_made_up():
    made = receipt([line("i1", 0, None)], None, None, 3600)
    assert (made.total, made.ran, made.idle_share, made.idle_cost, made.second_best) == (3.6, None, None, None, None)
    assert made.open and made.recoveries == ()


def test_own_machines_cost_nothing_and_are_idle_by_time():
    made = receipt([line("n1", 0, 100, 0.0, cloud="local", region="local", zone=None)], [Run("c1", 50, 100)], None, 100)
    assert (made.total, made.idle_share, made.transfer) == (0.0, 0.5, 0.0)
    assert made.intervals[0].place == "local"


def test_jobs_side_by_side_count_once_and_are_no_recoveries():
    made = receipt([line("i1", 0, 100)], [Run("c1", 10, 60), Run("c1", 20, 80), Run("c1", 90, None)], None, 100)
    assert (made.ran, made.recoveries) == (80, ())


def test_tasks_one_after_another_are_no_recoveries():
    runs = [Run("c1", 0, 10, 0), Run("c1", 20, 30, 1), Run("c1", 40, 50, 1)]
    assert [each.at for each in receipt([line("i1", 0, 60)], runs, None, 60).recoveries] == [30]


def test_a_machine_that_stopped_and_came_back_has_two_intervals():
    made = receipt([line("i1", 0, 100), line("i1", 500, 600)], [], None, 600)
    assert [(each.began, each.ended) for each in made.intervals] == [(0, 100), (500, 600)]


def test_nothing_costs_nothing():
    made = receipt([], [], None, 5)
    assert (made.total, made.held, made.idle_share, made.intervals) == (0, 0, 0.0, ())


def test_the_second_best_is_the_best_that_was_not_used():
    plan = [placed("r1", 1.0, use_spot=True), placed("r1", 2.0), placed("r2", 3.0), placed("r3", 4.0)]
    kept = remembered([plan[0], plan[0], *plan])
    assert [each.offer.price_hourly for each in kept] == [1.0, 2.0, 3.0]
    assert second_best(kept, [line("i", 0, 1)]) is plan[1]
    assert second_best(kept, [line("i", 0, 1, market=Market.ON_DEMAND, region="r1")]) is plan[0]
    assert second_best(kept[:1], [line("i", 0, 1)]) is None


# --- FOCUS -----------------------------------------------------------------------------------------------------------

NOV, DEC, JAN = 1793491200.0, 1796083200.0, 1798761600.0


def told(began, ended, **more):
    return {"kind": "machine", "resource": "i1", "cluster": "one", "cluster_hash": "c1", "user": "u", "workspace": "w",
            "cloud": "aws", "region": "r1", "zone": "r1-a", "instance_type": "big", "market": "spot",
            "price_hourly": 3.6, "began": began, "ended": ended, "labels": '{"team":"x"}', "origin": "managed:1",
            **more}  # fmt: skip


def test_a_line_over_two_new_years_moments_is_a_row_a_month():
    rows = focus.rows([told(DEC - 3600, JAN + 7200)], JAN + 9e9)
    assert [row["BillingPeriodStart"] for row in rows] == [
        "2026-11-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"
    ]  # fmt: skip
    for before, after in itertools.pairwise(rows):
        assert before["ChargePeriodEnd"] == after["ChargePeriodStart"] == before["BillingPeriodEnd"]
    assert sum(row["BilledCost"] for row in rows) == pytest.approx((JAN - DEC + 3 * 3600) / 3600 * 3.6, abs=1e-9)


def test_a_row_has_every_column_and_says_what_it_is():
    (row,) = focus.rows([told(NOV, None)], NOV + 1800)
    assert tuple(row) == focus.COLUMNS and len(focus.COLUMNS) == 43
    assert {key: row[key] for key in ("BilledCost", "PricingQuantity", "PricingUnit", "PricingCategory", "RegionId",
                                      "ServiceCategory", "ChargeCategory", "ProviderName", "ResourceType")} == {
        "BilledCost": 1.8, "PricingQuantity": 0.5, "PricingUnit": "Hours", "PricingCategory": "Dynamic",
        "RegionId": "r1", "ServiceCategory": "Compute", "ChargeCategory": "Usage", "ProviderName": "AWS",
        "ResourceType": "Virtual Machine",
    }  # fmt: skip
    assert json.loads(row["Tags"]) == {"team": "x", "sky:user": "u", "sky:cluster": "c1", "sky:for": "managed:1"}


def test_a_line_that_ended_at_once_is_one_row_of_nothing():
    (row,) = focus.rows([told(NOV, NOV)], NOV + 5)
    assert (row["BilledCost"], row["ChargePeriodStart"]) == (0.0, row["ChargePeriodEnd"])
    assert focus.rows([told(DEC, DEC)], DEC)[0]["BillingPeriodStart"] == "2026-12-01T00:00:00.000Z"
