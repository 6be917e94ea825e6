"""Seed after seed in this process; what a failing one can do without; whether a planted bug is found."""

import time
from collections.abc import Callable, Iterator

from sky.sim.faults import Fault
from sky.sim.markets import Market
from sky.sim.planted import PLANTED
from sky.sim.play import Outcome, drawn, play


def seeds(first: int, *, seconds: float, most: int | None = None) -> Iterator[Outcome]:
    """Outcomes of one seed after the other, for as long or as many as asked for."""
    until, seed = time.monotonic() + seconds, first
    while time.monotonic() < until and (most is None or seed < first + most):
        yield play(seed)
        seed += 1


def shrink(
    seed: int, say: Callable[[str], None] = lambda line: None, recorded: Market | None = None
) -> tuple[Fault, ...]:
    """The fewest faults found with which a seed still breaks an invariant; raises ValueError for one that does not."""
    faults = list(drawn(seed, recorded))
    if not play(seed, tuple(faults)).broken:
        raise ValueError(f"seed {seed} breaks nothing")
    size = max(1, len(faults) // 2)
    while size:
        for start in range(0, len(faults), size):
            fewer = faults[:start] + faults[start + size :]
            if len(fewer) < len(faults) and play(seed, tuple(fewer)).broken:
                faults = fewer
                say(f"{len(faults)} faults are enough")
                break
        else:
            size //= 2
    return tuple(faults)


def hunt(name: str, first: int, *, seconds: float) -> Outcome | None:
    """The first seed that finds a planted bug, None if none does in time."""
    with PLANTED[name]():
        return next((outcome for outcome in seeds(first, seconds=seconds) if outcome.broken), None)
