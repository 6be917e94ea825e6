"""Deadline policies over several zones and regions: where to run spot, and when a cheaper place is worth a restart.

Called like those of `sky.core.policy.deadlines`, on whose pacing and safety net they stand.
"""

import math

from sky.core.policy.deadlines import (
    HOUR,
    STAY,
    Decision,
    Memory,
    Observation,
    Offer,
    held,
    may_begin,
    net,
    paced,
    same,
    slack,
)

DEAR = "dearer spot in place of on-demand"
MOVE = "a cheaper place pays back the move"

#: Shares of the cheapest on-demand price: up to the first, spot is cheap; from the second on, it is no better.
CHEAP = 0.5
DEAREST = 0.95
#: Seconds within which a move must pay back.
PAYBACK = 2 * HOUR


def pays(seen: Observation, offer: Offer, *, payback: float = PAYBACK) -> bool:
    """Whether moving from the running machine to this offer is paid back: restart, way of the data, slack burnt."""
    running = seen.running
    if running is None:
        return True
    gain = (running.price - offer.price) * min(seen.left, payback) / HOUR
    room = slack(seen) - 2 * seen.overhead
    if room <= 0:
        return False
    burnt = seen.on_demand[0].price * min(1.0, offer.start / room) * offer.start / HOUR if seen.on_demand else 0.0
    return gain > offer.price * offer.start / HOUR + offer.entry + burnt


def tiered(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Uniform progress over tiers of price: cheap spot as its spot, dear spot and on-demand as its on-demand."""
    running = held(seen)
    limit = seen.on_demand[0].price if seen.on_demand else math.inf
    cheap = seen.spot[0] if seen.spot and seen.spot[0].price <= CHEAP * limit else None
    dear = next((offer for offer in seen.spot if CHEAP * limit < offer.price < DEAREST * limit), None)
    if running is not None and running.price > CHEAP * limit:
        wanted = _dear(seen, running, cheap)
    else:
        wanted = paced(seen, cheap)
        if running is not None and cheap is not None and not same(cheap, running) and pays(seen, cheap):
            wanted = Decision(cheap, MOVE)
        elif wanted.offer is not None and not wanted.offer.spot and dear is not None and may_begin(seen, dear):
            if seen.running is None or pays(seen, dear):
                wanted = Decision(dear, DEAR)
    return net(seen, wanted._replace(review=seen.now)), memory


def _dear(seen: Observation, running: Offer, cheap: Offer | None) -> Decision:
    """On dear spot: to cheap spot where uniform progress would leave on-demand, or where the move pays."""
    if cheap is not None and pays(seen, cheap):
        return Decision(cheap, MOVE)
    return Decision(running, STAY)
