"""Deadline policies on recorded and generated markets: published figures, dense starts, no deadline missed, speed.

Run as `python benchmarks/policies.py PART --traces DIR [--jobs N]`, DIR the folder of the published archives. Parts:
`published` (rules of the published simulators: figures to the digit), `dense` (our rules, every policy and the optimum
on dense starts at eight deadline ratios; `--docs` writes the table and plot of docs/policies.md), `feasible` (generated
markets: nothing that on-demand could hold is missed), `speed` (10,000 jobs in a month, one core). Needs numpy, and
matplotlib for `--docs`. Prints JSON; ends with 1 where a bar is missed.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sky.core.policy.catalogue import POLICIES
from sky.sim import plots
from sky.sim.markets import Market, Transfers, generated
from sky.sim.optimum import Optimum, omniscient
from sky.sim.simulate import CANT_BE_LATE, OURS, SKYNOMAD, Job, Player, Rules
from sky.sim.traces import load

HOUR = 3600.0
RATIOS = (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0)
SIX = ("us-central1-a", "us-west1-a", "europe-west1-c", "europe-west3-c", "asia-southeast1-b", "asia-south2-b")
THREE = ("us-east-1c", "us-east-2b", "us-west-2a")
WEEKS, H100, V100 = "cant-be-late-windows.tar.gz", "h100-13-zones.tar.gz", "v100-9-zones.tar.xz"
#: Hours on on-demand and cost over on-demand's, all starts (policies.md: published table 3 on this part of its trace).
TABLE_3 = {"greedy": (31.081, 0.77591), "uniform-progress": (25.235, 0.71480), "optimum": (20.832, 0.63949)}
#: USD, mean of six windows, per deadline ratio.
TABLE_H100 = {
    "optimum": (840.1499, 792.8371, 754.9509, 720.6770, 661.9949, 571.3817, 426.1730, 285.3269),
    "uniform-progress-away": (1187.6441, 1128.7656, 1073.5410, 1024.0827, 936.0897, 795.0058, 568.9803, 343.8347),
}
#: The optimum takes a hundred times as long as a play: it is worked out for each of so many starts, gaps on the same.
OPTIMUM_EVERY = 6
PLAYED = ("adaptive", "tiered", "uniform-progress", "uniform-progress-away", "greedy", "on-demand")
PUBLISHED = ("uniform-progress", "uniform-progress-away", "greedy")


@dataclass(frozen=True)
class Set:
    """Markets of one kind, the length of a deadline in ticks, and every how many ticks a job starts."""

    name: str
    markets: tuple[Market, ...]
    ticks: int
    step: int


def sets(traces: Path) -> list[Set]:
    """Return what the policies are played on."""
    h100 = load(traces / H100)[0]
    v100 = load(traces / V100)[0]
    weeks = single_zones(load(traces / WEEKS))
    rest = h100.only([zone.zone for zone in h100.zones if zone.zone not in SIX])
    return [
        Set("H100, 6 zones", (h100.only(SIX),), 311, 30),
        Set("H100, 7 other zones", (rest,), 311, 30),
        Set("H100, 13 zones", (h100,), 311, 60),
        Set("V100, 3 zones", (v100.only(THREE),), 1106, 250),
        Set("V100, 9 zones", (v100,), 1106, 500),
        Set("V100, each of 9 zones", tuple(v100.only([zone.zone]) for zone in v100.zones), 1106, 1500),
        Set("K80 and V100, each of 8 zones", tuple(weeks), 360, 18),
    ]


def single_zones(markets: Sequence[Market]) -> list[Market]:
    """Return each zone as a market."""
    return [Market(f"{m.name} {zone.zone}", m.gap, (zone,)) for m in markets for zone in m.zones]


def published(traces: Path, step: int, workers: int) -> dict[str, Any]:
    """Return our figures beside the published ones, under the published rules."""
    weeks = single_zones(load(traces / WEEKS))
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(_weeks, weeks, [step] * len(weeks)))
    found: dict[str, Any] = {}
    for name, (hours, share) in TABLE_3.items():
        runs = [run for part in parts for run in part[name]]
        ours = fmean(run[0] for run in runs), fmean(run[1] for run in runs)
        found[name] = {"on_demand_h": round(ours[0], 3), "published_h": hours, "share": round(ours[1], 5),
                       "published_share": share, "starts": len(runs)}  # fmt: skip
    six = load(traces / H100)[0].only(SIX)
    for name, line in TABLE_H100.items():
        found[f"H100 {name}"] = [{"ratio": ratio, "ours": round(_windows(six, ratio, name), 4), "published": figure}
                                 for ratio, figure in zip(RATIOS, line, strict=True)]  # fmt: skip
    return found


def _weeks(market: Market, step: int) -> dict[str, list[tuple[float, float]]]:
    job = Job(48 * HOUR, 60 * HOUR)
    player = Player(market, job, CANT_BE_LATE)
    found: dict[str, list[tuple[float, float]]] = {}
    for name in TABLE_3:
        # The published count of starts leaves out the very last one.
        for start in player.starts(step)[: -1 if step == 1 else None]:
            run = omniscient(player, start) if name == "optimum" else player.play(POLICIES[name][0], start)
            figures = run.on_demand_work / HOUR, run.cost / (48 * market.zones[0].on_demand)
            found.setdefault(name, []).append(figures)
    return found


def _windows(market: Market, ratio: float, name: str) -> float:
    player = Player(market, job_of(market, 311, ratio), SKYNOMAD)
    starts = range(0, 6 * 311, 311)
    if name == "optimum":
        return fmean(omniscient(player, start, coarse=True).cost for start in starts)
    return fmean(player.play(POLICIES[name][0], start).cost for start in starts)


def job_of(market: Market, ticks: int, ratio: float, rules: Rules = SKYNOMAD) -> Job:
    """Return the job whose deadline is so many ticks, in multiples of its work; 50 GB move at 0.5 Gbit/s."""
    deadline = ticks * market.gap
    seconds = 16.0 if rules is OURS else 0.0
    return Job(deadline / ratio, deadline, 720.0, Transfers(50.0, seconds_per_gb=seconds))


def dense(traces: Path, workers: int) -> dict[str, Any]:
    """Return the mean cost per set, ratio and policy under our rules, and how many plays were late."""
    found: dict[str, Any] = {}
    held = sets(traces)
    with ProcessPoolExecutor(workers) as pool:
        tasks = [(number, ratio, place) for number, one in enumerate(held) for ratio in RATIOS
                 for place in range(len(one.markets))]  # fmt: skip
        futures = [pool.submit(_dense, held[number], ratio, place) for number, ratio, place in tasks]
        for (number, ratio, _), future in zip(tasks, futures, strict=True):
            into = found.setdefault(held[number].name, {}).setdefault(str(ratio), {})
            for name, costs in future.result().items():
                into.setdefault(name, []).extend(costs)
            sys.stderr.write(".")
            sys.stderr.flush()
    return found


def _dense(one: Set, ratio: float, place: int) -> dict[str, list[float]]:
    market = one.markets[place]
    job = job_of(market, one.ticks, ratio, OURS)
    player = Player(market, job, OURS)
    starts = player.starts(one.step)
    least = [Optimum(market, job, OURS, start).cost() for start in starts[::OPTIMUM_EVERY]]
    found: dict[str, list[float]] = {"late": [0.0], "optimum": least}
    for name in PLAYED:
        runs = [player.play(POLICIES[name][0], start) for start in starts]
        found[name] = [run.cost for run in runs]
        found[f"{name}, where it is known"] = found[name][::OPTIMUM_EVERY]
        found["late"][0] += sum(not run.kept for run in runs)
    return found


def judged(found: dict[str, Any]) -> list[str]:
    """Return where a bar is missed: late at all, or dearer than the best published policy."""
    missed = []
    for name, ratios in found.items():
        for ratio, costs in ratios.items():
            ours, best = fmean(costs["adaptive"]), min(fmean(costs[each]) for each in PUBLISHED)
            if sum(costs["late"]):
                missed.append(f"{name} at {ratio}: {sum(costs['late']):.0f} plays were late")
            if ours > best * (1 + 1e-9) or (float(ratio) >= 1.15 and ours >= best):
                missed.append(f"{name} at {ratio}: {ours:.2f}, the best published {best:.2f}")
    return missed


def over(costs: dict[str, list[float]], policy: str) -> float:
    """Return a policy's cost over the optimum's, on the starts for which that is known."""
    return fmean(costs[f"{policy}, where it is known"]) / fmean(costs["optimum"])


def table(found: dict[str, Any]) -> str:
    """Return the tables of docs/policies.md."""
    lines = []
    for name, ratios in found.items():
        starts = len(next(iter(ratios.values()))["adaptive"])
        lines += [f"**{name}** ({starts} starts per ratio)", "", "| Deadline / work | " + " | ".join(ratios) + " |",
                  "|---" * (len(ratios) + 1) + "|"]  # fmt: skip
        for policy in PLAYED:
            cells = [f"{fmean(costs[policy]):,.2f}" for costs in ratios.values()]
            lines.append(f"| {policy} | " + " | ".join(cells) + " |")
        best = [
            f"{fmean(costs['adaptive']) / min(fmean(costs[each]) for each in PUBLISHED) - 1:+.1%}"
            for costs in ratios.values()
        ]
        lines.append("| adaptive over the best published | " + " | ".join(best) + " |")
        for policy in ("adaptive", "uniform-progress"):
            cells = [f"{over(costs, policy) - 1:+.1%}" for costs in ratios.values()]
            lines.append(f"| {policy} over the optimum | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw cost over the optimum's by deadline ratio, the mean over all sets."""
    lines = {
        policy: {float(ratio): fmean(over(ratios[ratio], policy) for ratios in found.values())
                 for ratio in map(str, RATIOS)}
        for policy in PLAYED
        if policy != "on-demand"
    }  # fmt: skip
    plots.ratios(lines, path, "Dense starts, mean over seven sets of recorded markets")


def feasible(count: int, workers: int) -> dict[str, int]:
    """Return how many plays on generated markets were late although on-demand from the start would not have been."""
    seeds = [range(first, min(first + 250, count)) for first in range(0, count, 250)]
    late: dict[str, int] = dict.fromkeys(POLICIES, 0)
    with ProcessPoolExecutor(workers) as pool:
        for part in pool.map(_feasible, seeds):
            for name, number in part.items():
                late[name] += number
    return {"markets": count, **late}


def drawn(seed: int, market: Market) -> Job:
    """Return a job with a deadline that on-demand can hold, most often by little."""
    chance = random.Random(seed)
    overhead = chance.choice([30.0, 120.0, 720.0, 1500.0, 3000.0])
    work = chance.uniform(0.2, 40) * HOUR
    deadline = work + overhead + chance.choice([0.0, 1.0, chance.uniform(0, 2 * overhead), chance.uniform(0, work)])
    most = market.ticks * market.gap
    if deadline > most:
        work, deadline = most - overhead, most
    transfers = Transfers(chance.choice([0.0, 50.0]), seconds_per_gb=chance.choice([0.0, 16.0]))
    return Job(work, deadline, overhead, transfers)


def _feasible(seeds: Sequence[int]) -> dict[str, int]:
    late = dict.fromkeys(POLICIES, 0)
    for seed in seeds:
        market = generated(seed, ticks=360)
        player = Player(market, drawn(seed, market))
        start = player.starts(1)[-1] if seed % 2 else 0
        for name, (policy, _) in POLICIES.items():
            late[name] += not player.play(policy, start).kept
    return late


def speed(traces: Path, count: int) -> dict[str, float]:
    """Return seconds for so many jobs under our policy, spread over a month of the V100 market, on one core."""
    whole = load(traces / V100)[0]
    month = round(30 * 24 * HOUR / whole.gap)
    market = Market("a month", whole.gap, tuple(_cut(whole, month)))
    began = time.perf_counter()
    player = Player(market, Job(48 * HOUR, 60 * HOUR))
    room = market.ticks - 1108
    cost = sum(player.play(POLICIES["adaptive"][0], number * room // count).cost for number in range(count))
    return {"jobs": count, "seconds": round(time.perf_counter() - began, 1), "usd": round(cost, 2)}


def _cut(market: Market, ticks: int) -> Iterator[Any]:
    for zone in market.zones:
        yield type(zone)(zone.zone, zone.region, zone.up[:ticks], zone.prices[:ticks], zone.on_demand)


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("published", "dense", "feasible", "speed"))
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--count", type=int, default=10_000, help="generated markets, or jobs")
    parser.add_argument("--step", type=int, default=1, help="ticks between starts (published)")
    parser.add_argument("--docs", type=Path, help="write tables and plot into this folder")
    given = parser.parse_args()
    missed: list[str] = []
    if given.part == "published":
        found: Any = published(given.traces, given.step, given.jobs)
    elif given.part == "dense":
        costs = dense(given.traces, given.jobs)
        missed = judged(costs)
        if given.docs:
            (given.docs / "policies-table.md").write_text(table(costs))
            picture(costs, given.docs / "policies.svg")
        found = {name: {ratio: {key: round(fmean(line), 3) for key, line in part.items()}
                        for ratio, part in one.items()} for name, one in costs.items()}  # fmt: skip
    elif given.part == "feasible":
        found = feasible(given.count, given.jobs)
        missed = [f"{name}: {number} late" for name, number in found.items() if name != "markets" and number]
    else:
        found = speed(given.traces, given.count)
        missed = ["more than 300 s"] if found["seconds"] > 300 else []
    print(json.dumps({"found": found, "missed": missed}, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
