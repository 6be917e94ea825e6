"""The bar of simulating a month of 10,000 jobs: CPU seconds of one core.

    python benchmarks/month.py [--jobs N] [--markets N] [--policy NAME]

What `sky simulate` does, over a month in steps of ten minutes: generated markets of one to six zones, on each of which
as many jobs begin. `arriving` begin at any moment of the month and take from an hour to six days; `steady` begin with
the month, and are to be done at its end. Each is played by the policy that jobs are given unless they say otherwise:
the same function of observations that the engine asks. Prints JSON, one object; making the markets is counted.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from sky.core.policy.catalogue import DEFAULT, POLICIES
from sky.sim.markets import HOUR, Board, Market, Transfers, generated
from sky.sim.simulate import OURS, Job, Player, Run, horizon

DAYS = 30
_GAP = 600.0
_TICKS = int(DAYS * 24 * HOUR / _GAP)


def arriving(market: Market, jobs: int, policy: str, chance: Random) -> Iterator[Run]:
    """Jobs of all lengths that begin at any moment and are over within the month."""
    board = Board(market, Job.overhead, Transfers())
    for _ in range(jobs):
        work = HOUR * chance.uniform(1.0, 144.0)
        job = Job(work, work * chance.uniform(1.1, 2.0) + HOUR)
        start = chance.randint(0, market.ticks - horizon(job, market.gap))
        yield Player(market, job, OURS, board=board).play(POLICIES[policy][0], start)


def steady(market: Market, jobs: int, policy: str, chance: Random) -> Iterator[Run]:
    """Jobs that take the whole month."""
    board = Board(market, Job.overhead, Transfers())
    for _ in range(jobs):
        length = market.ticks * market.gap
        job = Job(length * chance.uniform(0.4, 0.9), length)
        yield Player(market, job, OURS, board=board).play(POLICIES[policy][0])


def measure(jobs: int, count: int, policy: str) -> dict[str, Any]:
    """All figures."""
    told: dict[str, Any] = {"jobs": jobs, "markets": count, "policy": policy, "days": DAYS}
    for kind in (arriving, steady):
        begun = time.process_time()
        runs: list[Run] = []
        for seed in range(count):
            market, share = generated(seed, ticks=_TICKS, gap=_GAP), jobs // count + (seed < jobs % count)
            runs += kind(market, share, policy, Random(seed))
        told[kind.__name__] = {
            "cpu_s": round(time.process_time() - begun, 1),
            "machine_hours": round(sum(run.spot + run.on_demand for run in runs) / HOUR),
            "orders": sum(run.starts for run in runs),
            "preemptions": sum(run.preemptions for run in runs),
            "kept": sum(run.kept for run in runs),
        }
    told["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024 / 1000)
    return told


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--markets", type=int, default=100)
    parser.add_argument("--policy", choices=sorted(POLICIES), default=DEFAULT)
    given = parser.parse_args()
    print(json.dumps(measure(given.jobs, given.markets, given.policy), indent=2))


if __name__ == "__main__":
    main()
