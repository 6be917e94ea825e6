"""What the user writes against the catalog: own prices, private places, denials, reservations, quotas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.catalog.overrides import Overrides, Scope, Written, parse
from sky.core.model.catalog import Market, Quality
from sky.core.model.conditions import Quota, Reservation
from sky.core.model.offers import Offer


def offer(cloud="aws", region="us-east-1", zone=None, name="p5.48xlarge", price=10.0, spot=False):
    return Offer(cloud, region, zone, name, 8.0, 32.0, price, use_spot=spot)


def rules(kind, **fields):
    return parse([Written(kind, fields, "mine.toml:3")])


def cost(overrides, **of):
    return overrides.price_of(offer(**of)).price_hourly


def test_without_rules_all_is_as_it_was():
    nothing = Overrides()
    assert nothing.price_of(offer()) == offer()
    assert (nothing.denied(offer()), nothing.least_factor) == (None, 1.0)


def test_a_price_of_ones_own_says_where_it_is_from():
    made = rules("price", infra="aws/us-east-1", instance_type="p5.*", price=7.5).price_of(offer())
    assert (made.price_hourly, made.quality, made.source) == (7.5, Quality.OWN, "mine.toml:3")


@pytest.mark.parametrize(
    ("rule", "of", "price"),
    [
        ({"infra": "aws", "multiplier": 0.8}, {}, 8.0),
        ({"infra": "aws", "multiplier": 0.8}, {"cloud": "gcp"}, 10.0),
        ({"infra": "aws/us-west-2", "price": 1}, {}, 10.0),
        ({"infra": "*/us-east-1", "price": 1}, {}, 1.0),
        ({"infra": "aws/us-east-1/us-east-1a", "price": 1}, {}, 10.0),
        ({"infra": "aws/us-east-1/us-east-1a", "price": 1}, {"zone": "us-east-1a"}, 1.0),
        ({"infra": "aws", "instance_type": "p5", "price": 1}, {}, 10.0),
        ({"infra": "aws", "instance_type": "p?.48*", "price": 1}, {}, 1.0),
        ({"infra": "aws", "instance_type": "p[45].*", "price": 1}, {}, 1.0),
        ({"infra": "aws", "instance_type": "p[!45].*", "price": 1}, {}, 10.0),
        ({"infra": "aws", "instance_type": "p5x48xlarge", "price": 1}, {}, 10.0),
        ({"infra": "aws", "market": "spot", "price": 1}, {}, 10.0),
        ({"infra": "aws", "market": "spot", "price": 1}, {"spot": True}, 1.0),
        ({"infra": "aws", "market": "on_demand", "price": 1}, {"spot": True}, 10.0),
    ],
)
def test_a_rule_speaks_of_what_it_names(rule, of, price):
    assert cost(rules("price", **rule), **of) == price


def test_a_later_rule_beats_an_earlier_one():
    made = parse([Written("price", {"infra": "aws", "price": each}, "f") for each in (1.0, 2.0)])
    assert cost(made) == 2.0


numbers = st.floats(0, 100, allow_nan=False)


@given(
    st.lists(
        st.fixed_dictionaries({"infra": st.sampled_from(["aws", "gcp", "*"])})
        .flatmap(lambda base: st.sampled_from(["price", "multiplier"]).flatmap(
            lambda key: numbers.map(lambda value: {**base, key: value}))),
        max_size=5,
    ),
    numbers, numbers, st.sampled_from(["aws", "gcp"]),
)  # fmt: skip
def test_no_price_is_below_the_least_factor_unless_a_rule_names_it(written, seen, more, cloud):
    made = parse([Written("price", each, "f") for each in written])
    unseen = offer(cloud=cloud, price=seen + more)
    if not any(rule.price is not None and rule.scope.covers(unseen) for rule in made.prices):
        assert made.price_of(unseen).price_hourly >= made.least_factor * seen - 1e-9


named = st.sampled_from(["m1", "m2", "m*", "m?", None])


@given(st.lists(st.tuples(named, st.sampled_from(["aws", "gcp", "*"]), numbers)), st.sampled_from(["m1", "m2"]))
def test_rules_are_found_by_name_as_by_trying_all_of_them(written, name):
    rows = [{"infra": infra, "price": price} | ({"instance_type": type_name} if type_name else {})
            for type_name, infra, price in written]  # fmt: skip
    made = parse([Written("price", row, "f") for row in rows])
    seen = offer(name=name)
    wanted = next((rule.price for rule in reversed(made.prices) if rule.scope.covers(seen)), seen.price_hourly)
    assert made.price_of(seen).price_hourly == wanted


def test_a_factor_of_nothing_is_no_price():
    made = rules("price", infra="aws", multiplier=0)
    assert cost(made) == 0.0
    # The search for all other offers stops as early as ever.
    assert made.least_factor == 1.0


def test_ten_thousand_rules_are_not_asked_one_by_one():
    written = [Written("price", {"infra": "aws", "instance_type": f"m{n}", "price": 1}, "f") for n in range(10_000)]
    denied = [Written("deny", {"infra": "aws", "instance_type": f"d{n}"}, "f") for n in range(10_000)]
    made = parse([*written, *denied])
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        covers = Scope.covers
        patch.setattr(Scope, "covers", lambda scope, each: asked.append(each) or covers(scope, each))
        assert made.price_of(offer(name="m17")).price_hourly == 1.0
        assert made.denied(offer(name="d17")) is not None
    assert len(asked) == 2


def test_what_is_denied_says_why_and_where():
    made = rules("deny", infra="aws", instance_type="p5*", reason="no budget")
    assert made.denied(offer()) == "no budget (mine.toml:3)"
    assert made.denied(offer(name="m5.xlarge")) is None
    assert rules("deny", instance_type="p5*").denied(offer(cloud="gcp")) == "left out by you (mine.toml:3)"


def test_reservations_and_quotas_are_values_of_the_optimizer():
    made = rules("reservation", infra="aws/us-east-1/us-east-1a", instance_type="p5.48xlarge", count=4)
    assert made.reservations == (Reservation("aws", "us-east-1", "us-east-1a", "p5.48xlarge", 4, "mine.toml:3"),)
    made = rules("quota", infra="gcp/us-central1", instance_type="a3-*", market="spot", max_cpus=960)
    assert made.quotas == (Quota("gcp", "us-central1", "a3-*", Market.SPOT, None, 960.0, "mine.toml:3"),)
    assert rules("quota", infra="gcp", max_nodes=0).quotas[0].instance_type == "*"


def test_a_private_place_offers_what_it_says():
    made = rules(
        "offer", infra="basement/rack-1", instance_type="dgx", cpus=256, memory=2048, accelerators="h100:8",
        price=0, spot_price=0.5, local_disk=30000, features=["efa"],
    )  # fmt: skip
    own, spot = made.extra
    assert (own.place, own.instance_type, own.cpus, own.memory_gb, own.price_hourly) == (
        "basement/rack-1", "dgx", 256, 2048, 0,
    )  # fmt: skip
    assert (own.accelerators, own.accelerator_memory_gb, own.quality) == ({"H100": 8}, 80, Quality.OWN)
    assert (spot.use_spot, spot.price_hourly, own.use_spot) == (True, 0.5, False)


def row(**fields):
    base = {"cloud": "aws", "region": "us-east-1", "zone": "", "instance_type": "p5.48xlarge", "market": "any"}
    return Written(None, {**base, **fields}, "mine.csv:2")


def test_a_row_of_csv_changes_the_price_of_a_known_type_and_adds_an_unknown_one():
    rows = [
        row(price="9.5", cpus="192", memory="2048"),
        row(cloud="basement", instance_type="dgx", price="1", cpus="8", memory="64", accelerator="A100",
            accelerator_count="2"),
        row(region="", instance_type="m5.large", market="spot", price="0.01"),
    ]  # fmt: skip
    made = parse(rows, lambda cloud, name: (cloud, name) == ("aws", "p5.48xlarge"))
    assert cost(made) == 9.5
    assert cost(made, region="us-west-2") == 10.0
    assert cost(made, name="m5.large", region="us-west-2", spot=True) == 0.01
    (extra,) = made.extra
    assert (extra.place, extra.accelerators, extra.source) == ("basement/us-east-1", {"A100": 2}, "mine.csv:2")


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("prize", {}, r"mine.toml:3: found \[\[prize\]\]; allowed: \[\[price\]\]"),
        ("price", {"infra": "aws", "prize": 1}, "found 'prize' in .*allowed: .*price"),
        ("price", {"price": 1}, "found no 'infra'"),
        ("price", {"infra": "aws"}, "found neither"),
        ("price", {"infra": "aws", "price": 1, "multiplier": 2}, "found both"),
        ("price", {"infra": "aws", "price": -1}, "found price = '-1'; allowed: a number"),
        ("price", {"infra": "aws", "price": True}, "found price = 'True'"),
        ("price", {"infra": "aws", "price": float("nan")}, "found price = 'nan'"),
        ("price", {"infra": "aws/a/b/c", "price": 1}, "parts"),
        ("price", {"infra": "Not A Cloud!", "price": 1}, "Not A Cloud!"),
        ("price", {"infra": "aws", "price": 1, "market": "stock"}, "found the market 'stock'; allowed: spot"),
        ("price", {"infra": "aws", "price": 1, "instance_type": 5}, "found instance_type = '5'; allowed: a text"),
        ("price", {"infra": "aws", "price": 1, "instance_type": "a[z-a]"}, "cannot be read"),
        ("deny", {"reason": "none"}, "found neither"),
        ("reservation", {"infra": "*", "instance_type": "x", "count": 1}, "found no cloud"),
        ("reservation", {"infra": "aws", "instance_type": "x", "count": 1.5}, "whole number"),
        ("reservation", {"infra": "aws", "instance_type": "x", "count": 0}, "at least 1"),
        ("quota", {"infra": "aws/r/z", "max_nodes": 1}, "cloud/region"),
        ("quota", {"infra": "aws"}, "max_nodes"),
        ("offer", {"infra": "b", "instance_type": "x", "cpus": 1, "memory": 1}, "neither 'price'"),
        ("offer", {"infra": "b", "instance_type": "x", "cpus": 1, "memory": 1, "price": 1, "accelerators": "80GB+"},
         "one kind"),
        ("offer", {"infra": "b", "instance_type": "x", "cpus": 1, "memory": 1, "price": 1, "features": "efa"}, "list"),
        (None, {"cloud": "aws", "instance_type": "x", "market": "any"}, "nothing under 'price'"),
        (None, {"cloud": "aws", "instance_type": "x", "market": "any", "price": "1", "cost": "2"}, "column 'cost'"),
        (None, {"cloud": "aws", "instance_type": "x", "market": "any", "price": "cheap"}, "found price = 'cheap'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(kind, fields, words):
    with pytest.raises(ValueError, match=words) as caught:
        rules(kind, **fields)
    assert str(caught.value).startswith("mine.toml:3: ")
