"""Deadline policies over several zones and regions: where to run spot, and when a cheaper place is worth a restart.

Called like those of `sky.core.policy.deadlines`, on whose pacing and safety net they stand.
"""

import math
from itertools import chain

from sky.core.policy.deadlines import (
    BEHIND,
    CATCH_UP,
    EPSILON,
    HOUR,
    SPOT_UP,
    STAY,
    Decision,
    Memory,
    Observation,
    Offer,
    Zone,
    held,
    may_begin,
    net,
    paced,
    refuge,
    same,
    slack,
    waiting,
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
        elif wanted.offer is not None and not wanted.offer.spot and dear is not None and _stands_in(seen, dear):
            wanted = Decision(dear, DEAR)
    return net(seen, wanted._replace(review=seen.now)), memory


def _stands_in(seen: Observation, dear: Offer) -> bool:
    """Whether dear spot is to be taken in place of on-demand."""
    return may_begin(seen, dear) and (seen.running is None or pays(seen, dear))


def _dear(seen: Observation, running: Offer, cheap: Offer | None) -> Decision:
    """On dear spot: to cheap spot where uniform progress would leave on-demand, or where the move pays."""
    if cheap is not None and pays(seen, cheap):
        return Decision(cheap, MOVE)
    return Decision(running, STAY)


# --- adaptive: ours ---------------------------------------------------------------------------------------------

LASTING = "spot that by what was seen of it will last long enough"
#: Seconds in which what was seen of a zone loses two thirds of its weight.
FADE = 4 * HOUR
#: What is believed of a zone before anything was seen of it: one loss in so many seconds.
PRIOR = 2 * HOUR
#: The pace below which nothing is bought for the sake of the pace: work left per time left.
PACE = 0.8
#: What an hour of progress may cost to begin on spot, and to leave on-demand for it; shares of the price of on-demand.
BEGIN = 0.65
LEAVE = 0.45
#: A move has to be cheaper by this share.
MARGIN = 0.02
#: Weight of time that is lost, in prices of on-demand, where all the slack is one restart.
SCARCE = 2.0


def _faded(zone: Zone, after: float) -> Zone:
    """Return what is known of a zone so many seconds later, if it stayed as it was."""
    fade = math.exp(-after / FADE)
    gained = FADE * (1 - fade) if zone.up else 0.0
    return Zone(zone.zone, zone.up, zone.exposure * fade + gained, zone.failures * fade)


def watched(seen: Observation, memory: Memory) -> Memory:
    """Return the memory with what the offers tell; the same memory where no zone came or went."""
    up = {offer.zone for offer in seen.spot}
    if up == {zone.zone for zone in memory.zones if zone.up}:
        return memory
    after = seen.now - memory.at
    zones = []
    for zone in memory.zones:
        then = _faded(zone, after)
        lost = zone.up and zone.zone not in up
        zones.append(Zone(zone.zone, zone.zone in up, then.exposure, then.failures + lost))
    zones += [Zone(name, True, 0.0, 0.0) for name in sorted(up - {zone.zone for zone in memory.zones})]
    return Memory(seen.now, tuple(zones))


def hazards(seen: Observation, memory: Memory) -> dict[str, float]:
    """Return losses per second that are to be expected of each zone's spot."""
    # As `_faded` has it, with what all zones have in common worked out once: this is asked at each look.
    fade = math.exp(-(seen.now - memory.at) / FADE)
    gained = FADE * (1 - fade)
    return {
        zone: (1 + failures * fade) / (PRIOR + (exposure * fade + (gained if up else 0.0)))
        for zone, up, exposure, failures in memory.zones
    }


def price_of_progress(offer: Offer, hazard: float, start: float, entry: float, scarcity: float, left: float) -> float:
    """Return the USD that an hour of progress costs on a spot machine that is lost at this rate (per second).

    It is paid for from the order to its loss or the end of the work, and works after `start`. Time that it takes and
    that is no progress costs `scarcity` (USD per hour) on top.
    """
    lost = min(hazard * start, 30.0)
    work = hazard * max(left, 60.0)
    paid = (1 - math.exp(-lost - work)) / hazard
    gained = math.exp(-lost) * (1 - math.exp(-work)) / hazard
    return (offer.price * paid + scarcity * (paid - gained) + entry * HOUR) / gained


def _best(seen: Observation, memory: Memory, ceiling: float) -> tuple[Offer | None, float, float]:
    """Return the spot offer to begin on, what progress costs there, and what it costs on the spot that runs.

    None where none may be begun, or none can be cheaper than what works: so it is until offers come, go or change.
    """
    running = held(seen)
    here = None if running is None else running.zone
    others = (offer for offer in seen.spot if offer.zone != here and may_begin(seen, offer))
    best, least, own = next(others, None), math.inf, math.inf
    # An hour of progress costs no less than an hour, and on what works already just that; offers come cheapest first.
    if best is None or (running is not None and seen.warming <= 0 and best.price >= running.price):
        return None, least, own
    room = slack(seen) - 2 * seen.overhead
    scarcity = SCARCE * ceiling * (min(1.0, seen.overhead / room) if room > 0 else 1.0)
    rates = hazards(seen, memory)
    if running is not None and running.zone in rates:
        own = price_of_progress(running, rates[running.zone], seen.warming, 0.0, scarcity, seen.left)
    for offer in chain((best,), others):
        if offer.price >= least:
            break
        cost = price_of_progress(offer, rates[offer.zone], offer.start, offer.entry, scarcity, seen.left)
        if cost < least:
            best, least = offer, cost
    return best, least, own


def adaptive(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Our default: progress where it costs least by what was seen of each zone, on-demand only where the pace asks.

    Differs from `tiered` in three ways: offers are compared by what an hour of progress costs on them, with the losses
    that are to be expected; while there is much time (`PACE`) it waits for spot; on-demand is left as soon as spot
    looks lasting, and not only when ahead.
    """
    memory = watched(seen, memory)
    ceiling = seen.on_demand[0].price if seen.on_demand else max((offer.price for offer in seen.spot), default=0.0)
    best, least, own = _best(seen, memory, ceiling)
    wanted = _adapted(seen, best, least / ceiling if best else math.inf, own / ceiling if best else math.inf)
    # What is believed of a zone changes slowly: to look again after a restart's time is soon enough.
    soon = seen.now + seen.overhead if best is not None else math.inf
    return net(seen, Decision(wanted.offer, wanted.reason, min(wanted.review, soon))), memory


def _adapted(seen: Observation, best: Offer | None, cost: float, own: float) -> Decision:
    """Decide by what progress costs on the best offer and on the running spot, in prices of on-demand."""
    running = seen.running
    if held(seen) is not None:
        moves = best is not None and cost < own * (1 - MARGIN)
        return Decision(best if moves else running, MOVE if moves else STAY, math.inf)
    time = seen.deadline - seen.now
    pace = max(seen.work / (seen.deadline - seen.began), PACE)
    if running is not None:
        ahead = pace * (time - 2 * seen.overhead) > seen.left
        if best is not None and (cost < LEAVE or (ahead and cost <= BEGIN)):
            return Decision(best, LASTING if not ahead else SPOT_UP, math.inf)
        return Decision(running, CATCH_UP, math.inf)
    if best is not None and cost <= BEGIN:
        return Decision(best, SPOT_UP, math.inf)
    if seen.left > pace * time + EPSILON:
        if best is not None and cost < DEAREST:
            return Decision(best, DEAR, math.inf)
        return Decision(refuge(seen), BEHIND, math.inf)
    return waiting(seen, seen.deadline - seen.left / pace)
