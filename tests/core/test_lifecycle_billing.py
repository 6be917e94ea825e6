"""What a step does to the ledger; what a cluster has cost; what a provider remembers better."""

from dataclasses import replace

import pytest

from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.billing import MAYBE, NO_PRICE, bill, booked, outlived, settled
from sky.core.model.catalog import Market
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Refusal, Site, Stray
from sky.core.model.ledger import Billed, Line, Span
from sky.core.model.offers import Offer, Placement

R, S, GONE = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.TERMINATED
OFFER = Offer("cloud", "r1", "r1-a", "t1", 4, 16, 1.5)


def node(rank: int, state: InstanceState = R, since: float | None = None) -> Instance:
    return Instance(f"c-{rank}", "c", rank, state, "", machine=f"i-{rank}", since=since)


def cluster(phase: Phase = Phase.UP, **changes: object) -> Cluster:
    made = Cluster("c", "name", "u", "team", phase, 3, 0.0, 0.0, 2, placement=Placement(OFFER, 2, 4, 16), entered=True,
                   instances=(node(0), node(1)), sites=(Site("cloud", "r1", "c"),))  # fmt: skip
    return replace(made, **changes)


def lines_of(*entries):
    return [Line(number, entry) for number, entry in enumerate(entries, 1)]


def test_machines_begin_when_their_provider_says_so_and_else_with_the_commit():
    before = cluster(Phase.PROVISIONING, instances=())
    after = life.TABLE.step(before, life.NodesCreated((node(0, since=90.0), node(1))), 100.0).entity
    booking = booked(before, after, 100.0)
    assert booking.ended == ()
    assert [(each.kind, each.resource, each.began, each.price_hourly) for each in booking.begun] == [
        (Billed.MACHINE, "i-0", 90.0, 1.5),
        (Billed.MACHINE, "i-1", 100.0, 1.5),
    ]
    first = booking.begun[0]
    assert (first.cluster_id, first.cluster_name, first.owner, first.workspace) == ("c", "name", "u", "team")
    assert (first.cloud, first.region, first.zone, first.instance_type) == ("cloud", "r1", "r1-a", "t1")
    assert (first.market, first.mark, first.ended) == (Market.ON_DEMAND, "c", None)


def test_a_step_that_changes_no_machine_books_nothing():
    before = cluster()
    assert booked(before, replace(before, reason="as last seen"), 5.0) == ((), ())


def test_a_machine_that_stops_goes_on_as_its_disk_and_says_that_its_price_is_not_known():
    before = cluster(Phase.STOPPING, reason="asked to stop")
    after = life.TABLE.step(before, life.NodesStopped((node(0, S, 70.0), node(1, S))), 80.0).entity
    booking = booked(before, after, 80.0)
    assert [(each.resource, each.ended, each.reason) for each in booking.ended] == [
        ("i-0", 70.0, "asked to stop"),
        ("i-1", 80.0, "asked to stop"),
    ]
    assert [(each.kind, each.resource, each.began, each.price_hourly, each.note) for each in booking.begun] == [
        (Billed.DISK, "i-0", 70.0, 0.0, NO_PRICE),
        (Billed.DISK, "i-1", 80.0, 0.0, NO_PRICE),
    ]
    gone = booked(after, replace(after, phase=Phase.TERMINATED), 99.0)
    assert [(each.kind, each.ended) for each in gone.ended] == [(Billed.DISK, 99.0)] * 2


def test_disks_and_addresses_whose_prices_are_known_are_lines_of_their_own():
    priced = replace(Placement(OFFER, 2, 4, 16), disk_hourly=0.03, address_hourly=0.005)
    nodes = (replace(node(0, since=90.0), external_ip="9.9.9.1"), node(1))
    before = cluster(Phase.PROVISIONING, instances=())
    up = life.TABLE.step(before, life.NodesCreated(nodes, priced), 100.0).entity
    begun = booked(before, up, 100.0).begun
    assert [(each.kind, each.resource, each.began, each.price_hourly, each.note) for each in begun] == [
        (Billed.MACHINE, "i-0", 90.0, 1.5, ""),
        (Billed.DISK, "i-0", 90.0, 0.03, ""),
        (Billed.ADDRESS, "9.9.9.1", 90.0, 0.005, ""),
        (Billed.MACHINE, "i-1", 100.0, 1.5, ""),
        (Billed.DISK, "i-1", 100.0, 0.03, ""),
    ]
    stopping = replace(up, phase=Phase.STOPPING)
    off = life.TABLE.step(stopping, life.NodesStopped((node(0, S, 170.0), node(1, S))), 180.0).entity
    booking = booked(stopping, off, 180.0)
    assert booking.begun == (), "a disk goes on as it was"
    ended = [(each.kind, each.resource, each.ended) for each in booking.ended]
    assert ended == [
        (Billed.MACHINE, "i-0", 170.0),
        (Billed.ADDRESS, "9.9.9.1", 180.0),
        (Billed.MACHINE, "i-1", 180.0),
    ]
    entries = [each._replace(ended=3700.0) for each in begun if each.kind is not Billed.MACHINE]
    told = bill(up, entries, 9999.0)
    assert told.times == () and told.cost == pytest.approx(sum(each.cost(9999.0) for each in entries))


def test_what_outlived_its_cluster_has_a_line_from_the_clusters_end_on():
    gone = cluster(Phase.TERMINATED, ended_at=50.0)
    line = outlived(gone, "cloud", ("volume", "v-1", "c", "r1"), 10.0, 80.0)
    assert (line.kind, line.resource, line.began, line.ended, line.owner) == (Billed.DISK, "v-1", 50.0, 80.0, "u")
    assert outlived(gone, "cloud", ("security-group", "sg", "c", "r1"), None, 80.0) is None
    unknown = outlived(None, "cloud", ("address", "a-1", "x", "r1"), None, 80.0)
    assert (unknown.kind, unknown.cluster_id, unknown.owner, unknown.began) == (Billed.ADDRESS, "x", "", 80.0)


def test_a_machine_that_is_taken_back_ends_alone():
    before = cluster()
    after = life.TABLE.step(before, life.NodesObserved((node(0), node(1, GONE, 40.0))), 50.0).entity
    assert [(each.resource, each.ended) for each in booked(before, after, 50.0).ended] == [("i-1", 40.0)]


def test_nodes_that_a_reservation_pays_for_cost_nothing_more():
    reserved = replace(Placement(OFFER, 2, 4, 16), reserved_nodes=1)
    begun = booked(None, cluster(placement=reserved), 0.0).begun
    assert [each.price_hourly for each in begun] == [0.0, 1.5]
    assert sum(each.price_hourly for each in begun) == reserved.price_hourly


def test_what_may_run_elsewhere_is_a_line_until_it_is_ended():
    stray = Stray(Site("cloud", "r2", "c-h1"), 20.0, 3.0)
    before = cluster(strays=(stray,))
    (line,) = (each for each in booked(None, before, 0.0).begun if each.note)
    assert (line.resource, line.began, line.price_hourly, line.note) == ("c-h1@r2", 20.0, 3.0, MAYBE)
    after = life.TABLE.step(before, life.StraysEnded((stray.site,)), 30.0).entity
    assert [(each.resource, each.ended) for each in booked(before, after, 30.0).ended] == [("c-h1@r2", 30.0)]


def test_a_cluster_from_before_the_ledger_is_entered_from_where_its_interval_began():
    old = cluster(entered=False, intervals=((10.0, 20.0, 3.0), (50.0, None, 3.0)))
    lines = booked(None, old, 99.0).begun
    assert {each.began for each in lines} == {50.0}
    told = bill(old, lines, 3650.0)
    assert told.times == ((10.0, 20.0), (50.0, None))
    assert told.cost == pytest.approx(10 / 3600 * 3.0 + 3.0)


def test_a_cluster_without_lines_costs_what_its_record_says():
    told = bill(cluster(entered=False, intervals=((0.0, 3600.0, 2.0),)), (), 9999.0)
    assert (told.times, told.cost) == (((0.0, 3600.0),), 2.0)


def test_lines_and_intervals_agree_over_a_life_in_which_nothing_goes_wrong():
    lines: list = []
    state = cluster(Phase.PROVISIONING, instances=())
    story = [
        (life.NodesCreated((node(0), node(1))), 100.0),
        (life.AgentsReady(), 130.0),
        (life.StopAsked(), 4000.0),
        (life.NodesStopped((node(0, S), node(1, S))), 4010.0),
        (life.StartAsked(), 9000.0),
        (life.NodesCreated((node(0), node(1))), 9050.0),
        (life.DownAsked(), 9999.0),
        (life.NodesTerminated(), 10010.0),
    ]
    for event, now in story:
        after = life.TABLE.step(state, event, now).entity
        booking = booked(state, after, now)
        for end in booking.ended:
            (at,) = (n for n, e in enumerate(lines) if (e.kind, e.resource, e.ended) == (end.kind, end.resource, None))
            lines[at] = lines[at]._replace(ended=end.ended)
        lines += booking.begun
        state = after
    assert all(each.ended is not None for each in lines)
    by_lines, by_intervals = bill(state, lines, 20000.0), bill(state, (), 20000.0)
    assert by_lines.cost == pytest.approx(by_intervals.cost, abs=1e-9)
    assert by_lines.times == by_intervals.times == ((100.0, 4010.0), (9050.0, 10010.0))


# --- what a provider remembers ---------------------------------------------------------------------------------------


def span(machine: str, began: float, ended: float | None, **changes: object) -> Span:
    return Span("c", machine, "r1", "r1-a", "t1", Market.ON_DEMAND, began, ended)._replace(**changes)


OVER = cluster(Phase.TERMINATED, instances=())
ENTRY = booked(None, cluster(instances=(node(0),)), 100.0).begun[0]._replace(ended=200.0)


def test_times_are_those_of_the_provider():
    assert settled(OVER, lines_of(ENTRY), [span("i-0", 98.0, 197.0)], "cloud") == (((1, 98.0, 197.0),), ())
    assert settled(OVER, lines_of(ENTRY), [span("i-0", 100.0, 200.0)], "cloud") == ((), ())


def test_machines_that_no_commit_knew_of_are_entered_at_the_price_that_was_asked_for():
    refused = Refusal("cloud/r2/r2-b", "t9", "zone", "none left", 5.0, 0.7, use_spot=True)
    state = replace(OVER, refusals=(refused,))
    other = span("i-9", 10.0, 12.0, region="r2", instance_type="t9", market=Market.SPOT)
    unknown = span("i-8", 10.0, 12.0, instance_type="t8")
    missing = settled(state, lines_of(ENTRY), [other, unknown], "cloud").missing
    assert [(each.resource, each.price_hourly, each.note) for each in missing] == [
        ("i-9", 0.7, ""),
        ("i-8", 0.0, NO_PRICE),
    ]


def test_earlier_times_that_a_provider_has_forgotten_stay():
    again = ENTRY._replace(began=300.0, ended=400.0)
    told = settled(OVER, lines_of(ENTRY, again), [span("i-0", 301.0, 400.0)], "cloud")
    assert told == (((2, 301.0, 400.0),), ())


def test_nothing_is_settled_while_something_goes_on():
    assert settled(OVER, lines_of(ENTRY._replace(ended=None)), [span("i-0", 1.0, 2.0)], "cloud") == ((), ())
    assert settled(OVER, lines_of(ENTRY), [span("i-0", 98.0, None)], "cloud") == ((), ())


def test_what_may_have_run_is_settled_by_what_did():
    maybe = ENTRY._replace(resource="c-h1@r2", note=MAYBE)
    assert settled(OVER, lines_of(maybe), [], "cloud") == (((1, 100.0, 100.0),), ())
    assert settled(OVER, lines_of(maybe), [], "another") == ((), ())
