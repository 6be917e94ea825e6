"""Whether a spot job can be expected to end at all: its work and checkpoints against how often machines are lost.

Asked by `engine.managed_requests` before a job is taken on. Losses come at a constant rate, and what was not saved is
done again, as in `core.optimizer.goals`.
"""

import math
from typing import NamedTuple

#: Lost within an hour, where the price list tells nothing: as the optimizer has it.
USUAL = 0.05
#: A job that is expected to take so many times its work is told so.
MOST_TIMES = 4.0
#: Seconds between checkpoints of a task that declares them and not how often.
USUAL_EVERY_S = 3600.0
#: Exponents are cut off here: nobody lives that long.
_MOST = 50.0


class Survival(NamedTuple):
    """Chance that no machine is lost from start to end, and seconds until the end that are to be expected."""

    chance: float
    expected: float


def survival(work: float, every: float | None, restart: float, hourly: float, nodes: int = 1) -> Survival:
    """work, every (None: nothing is saved), restart: seconds. hourly: the chance that a node is lost within an hour."""
    rate = -nodes * math.log(max(1e-12, 1 - min(max(hourly, 0.0), 1.0))) / 3600
    if rate <= 0:
        return Survival(1.0, work + restart)
    piece = min(work, every or work)
    chance = math.exp(-min(_MOST, rate * (work + restart)))
    # A piece that begins after a loss begins with a restart; time goes by until it is done in one go.
    again = math.exp(min(_MOST, rate * piece)) - 1
    lost = again * (1 / rate + restart) - piece
    return Survival(chance, work + restart + max(0.0, lost) * work / piece)


def warning(
    work: float | None, every: float | None, restart: float, hourly: float | None, place: str, nodes: int = 1
) -> str | None:
    """What to tell before a job begins on spot that will hardly end; None where it will, or its work is not known.

    hourly: as the price list has it, None where that is not told.
    """
    if work is None:
        return None
    chance = USUAL if hourly is None else hourly
    found = survival(work, every, restart, chance, nodes)
    if found.expected <= MOST_TIMES * (work + restart):
        return None
    saved = "it saves nothing on the way" if every is None else f"it saves its work each {_span(every)}"
    how = f"{chance:.0%} of machines are lost within an hour in {place}"
    where = f"{nodes} node{'s' if nodes > 1 else ''}"
    return (
        f"on spot it will hardly end: {how}, {saved}, and {_span(work)} of work on {where} "
        f"are expected to take {_span(found.expected)}. Declare a `checkpoint` and write it more often, run it on "
        "demand, or use job_recovery: {strategy: deadline}"
    )


def _span(seconds: float) -> str:
    if seconds >= 1000 * 86400:
        return "years"
    for size, unit in ((2 * 86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / (86400 if unit == 'days' else size):.3g} {unit}"
    return f"{seconds:.0f} s"
