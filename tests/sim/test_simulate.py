"""Playing jobs on markets: money and time to the second, the optimum, no deadline missed, traces, the command.

The published figures need the published traces: set SPOT_TRACES to their folder (docs/policies.md).
"""

import io
import itertools
import json
import math
import os
import tarfile
from pathlib import Path
from statistics import fmean

import pytest
from click.testing import CliRunner

from sky.cli.simulate import simulate as command
from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.policy.catalogue import POLICIES
from sky.core.policy.deadlines import Decision, greedy, on_demand, uniform_progress, uniform_progress_away
from sky.sim.markets import Market, Transfers, ZoneTrace, generated
from sky.sim.simulate import CANT_BE_LATE, OURS, SKYNOMAD, Job, LastTick, Player, Rules
from sky.sim.traces import Reading, load
from sky.sim.trials import OPTIMUM, compare, spread

HOUR = 3600.0
TRACES = os.environ.get("SPOT_TRACES")
published = pytest.mark.skipif(not TRACES, reason="SPOT_TRACES names no folder of published traces")


def zone(name, up, price=1.0, on_demand=3.0):
    prices = tuple(price) if isinstance(price, list) else (price,) * len(up)
    return ZoneTrace(name, name[0], bytes(int(mark) for mark in up), prices, on_demand)


def market(*zones, gap=600.0):
    return Market("made", gap, zones)


def test_a_machine_is_billed_to_the_second():
    # Six ticks of spot, then none: 0.2 h restart and 0.8 h of work; on-demand does the rest.
    player = Player(market(zone("a1", "1" * 6 + "0" * 60)), Job(2 * HOUR, 4 * HOUR), record=True)
    run = player.play(greedy)
    assert run.kept
    assert run.preemptions == 1
    assert run.spot == pytest.approx(1 * HOUR)
    assert run.on_demand == pytest.approx(1.4 * HOUR)
    assert run.on_demand_work == pytest.approx(1.2 * HOUR)
    assert run.cost == pytest.approx(1.0 + 1.4 * 3)
    # The net: begun so late that it just ends in time, in steps of a tick.
    assert run.finish == pytest.approx(3.9 * HOUR)
    assert [(part.spot, round(part.cost, 6)) for part in run.stretches] == [(True, 1.0), (False, 4.2)]


def test_prices_change_under_way_and_the_data_moves():
    prices = [1.0] * 6 + [2.0] * 30
    held = market(zone("a1", "1" * 9 + "0" * 27, prices), zone("b1", "0" * 9 + "1" * 27, 0.5))
    job = Job(2 * HOUR, 6 * HOUR, 600.0, Transfers(50.0, seconds_per_gb=24.0))
    run = Player(held, job).play(greedy)
    # 1.5 h on a1 (10 min of them to start), then 10 + 20 min until b1 works, 1 USD for the way.
    assert run.finish == pytest.approx(1.5 * HOUR + 1800 + 2 * HOUR - 80 * 60)
    assert run.cost == pytest.approx(1.0 + 0.5 * 2.0 + 1.0 + 0.5 * (1800 + 40 * 60) / HOUR)
    assert run.moved == 1.0


@pytest.mark.parametrize(("last", "billed"), [(LastTick.USED, 1.2), (LastTick.WHOLE, 4 / 3), (LastTick.FREE, 7 / 6)])
def test_the_last_tick_is_billed_as_the_rules_say(last, billed):
    player = Player(market(zone("a1", "1" * 30)), Job(HOUR, 3 * HOUR), Rules(last_tick=last))
    assert player.play(greedy).cost == pytest.approx(billed)


def test_a_deadline_that_nobody_can_hold_is_missed_and_the_work_still_done():
    run = Player(market(zone("a1", "0" * 30)), Job(3 * HOUR, 3 * HOUR)).play(on_demand)
    assert not run.kept
    assert run.finish == pytest.approx(3.2 * HOUR)
    assert run.cost == pytest.approx(3.2 * 3)


@pytest.mark.parametrize("policy", [greedy, uniform_progress, uniform_progress_away, on_demand])
def test_skipping_what_cannot_change_a_decision_changes_nothing(policy):
    def always(seen, memory):
        decision, memory = policy(seen, memory)
        return Decision(decision.offer, decision.reason, seen.now), memory

    for seed in range(30):
        held = generated(seed, ticks=200)
        player = Player(held, Job(20 * HOUR, 26 * HOUR, 500.0, Transfers(50.0, seconds_per_gb=16.0)))
        one, other = player.play(policy), player.play(always)
        assert (one.cost, one.finish, one.starts) == pytest.approx((other.cost, other.finish, other.starts))


def test_no_feasible_deadline_is_missed():
    for seed in range(150):
        held = generated(seed, ticks=200)
        spare = (0.0, 1.0, 700.0, 5 * HOUR)[seed % 4]
        job = Job(15 * HOUR, 15 * HOUR + 900.0 + spare, 900.0, Transfers(50.0, seconds_per_gb=16.0))
        player = Player(held, job)
        for name, (policy, _) in POLICIES.items():
            assert player.play(policy, player.starts(1)[-1]).kept, (seed, name)


def cheapest(held, job):
    """The optimum by trying everything; for tiny markets."""
    choices = [None, *((one.zone, spot) for one in held.zones for spot in (True, False))]
    ticks = round(job.deadline / held.gap)
    least = math.inf
    for plan in itertools.product(choices, repeat=ticks):
        if any(step and step[1] and not dict((z.zone, z.up) for z in held.zones)[step[0]][place]
               for place, step in enumerate(plan)):  # fmt: skip
            continue

        def follow(seen, memory, plan=plan):
            step = plan[round(seen.now / held.gap)]
            offers = () if step is None else seen.spot if step[1] else seen.on_demand
            return Decision(next((o for o in offers if o.zone == step[0]), None), "", seen.now), memory

        run = Player(held, job).play(follow)
        if run.kept:
            least = min(least, run.cost)
    return least


def test_the_optimum_is_that_of_trying_everything():
    pytest.importorskip("numpy")
    from sky.sim.optimum import Optimum, omniscient

    cases = [
        (market(zone("a1", "101101", [1.0, 2.0, 1.0, 1.0, 0.5, 0.5])), Job(1500.0, 3600.0, 300.0)),
        (market(zone("a1", "11000"), zone("b1", "00111", 0.7)), Job(1500.0, 3000.0, 300.0, Transfers(10.0))),
        (market(zone("a1", "00000"), zone("b1", "01101", 2.5)), Job(1800.0, 3000.0, 600.0)),
    ]
    for held, job in cases:
        found = Optimum(held, job, OURS, 0).cost()
        assert found == pytest.approx(cheapest(held, job)), held
        assert omniscient(Player(held, job), 0).cost == pytest.approx(found)


def test_nobody_pays_less_than_the_optimum():
    pytest.importorskip("numpy")
    from sky.sim.optimum import Optimum

    for seed in range(12):
        held = generated(seed, ticks=130)
        job = Job(14 * HOUR, 20 * HOUR, 600.0, Transfers(50.0, seconds_per_gb=12.0))
        least = Optimum(held, job, OURS, 3).cost()
        player = Player(held, job)
        for policy, _ in POLICIES.values():
            assert player.play(policy, 3).cost >= least - 1e-6


def test_starts_are_spread_and_comparisons_fair():
    assert spread(10, 3) == [0, 5, 10]
    assert spread(3, 10) == [0, 1, 2, 3]
    assert spread(5, 1) == [0]
    held = [generated(seed, ticks=150) for seed in range(3)]
    rows = compare(held, Job(10 * HOUR, 15 * HOUR), ["greedy", "on-demand"], count=2, optimum=False)
    assert [(row.policy, row.plays, row.gap) for row in rows] == [("greedy", 6, None), ("on-demand", 6, None)]
    assert all(row.kept == 1 for row in rows)
    with pytest.raises(InvalidSkyPilotConfigError, match="No trace lasts"):
        compare(held, Job(100 * HOUR, 150 * HOUR), ["greedy"], optimum=False)


# --- the published figures ---------------------------------------------------------------------------------------

SIX = ("us-central1-a", "us-west1-a", "europe-west1-c", "europe-west3-c", "asia-southeast1-b", "asia-south2-b")
H100_FIGURES = [
    (1.05, 840.1499, 1187.6441), (1.1, 792.8371, 1128.7656), (1.15, 754.9509, 1073.5410), (1.2, 720.6770, 1024.0827),
    (1.3, 661.9949, 936.0897), (1.5, 571.3817, 795.0058), (2.0, 426.1730, 568.9803), (3.0, 285.3269, 343.8347),
]  # fmt: skip


@published
@pytest.mark.parametrize(("ratio", "optimum", "baseline"), H100_FIGURES)
def test_the_table_of_several_regions_comes_out_to_the_digit(ratio, optimum, baseline):
    pytest.importorskip("numpy")
    from sky.sim.optimum import omniscient

    held = load(Path(TRACES) / "h100-13-zones.tar.gz")[0].only(SIX)
    deadline = 311 * 600.0
    player = Player(held, Job(deadline / ratio, deadline, 720.0, Transfers(50.0)), SKYNOMAD)
    starts = range(0, 6 * 311, 311)
    assert round(fmean(omniscient(player, start, coarse=True).cost for start in starts), 4) == optimum
    assert round(fmean(player.play(uniform_progress_away, start).cost for start in starts), 4) == baseline


@published
@pytest.mark.timeout(600)
def test_the_table_of_one_zone_comes_out():
    found = load(Path(TRACES) / "cant-be-late-windows.tar.gz")
    zones = [Market(one.zone, held.gap, (one,)) for held in found for one in held.zones]
    assert (len(zones), {held.ticks for held in zones}) == (8, {1764})
    for policy, hours in ((greedy, 31.081), (uniform_progress, 25.235)):
        # Each 39th start of each zone; all of them are the benchmark's.
        runs = [
            player.play(policy, start)
            for held in zones
            for player in [Player(held, Job(48 * HOUR, 60 * HOUR), CANT_BE_LATE)]
            for start in player.starts(39)
        ]
        assert all(run.kept for run in runs)
        assert fmean(run.on_demand_work for run in runs) / HOUR == pytest.approx(hours, abs=0.5)


# --- traces ------------------------------------------------------------------------------------------------------


def write(folder, name, data, **more):
    facts = {"gap_seconds": 600, **more.pop("metadata", {})}
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metadata": facts, "data": data, **more}))
    return path


def test_counts_of_machines_and_preemptions_are_told_apart(tmp_path):
    write(tmp_path, "availability/us-west-2a_v100_1.json", [1, 1, 0])
    write(tmp_path, "preemption/us-west-2a_v100_4.json", [4, 3, 0])
    write(tmp_path, "other/us-west-2a_k80_1.json", [1, 1, 0], metadata={"source_file": "x"})
    found = {held.name.rsplit("/", 1)[-1]: held for held in load(tmp_path, Reading(nodes=1))}
    assert found["v100_1"].zones[0].up == bytes([1, 1, 0])
    assert found["v100_4"].zones[0].up == bytes([1, 1, 0])
    assert found["k80_1"].zones[0].up == bytes([0, 0, 1])
    gang = {held.name.rsplit("/", 1)[-1]: held for held in load(tmp_path / "preemption", Reading("available", 4))}
    assert gang["v100_4"].zones[0].up == bytes([1, 0, 0])
    path = write(tmp_path, "unknown/us-west-2a_v100_1.json", [1, 1, 0])
    with pytest.raises(InvalidSkyPilotConfigError, match="--polarity available or --polarity preempted"):
        load(path)


def test_zones_prices_and_whole_traces(tmp_path):
    listed = {"price_info": {"on_demand_price": 82.5}}
    for name, mark in (("us-central1-a_h100_16", 0), ("europe-west1-c_h100_16", 1)):
        write(tmp_path, f"{name}/full.json", [mark] * 4, prices=[18.0] * 4, metadata=listed)
        write(tmp_path, f"{name}/0.json", [mark] * 2, prices=[18.0] * 2, metadata=listed)
    (held,) = load(tmp_path)
    assert [(one.zone, one.region, one.on_demand) for one in held.zones] == [
        ("europe-west1-c", "europe-west1", 82.5), ("us-central1-a", "us-central1", 82.5),
    ]  # fmt: skip
    assert held.ticks == 4
    assert held.only(["us-central1-a"]).zones[0].up == bytes([1] * 4)
    with pytest.raises(InvalidSkyPilotConfigError, match="no zone 'mars'"):
        held.only(["mars"])


def test_windows_of_one_trace_are_put_together_from_an_archive(tmp_path):
    parts = {"0": (5, [0, 1, 1]), "1": (6, [1, 1, 0]), "2": (9, [1])}
    for name, (start, data) in parts.items():
        write(tmp_path / "in", f"us-west-2b_k80_1/{name}.json", data,
              metadata={"start_time": start, "end_time": start + len(data)})  # fmt: skip
    (tmp_path / "in" / "us-west-2b_k80_1" / "._0.json").write_bytes(b"\0")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", "in")
    (held,) = load(tmp_path / "t.tar.gz")
    assert held.zones[0].up == bytes([1, 0, 0, 1, 0])


def test_lines_with_dates_and_prices_beside_them(tmp_path):
    lines = "date,availability\n2023-02-15 22:00:00,0\n2023-02-15 22:03:15,1\n2023-02-15 22:06:30,1\n"
    (tmp_path / "us-east-1a_v100_1.csv").write_text(lines)
    (tmp_path / "prices.json").write_text(json.dumps({"us-east-1a_v100_1": [0.9, 1.0, 1.1]}))
    (held,) = load(tmp_path)
    assert (held.gap, held.zones[0].up, held.zones[0].prices) == (195.0, bytes([0, 1, 1]), (0.9, 1.0, 1.1))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not JSON"),
        ("[1]", "its top level is no mapping"),
        ("{}", 'it has no "data"'),
        ('{"data": [1]}', 'it has no "metadata"'),
        ('{"data": [1], "metadata": {}}', '"gap_seconds" is'),
        ('{"data": [], "metadata": {"gap_seconds": 600}}', "data is no list"),
        ('{"data": [1, "x"], "metadata": {"gap_seconds": 600}}', r"data\[1\] is 'x'"),
        ('{"data": [NaN], "metadata": {"gap_seconds": 600}}', r"data\[0\] is"),
        ('{"data": [5], "metadata": {"gap_seconds": 600}, "prices": [1, 2]}', '"prices" has 2 numbers'),
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path, content, why):
    path = tmp_path / "us-east-1a.json"
    path.write_text(content)
    with pytest.raises(InvalidSkyPilotConfigError, match=why) as caught:
        load(path)
    assert "us-east-1a.json" in str(caught.value)


def test_folders_and_archives_without_traces_are_refused(tmp_path):
    with pytest.raises(InvalidSkyPilotConfigError, match="There is no"):
        load(tmp_path / "none")
    with pytest.raises(InvalidSkyPilotConfigError, match="neither JSON nor CSV"):
        load(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(InvalidSkyPilotConfigError, match="neither a tar archive"):
        load(tmp_path / "x.bin")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        facts = tarfile.TarInfo("us-east-1a.json")
        facts.size = 2**20
        archive.addfile(facts, io.BytesIO(os.urandom(2**20)))
    (tmp_path / "cut.tar.gz").write_bytes(whole.getvalue()[:5000])
    with pytest.raises(InvalidSkyPilotConfigError, match="the archive is damaged"):
        load(tmp_path / "cut.tar.gz")


# --- the command -------------------------------------------------------------------------------------------------


def sky(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


@pytest.fixture
def traces(tmp_path):
    folder = tmp_path / "traces"
    for name, data in (("us-east-1a_v100_1", [1, 1, 0, 1] * 50), ("us-west-2a_v100_1", [0, 1, 1, 1] * 50)):
        write(folder, f"availability/{name}.json", data)
    return folder


def test_the_command_compares_policies(traces, tmp_path):
    pytest.importorskip("numpy")
    task = tmp_path / "job.yaml"
    task.write_text("name: train\nrun: python train.py\n")
    words = [
        task,
        "--traces",
        traces,
        "--deadline",
        "10h",
        "--work",
        "7h",
        "--policy",
        "greedy,on-demand",
        "--starts",
        3,
    ]
    done = sky(*words, "-o", "json")
    assert done.exit_code == 0, done.output
    rows = {row["policy"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["greedy", "on-demand", OPTIMUM]
    assert rows["on-demand"]["cost"] == pytest.approx(7.2 * 3.06)
    assert rows["on-demand"]["finish"] == pytest.approx(7.2 * HOUR)
    assert all(row["kept"] == 1 and row["plays"] == 3 for row in rows.values())
    assert rows[OPTIMUM]["cost"] <= rows["greedy"]["cost"]
    shown = sky(*words)
    assert "POLICY" in shown.stdout
    assert "7 h of work in 10 h, 3 starts on 1 market" in shown.stderr


def test_the_command_says_what_is_missing(traces):
    assert "either --traces or --seeds" in sky("--deadline", "10h").stderr
    assert "is no policy" in sky("--traces", traces, "--deadline", "10h", "--policy", "magic").stderr
    assert "allowed: a duration" in sky("--traces", traces, "--deadline", "soon").stderr
    late = sky("--traces", traces, "--deadline", "900h")
    assert isinstance(late.exception, InvalidSkyPilotConfigError)
    assert "No trace lasts until the deadline" in str(late.exception)
    plot = sky("--traces", traces, "--deadline", "10h", "--plot", "x.pdf")
    assert "end it with .svg or .png" in str(plot.exception)


def test_the_command_plays_generated_markets_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "p.svg"
    words = ("--seeds", 2, "--deadline", "5h", "--work", "4h", "--starts", 2, "--no-optimum", "--plot", picture)
    done = sky(*words)
    assert done.exit_code == 0, done.output
    assert picture.read_text().startswith("<?xml")


def test_without_matplotlib_a_plot_is_refused_before_anything_is_played(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    done = sky("--seeds", 1, "--deadline", "5h", "--plot", tmp_path / "p.svg")
    assert "pip install 'altostratus[plot]'" in str(done.exception)
