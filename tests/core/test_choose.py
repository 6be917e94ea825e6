"""Which offers fit, in which order, and why not the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.model.offers import Offer
from sky.core.model.resources import Resources
from sky.core.optimizer.choose import misfit, plan

CHEAP = Offer("a", "r1", "z1", "small", 2, 8, 0.1)
BIG = Offer("a", "r2", None, "big", 64, 256, 3.0, {"H100": 8})
SPOT = Offer("b", "r1", None, "spotty", 8, 32, 0.2, use_spot=True)
SHARED = Offer("here", "here", None, "host", 4, 16, 0.0, {"L4": 2}, shared=True)


@pytest.mark.parametrize(
    ("asked", "offer", "reason"),
    [
        ({}, CHEAP, None),
        ({"infra": "aws"}, CHEAP, "asked for cloud aws, this is a"),
        ({"cpus": "4+"}, CHEAP, "asked for 4+ vCPUs, it has 2"),
        ({"cpus": 2}, CHEAP, None),
        ({"memory": "16+"}, CHEAP, "asked for 16+ GB of memory, it has 8"),
        ({"memory": "4x"}, CHEAP, None),
        ({"accelerators": "H100:8"}, BIG, None),
        ({"accelerators": "h100:4"}, BIG, None),
        ({"accelerators": "H100:16"}, BIG, "asked for H100:16, it has H100:8"),
        ({"accelerators": "A100"}, CHEAP, "asked for A100:1, it has no accelerator"),
        ({"accelerators": "80GB+"}, BIG, "asked for accelerators by memory (80GB+:1), which needs the catalog"),
        ({"use_spot": True}, BIG, "asked for spot, which is not sold here"),
        ({"use_spot": True}, SPOT, None),
        ({"max_hourly_cost": 1.0}, BIG, "costs $3.00 per hour, above the limit of $1.00"),
        ({"instance_type": "big"}, CHEAP, "asked for instance type big"),
    ],
)
def test_misfit_names_what_is_wrong(asked, offer, reason):
    assert misfit(Resources(**asked), offer) == reason


def test_cheapest_first_and_every_other_has_a_reason():
    made = plan([Resources(cpus="4+")], False, 2, [BIG, CHEAP, SPOT])
    assert [each.offer.instance_type for each in made.placements] == ["spotty", "big"]
    assert [(each.instance_type, each.reason) for each in made.rejections] == [
        ("small", "asked for 4+ vCPUs, it has 2")
    ]


def test_the_users_order_beats_the_price():
    asked = [Resources(accelerators="H100:8"), Resources(cpus=2)]
    made = plan(asked, True, 1, [CHEAP, BIG])
    assert [each.offer.instance_type for each in made.placements] == ["big", "small"]


def test_price_counts_all_nodes():
    assert plan([Resources()], False, 3, [CHEAP]).placements[0].price_hourly == pytest.approx(0.3)


def test_a_shared_machine_lends_what_was_asked():
    made = plan([Resources(cpus=2, accelerators="L4:0.5")], False, 1, [SHARED]).placements[0]
    assert (made.cpus, made.accelerators) == (2.0, {"L4": 1.0})


def test_a_machine_of_our_own_lends_all_it_has():
    assert plan([Resources(cpus=2)], False, 1, [BIG]).placements[0].cpus == 64


@given(st.lists(st.sampled_from([CHEAP, BIG, SPOT, SHARED]), unique_by=lambda offer: offer.instance_type))
def test_every_offer_is_placed_or_rejected(offers):
    made = plan([Resources(cpus="3+")], False, 1, offers)
    placed = [each.offer.instance_type for each in made.placements]
    rejected = [each.instance_type for each in made.rejections]
    assert sorted(placed + rejected) == sorted(offer.instance_type for offer in offers)
    prices = [each.price_hourly for each in made.placements]
    assert prices == sorted(prices)


def test_a_shared_machine_lends_no_accelerator_that_was_not_asked_for():
    assert plan([Resources()], False, 1, [SHARED]).placements[0].accelerators == {}
    assert plan([Resources(accelerators="L4:1")], False, 1, [SHARED]).placements[0].accelerators == {"L4": 1.0}
    assert plan([Resources()], False, 1, [BIG]).placements[0].accelerators == {"H100": 8}
