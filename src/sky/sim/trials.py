"""Policies side by side: the same job from many starts on the same markets, in means. Behind `sky simulate`.

Starts are dense: spread evenly over the whole of a market, never picked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.policy.catalogue import POLICIES
from sky.sim.markets import Market
from sky.sim.optimum import omniscient
from sky.sim.simulate import OURS, Job, Player, Rules, Run, horizon

OPTIMUM = "optimum"


@dataclass(frozen=True)
class Row:
    """One policy over all plays. Means, in seconds and USD; `kept` is the share of deadlines that were kept."""

    policy: str
    plays: int
    cost: float
    worst: float
    finish: float
    kept: float
    preemptions: float
    on_demand: float
    spot: float
    #: Cost over the optimum's, less one; None where the optimum was not asked for.
    gap: float | None
    costs: tuple[float, ...]


def spread(most: int, count: int | None) -> list[int]:
    """Return ticks from 0 to `most`, evenly spread: so many, or every one."""
    if count is None or count > most:
        return list(range(most + 1))
    return [round(number * most / max(1, count - 1)) for number in range(count)]


def plays(markets: Sequence[Market], job: Job, count: int | None, rules: Rules) -> Iterator[tuple[Player, int]]:
    """Yield a player and a start for each play; markets that end before the deadline are passed over.

    Raises InvalidSkyPilotConfigError where that leaves none.
    """
    some = False
    for market in markets:
        room = market.ticks - horizon(job, market.gap)
        if room < 0:
            continue
        some = True
        player = Player(market, job, rules)
        for start in spread(room, count):
            yield player, start
    if not some:
        longest = max(market.ticks * market.gap for market in markets)
        raise InvalidSkyPilotConfigError(
            f"No trace lasts until the deadline: {job.deadline / 3600:g} h, and the longest has {longest / 3600:.1f} h."
            " Set an earlier --deadline, or name longer traces."
        )


def compare(
    markets: Sequence[Market],
    job: Job,
    policies: Sequence[str],
    *,
    count: int | None = None,
    rules: Rules = OURS,
    optimum: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Return a row per policy, and one of the optimum at the end, over `count` starts per market (None: every tick).

    `told` is called with the name of what is played next.
    """
    held = list(plays(markets, job, count, rules))
    best: list[Run] | None = None
    if optimum:
        told(OPTIMUM)
        best = [omniscient(player, start) for player, start in held]
    yardstick = fmean(run.cost for run in best) if best else None
    rows = []
    for name in policies:
        told(name)
        policy = POLICIES[name][0]
        rows.append(_row(name, [player.play(policy, start) for player, start in held], yardstick))
    return rows if best is None else [*rows, _row(OPTIMUM, best, yardstick)]


def _row(name: str, runs: Sequence[Run], yardstick: float | None) -> Row:
    cost = fmean(run.cost for run in runs)
    return Row(
        policy=name,
        plays=len(runs),
        cost=cost,
        worst=max(run.cost for run in runs),
        finish=fmean(run.finish for run in runs),
        kept=fmean(run.kept for run in runs),
        preemptions=fmean(run.preemptions for run in runs),
        on_demand=fmean(run.on_demand for run in runs),
        spot=fmean(run.spot for run in runs),
        gap=cost / yardstick - 1 if yardstick else None,
        costs=tuple(run.cost for run in runs),
    )
