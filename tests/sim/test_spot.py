"""Spot markets of a world: drawn or recorded, they become faults of its zones, and nobody pays what nobody asked."""

import json

import pytest

from sky.kit.signals import Signals
from sky.sim import spot, traces
from sky.sim.bells import Bells
from sky.sim.faults import POWER, Fault
from sky.sim.invariants import at_rest
from sky.sim.loop import run
from sky.sim.markets import Market, ZoneTrace
from sky.sim.play import drawn, play
from sky.sim.world import ZONES, World


def market(*up: bytes, prices: tuple[float, ...] = ()) -> Market:
    ticks = len(up[0])
    zones = [ZoneTrace(f"z{at}", "r", each, prices or (0.5,) * ticks, 1.0) for at, each in enumerate(up)]
    return Market("made here", 600.0, tuple(zones))


def test_a_run_without_spot_is_a_fault_of_its_zone():
    found = spot.played(market(bytes([1, 0, 0, 1, 0])), 1, ["aws-r-a", "gcp-r-b"], 50.0)
    assert [(each.kind, each.at, each.lasts, each.where) for each in found] == [
        ("market dry", 10.7, 20.0, "aws-r-a"), ("market dry", 10.7, 20.0, "gcp-r-b"),
        ("market dry", 40.7, 10.0, "aws-r-a"), ("market dry", 40.7, 10.0, "gcp-r-b"),
    ]  # fmt: skip


def test_prices_move_as_shares_of_the_price_on_demand_within_bounds():
    found = spot.played(market(bytes([1, 1, 1, 1]), prices=(0.5, 0.25, 9.0, 9.0)), 1, ["aws-r-a"], 40.0)
    assert [(each.kind, each.at, each.dose) for each in found] == [
        ("price moves", 10.7, 0.25), ("price moves", 20.7, spot.DEAREST),
    ]  # fmt: skip


def test_what_a_seed_draws_is_always_the_same_and_not_always_a_market():
    with_market = [seed for seed in range(100) if spot.drawn(seed, ZONES, 200.0)]
    assert 20 < len(with_market) < 60
    assert all(spot.drawn(seed, ZONES, 200.0) == spot.drawn(seed, ZONES, 200.0) for seed in with_market[:5])


def test_a_recorded_market_is_played(tmp_path):
    """The zones named in the file are shared out among those of the world."""
    (tmp_path / "availability").mkdir()
    for at in range(2):
        data = [0, 0, 1, 1] * 20
        text = json.dumps({"metadata": {"gap_seconds": 600}, "data": data, "prices": [0.4 + at] * len(data)})
        (tmp_path / "availability" / f"z{at}.json").write_text(text)
    (found,) = traces.load(tmp_path)
    faults = drawn(5, found)
    assert {each.where for each in faults if each.kind == "market dry"} == set(ZONES)
    outcome = play(5, recorded=found)
    assert outcome.broken == ()
    assert any("market dry in gcp-r-b" in line for line in outcome.trace)


@pytest.mark.parametrize("seed", [3, 9])
def test_what_somebody_was_told_of_outlives_a_power_failure(seed):
    # With any weather: both worlds have one server, and are in the midst of things then.
    faults = [*drawn(seed), Fault(POWER, 60.0, 3.0, 0.9), Fault(POWER, 110.0, 3.0, 0.5)]
    outcome = play(seed, faults)
    assert sum("dies as the power fails" in line for line in outcome.trace) >= 1
    assert outcome.broken == ()


def test_servers_hear_each_other_and_learn_that_they_are_deaf():
    async def main(loop):
        bells, one, two = Bells(loop), Signals(), Signals()
        bells.join(one)
        bells.join(two)
        with two.watch("x") as watch:
            await watch.changed(1.0)
            assert one.hears_all and two.hears_all
            one.notify("x")
            assert await watch.changed(1.0)
            bells.deafen(30.0)
            one.notify("x")
            assert not await watch.changed(1.0)
            assert await watch.changed(20.0), "woken, since what came meanwhile was missed"
            assert not two.hears_all
            assert await watch.changed(30.0)
            assert two.hears_all
            bells.part(two)
            one.notify("x")
            assert not await watch.changed(100.0)

    run(main)


def test_a_price_that_nobody_named_is_complained_of():
    async def main(loop):
        world = World(loop, 1)
        world.clouds["aws"].unheard_of.append("c1 was to cost 7")
        found = [line async for line in at_rest(world)]
        world.disk._file.close()
        return found

    assert run(main) == ["c1 was to cost 7"]
