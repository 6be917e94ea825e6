"""A refresh replaces the clouds that were asked, keeps the others and those that failed, and says so."""

import threading

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sky.core.errors import ProviderDown
from sky.core.model.catalog import Egress, InstanceType, Market, Place, Price, Quality, Query, Source, Unchanged
from sky.store.catalog.generations import Generations
from sky.store.catalog.merge import Fresh, rebuild

OD, SPOT = Market.ON_DEMAND, Market.SPOT


def url(cloud):
    return f"https://{cloud}.example/prices"


def a_type(cloud="one", name="m.4", cpus=4.0, memory=16.0, **more):
    return InstanceType(cloud, name, cpus, memory, **more)


def a_price(cloud="one", name="m.4", region="r1", zone=None, market=OD, price=1.0, source=None, observed=100.0):
    return Price(cloud, name, region, zone, market, price, Quality.LIST, observed, source or url(cloud))


def many(cloud, factor=1.0, regions=30, source=None):
    """One type in many regions."""
    return [
        a_type(cloud),
        Source(cloud, source or url(cloud), 100.0, regions, etag="v1"),
        *(a_price(cloud, region=f"r{number}", price=factor, source=source) for number in range(regions)),
    ]


@pytest.fixture
def generations(tmp_path):
    return Generations(tmp_path / "catalog", None)


def sold(generations, **query):
    found = generations.reader().offers(Query(**query))
    return sorted((each.cloud, each.instance_type, each.zone or each.region, each.price_hourly) for each in found)


def test_the_first_generation_is_what_was_told(generations):
    made = rebuild(generations, {"one": Fresh([a_type(), a_price()]), "two": Fresh([a_type("two"), a_price("two")])})
    assert sold(generations) == [("one", "m.4", "r1", 1.0), ("two", "m.4", "r1", 1.0)]
    assert {name: (each.kept, each.rows, each.types) for name, each in made.items()} == {
        "one": (False, 1, 1), "two": (False, 1, 1),
    }  # fmt: skip


def test_other_clouds_stay_as_they_were(generations):
    accelerated = a_type("two", "g.1", accelerator="L4", accelerator_count=1.0)
    other = [
        accelerated,
        Place("two", "r1", country="DE"),
        Source("two", url("two"), 5.0, 1, "e"),
        Egress("two", "*", "internet", 0.1, Quality.LIST, url("two")),
        a_price("two", "g.1", price=0.8),
        a_price("two", "g.1", price=0.0, region="r2"),
        a_price("two", "g.1", zone="r3a", price=None, region="r3"),
    ]
    rebuild(generations, {"one": Fresh([a_type(), a_price()]), "two": Fresh(other)})
    before = generations.reader()
    rebuild(generations, {"one": Fresh([a_type("one", "n.4"), a_price("one", "n.4", price=3.0)])})
    after = generations.reader()
    assert after.generation != before.generation
    assert sold(generations) == [("one", "n.4", "r1", 3.0), ("two", "g.1", "r1", 0.8)]
    for ask in (lambda c: c.places("two"), lambda c: c.types("g.1"), lambda c: list(c.egress()),
                lambda c: [each for each in c.sources() if each.cloud == "two"],
                lambda c: [each for each in c.quarantined() if each.cloud == "two"],
                lambda c: list(c.offers(Query(accelerator="L4"))),
                lambda c: list(c.listings(Query(clouds=frozenset(["two"]))))):  # fmt: skip
        assert ask(after) == ask(before)
        assert ask(after)


def test_a_cloud_that_failed_keeps_what_it_had(generations):
    rebuild(generations, {"one": Fresh([a_type(), a_price()]), "two": Fresh([a_type("two"), a_price("two")])})

    def broken():
        yield a_type("two")
        yield a_price("two", price=9.0)
        raise ProviderDown("the connection was cut")

    made = rebuild(
        generations,
        {
            "one": Fresh(failure="no answer"),
            "two": Fresh(broken()),
            "three": Fresh([a_type("three"), a_price("three")]),
        },
    )
    assert [each[0] for each in sold(generations)] == ["one", "three", "two"]
    assert (made["one"].kept, made["one"].reason, made["one"].rows) == (True, "no answer", 1)
    assert made["two"].kept
    assert "the connection was cut" in made["two"].reason
    assert not made["three"].kept
    told = {each.cloud: each.detail for each in generations.reader().quarantined()}
    assert told["one"] == "no answer"
    # The next good refresh takes the note away.
    rebuild(generations, {"one": Fresh([a_type(), a_price()]), "two": Fresh([a_type("two"), a_price("two")])})
    assert generations.reader().quarantined() == []


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (many("one", regions=20), "20 rows where there were 30"),
        (many("one", factor=3.5), "30 of 30 prices moved"),
        ([], "no rows that are believed"),
    ],
)
def test_a_cloud_that_changes_too_much_keeps_what_it_had(generations, rows, reason):
    rebuild(generations, {"one": Fresh(many("one"))})
    before = sold(generations)
    made = rebuild(generations, {"one": Fresh(rows)})
    assert sold(generations) == before
    assert reason in made["one"].reason
    assert any(reason in each.detail for each in generations.reader().quarantined())


def test_the_user_may_accept_a_change(generations):
    rebuild(generations, {"one": Fresh(many("one"))})
    made = rebuild(generations, {"one": Fresh(many("one", factor=3.5))}, accept=frozenset(["one"]))
    assert not made["one"].kept
    assert {each[3] for each in sold(generations)} == {3.5}


def test_a_price_that_was_checked_by_hand_holds_up_a_cloud(generations):
    golden = {("one", "m.4", "r1"): 0.5}
    made = rebuild(generations, {"one": Fresh([a_type(), a_price()])}, golden=golden)
    assert "0.5 by a check of hand" in made["one"].reason
    assert sold(generations) == []


def test_a_document_that_has_not_changed_keeps_its_rows(generations):
    first, second = "https://one.example/r1", "https://one.example/r2"
    rows = [
        a_type(), a_type(name="only-r1"), Source("one", first, 100.0, 2, "e1"), Source("one", second, 100.0, 1, "e2"),
        a_price(source=first, price=1.5), a_price(name="only-r1", source=first, zone="r1a", price=7.0),
        a_price(source=second, region="r2", price=2.0),
    ]  # fmt: skip
    rebuild(generations, {"one": Fresh(rows)})
    fresh = [
        a_type(), Unchanged("one", first, "r1"), Source("one", second, 200.0, 1, "e3"),
        a_price(source=second, region="r2", price=2.5, observed=200.0),
    ]  # fmt: skip
    made = rebuild(generations, {"one": Fresh(fresh)})
    assert not made["one"].kept
    assert sold(generations) == [("one", "m.4", "r1", 1.5), ("one", "m.4", "r2", 2.5), ("one", "only-r1", "r1a", 7.0)]
    kept = {each.url: (each.fetched, each.etag) for each in generations.reader().sources()}
    assert kept == {first: (100.0, "e1"), second: (200.0, "e3")}
    assert {each.observed for each in generations.reader().offers(Query())} == {100.0, 200.0}


@pytest.mark.parametrize("document", [Unchanged("one", "https://one.example/elsewhere"), Unchanged("one", url("one"))])
def test_a_whole_cloud_that_has_not_changed_stays(generations, document):
    rebuild(generations, {"one": Fresh([*many("one"), a_price(market=SPOT, price=0.3)])})
    before = sold(generations)
    made = rebuild(generations, {"one": Fresh([document])})
    assert (made["one"].kept, made["one"].rows) == (False, 31)
    assert sold(generations) == before


def test_told_rows_beat_those_of_an_unchanged_document(generations):
    rebuild(generations, {"one": Fresh([a_type(), a_price(), a_price(market=SPOT, price=0.3)])})
    rebuild(
        generations, {"one": Fresh([a_price(market=SPOT, price=0.25, source="spot"), Unchanged("one", url("one"))])}
    )
    assert sold(generations, market=SPOT) == [("one", "m.4", "r1", 0.25)]
    assert sold(generations, market=OD) == [("one", "m.4", "r1", 1.0)]


def test_prices_of_regions_are_spread_over_the_zones_of_before(generations):
    zones = [a_price(zone=zone, price=None) for zone in ("r1a", "r1b")]
    rebuild(generations, {"one": Fresh([a_type(), Place("one", "r1", "r1a", "id-1"), *zones])})
    assert sold(generations) == []
    for price in (2.0, 2.2):
        rebuild(generations, {"one": Fresh([a_type(), a_price(price=price)])})
        assert sold(generations) == [("one", "m.4", "r1a", price), ("one", "m.4", "r1b", price)]
    assert Place("one", "r1", "r1a", "id-1") in generations.reader().places("one")


def test_types_of_before_explain_prices_without_types(generations):
    rebuild(generations, {"one": Fresh([a_type(), a_price()])})
    made = rebuild(generations, {"one": Fresh([a_price(price=1.2), a_price(name="new", price=1.2)])})
    assert sold(generations) == [("one", "m.4", "r1", 1.2)]
    assert made["one"].quarantined == 1


def test_two_writers_at_once_lose_nothing(tmp_path):
    failures = []

    def write(cloud):
        try:
            rebuild(Generations(tmp_path, None), {cloud: Fresh([a_type(cloud), a_price(cloud)])})
        except Exception as error:
            failures.append(error)

    clouds = [f"cloud{number}" for number in range(6)]
    threads = [threading.Thread(target=write, args=(cloud,)) for cloud in clouds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert [each[0] for each in sold(Generations(tmp_path, None))] == clouds


def test_the_world_comes_through_whole(generations):
    rows = {cloud: many(cloud, regions=5) for cloud in ("one", "two", "three")}
    rebuild(generations, {cloud: Fresh(each) for cloud, each in rows.items()})
    before = sold(generations)
    for cloud, each in rows.items():
        rebuild(generations, {cloud: Fresh(each)})
    assert sold(generations) == before
    assert len(list(generations.folder.glob("gen-*.sqlite"))) == 2


# --- by properties ---------------------------------------------------------------------------------------------------

cells = st.dictionaries(
    st.tuples(st.sampled_from(["m.4", "m.8"]), st.sampled_from(["r1", "r2"]), st.sampled_from([OD, SPOT])),
    st.integers(5, 9),
    max_size=5,
)


def document(number, told, zone):
    """The rows of one document: of two markets in one region, spot is the cheaper one. Documents do not overlap."""
    address = f"https://one.example/{number}"
    rows = [a_type(), a_type(name="m.8", cpus=8.0, memory=32.0), Source("one", address, 100.0, len(told))]
    for (name, region, market), price in told.items():
        where = f"{region}-{number}"
        usd = price / (10.0 if market is SPOT else 1.0)
        rows.append(a_price("one", name, where, zone and f"{where}{zone}", market, usd, source=address))
    return rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(cells, min_size=3, max_size=3),
    after=st.lists(st.none() | cells, min_size=3, max_size=3),
    zone=st.sampled_from([None, "a"]),
)
def test_unchanged_documents_are_as_if_they_were_told_again(before, after, zone, tmp_path_factory):
    assume(any(before) and any(now if now is not None else then for then, now in zip(before, after, strict=True)))
    ends = []
    for again in (False, True):
        generations = Generations(tmp_path_factory.mktemp("catalog"), None)
        rebuild(generations, {"one": Fresh([row for n, told in enumerate(before) for row in document(n, told, zone)])})
        rows = []
        for number, (then, now) in enumerate(zip(before, after, strict=True)):
            if now is not None or again:
                rows += document(number, then if now is None else now, zone)
            else:
                rows.append(Unchanged("one", f"https://one.example/{number}"))
                # A document that no row names would stand for all rows; a source of its own says which it is.
                assume(then)
        made = rebuild(generations, {"one": Fresh(rows)}, accept=frozenset({"one"}))
        assert not made["one"].kept
        ends.append(sold(generations))
    assert ends[0] == ends[1]
