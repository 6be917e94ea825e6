"""What is made small: money, time, or the money that is to be expected. Closed forms for one offer, and lower bounds.

`rank` orders by `worth` and stops by `bound`; the plans of several tasks add transfers between them to it.

The expected cost. A run of `h` hours on `n` nodes that cost `r` USD per hour together:

- Each try to get the machines succeeds with chance `a` (from the memory, 1 where nothing is known), independently: on
  average `(1 - a) / a` tries fail before one succeeds, and each costs `refusal_hours`.
- Each node is taken away at a rate of `-ln(1 - interruption)` per hour, and one is enough to stop all of them: they
  are lost at `L = n` times that rate. Work is kept in checkpoints every `c` hours (`c = h` without), and what was done
  since the last one is done again. A piece of `c` hours takes `(exp(L c) - 1) / L` hours on average and is interrupted
  `exp(L c) - 1` times; there are `h / c` of them. So machines run `T = (h / c) (exp(L c) - 1) / L` hours, with
  `N = L T` preemptions, each of which costs `recovery_hours` without machines and the tries to get new ones.
- Expected cost `= r T + data + V (T - h + N recovery_hours + (N + 1) (1 - a) / a refusal_hours + transfer_hours)`,
  with `V` the value of an hour. Never below `r h + data`, so the order of plain prices bounds the order of this.
"""

import enum
import math
from typing import NamedTuple

from sky.core.model.offers import Offer
from sky.core.optimizer.conditions import Conditions, Tempo
from sky.core.optimizer.memory import Key
from sky.core.optimizer.transfers import Transfer

#: Chances below this count as this: the forms stay finite, and nobody tries a thousand times.
LEAST_CHANCE = 0.01
#: exp() of more is taken for this; it is beyond every price.
_MOST_EXPONENT = 60.0


class Goal(enum.StrEnum):
    """What a plan makes small."""

    COST = "cost"
    TIME = "time"
    EXPECTED = "expected"


class Worth(NamedTuple):
    """How an offer stands: smaller `key`s are better. USD and hours; `reserved` nodes are paid for already."""

    key: tuple[float, float]
    price: float
    data: float
    loss: float
    hours: float
    reserved: int = 0


class Run(NamedTuple):
    """What is to be expected of a run: hours of machines, hours lost beside them."""

    machine_hours: float
    idle_hours: float


def expected_run(hours: float, nodes: int, interruption: float, chance: float, tempo: Tempo) -> Run:
    """The closed forms above. `interruption` per node and hour, `chance` of one try."""
    chance = max(chance, LEAST_CHANCE)
    refusals = (1 - chance) / chance * tempo.refusal_hours
    rate = -nodes * math.log(max(1e-12, 1 - interruption)) if interruption > 0 else 0.0
    if rate == 0.0 or hours == 0.0:
        return Run(hours, refusals)
    piece = min(tempo.checkpoint_hours or hours, hours)
    machine_hours = hours / piece * math.expm1(min(rate * piece, _MOST_EXPONENT)) / rate
    preemptions = rate * machine_hours
    return Run(machine_hours, preemptions * tempo.recovery_hours + (preemptions + 1) * refusals)


def worth(goal: Goal, offer: Offer, num_nodes: int, transfer: Transfer, conditions: Conditions) -> Worth:
    """How an offer stands for a run on so many nodes, with the data that it needs moved to it."""
    tempo = conditions.tempo
    hours = tempo.hours if tempo.hours_of is None else tempo.hours_of(offer)
    reserved = conditions.reserved(offer, num_nodes) if conditions.reservations else 0
    rate = offer.price_hourly * (num_nodes - reserved)
    price, loss = rate * hours, 0.0
    if goal is Goal.EXPECTED:
        chance = conditions.memory.chance(Key.of(offer), conditions.now) if conditions.memory.records else None
        interruption = offer.interruption
        if interruption is None:
            interruption = tempo.interruption if offer.use_spot else 0.0
        run = expected_run(hours, num_nodes, interruption, 1.0 if chance is None else chance.mean, tempo)
        lost_hours = run.machine_hours - hours + run.idle_hours + transfer.hours
        loss = rate * (run.machine_hours - hours) + tempo.value_of_hour * lost_hours
    whole, money = hours + transfer.hours, price + transfer.usd + loss
    key = (whole, money) if goal is Goal.TIME else (money, whole)
    return Worth(key, price, transfer.usd, loss, whole, reserved)


def bound(
    goal: Goal, price_hourly: float, num_nodes: int, transfer: Transfer, conditions: Conditions
) -> tuple[float, float]:
    """No offer at or above this catalog price stands better than this; offers of reservations are not meant."""
    tempo = conditions.tempo
    hours = tempo.hours + transfer.hours
    usd = price_hourly * conditions.least_multiplier * num_nodes * tempo.hours + transfer.usd
    # A rounding error must not put a bound above what it bounds. Hours are summed as in `worth`, and equal to the bit:
    # a bound below hours that are all the same would let nothing out before everything has been seen.
    usd *= 1 - 1e-12
    return (hours, usd) if goal is Goal.TIME else (usd, hours)
