"""Deadline policies: what a job that must end in time runs on next, spot, on-demand or nothing, and where.

Called by the engine for managed jobs with `strategy: deadline`, and by `sky.sim.simulate` over recorded markets. A
policy is a plain function of what is observed and of a small memory of its own; it reads no clock and may be asked at
any moment, as often as one likes. Times are seconds, prices USD per hour, sums USD. docs/policies.md tells the model.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

HOUR = 3600.0
#: Seconds below which two times are the same; what floats lose over months is far less.
EPSILON = 1e-3


class Offer(NamedTuple):
    """A machine (or gang) that can be had now, as seen from where the job's data is."""

    zone: str
    region: str
    spot: bool
    #: USD per hour.
    price: float
    #: Seconds from the order until work goes on: the restart, and the way of the checkpoint.
    start: float
    #: USD once, for the way of the checkpoint.
    entry: float = 0.0


class Observation(NamedTuple):
    """What a policy may know. Offers are those that can be had; what runs is among them as long as it can be had."""

    now: float
    began: float
    deadline: float
    #: Seconds of computing that the whole job takes, and that are left; only what is saved counts as done.
    work: float
    left: float
    #: Seconds that a restart costs where the data is.
    overhead: float
    #: The cheapest first, in each.
    spot: tuple[Offer, ...]
    on_demand: tuple[Offer, ...]
    running: Offer | None = None
    #: Seconds until what runs begins to work; 0 when it works.
    warming: float = 0.0
    #: The longest time until the policy is asked again while nothing changes.
    grain: float = 0.0
    #: Seconds that a loss may cost beside the restart: until it is noticed, and work that is not saved yet.
    lag: float = 0.0
    #: Where the data is; empty before the first machine.
    region: str = ""
    #: Reckon time in whole steps of this many seconds, as the published simulators do; 0 for exact time.
    step: float = 0.0


class Decision(NamedTuple):
    """What to run from now on (`None` is to wait), why, and when to ask again if nothing that is observed changes."""

    offer: Offer | None
    reason: str
    #: Time; until then the same would be decided again, as long as offers and progress go on as they do.
    review: float = 0.0


class Zone(NamedTuple):
    """What was seen of a zone's spot until `Memory.at`: seconds for which it was up, and times that it went.

    Both fade, so that what was seen long ago counts less.
    """

    zone: str
    up: bool
    exposure: float
    failures: float


class Memory(NamedTuple):
    """What a policy carries from one decision to the next; starts as `EMPTY`. Most policies need none."""

    at: float = 0.0
    zones: tuple[Zone, ...] = ()


EMPTY = Memory()

Policy = Callable[[Observation, Memory], tuple[Decision, Memory]]

DONE = "the work is done"
STAY = "the spot machine goes on for as long as it lasts"
SPOT_UP = "spot is to be had"
WAIT = "time enough to wait for spot"
NET = "the last moment from which on-demand ends in time"
NET_SPOT = "no time for another start; the spot machine may still end in time"
BEHIND = "behind the even pace"
CATCH_UP = "on-demand until two restarts ahead of the even pace, and spot to move to"
LATE = "nothing ends in time any more; what ends first"
ALWAYS = "on-demand from the start"


def same(one: Offer | None, other: Offer | None) -> bool:
    """Whether both are the same machine; prices and ways to it may have changed."""
    if one is None or other is None:
        return one is other
    return one.zone == other.zone and one.spot == other.spot


def slack(seen: Observation) -> float:
    """Return the seconds that may still be lost if nothing else is lost."""
    return seen.deadline - seen.now - seen.left


def expected(seen: Observation, after: float = 0.0) -> float:
    """Return the work that is done at the even pace, so many seconds from now."""
    return (seen.now - seen.began + after) * seen.work / (seen.deadline - seen.began)


def refuge(seen: Observation) -> Offer | None:
    """Return the on-demand offer to fall back on: what runs, where the data is, or what costs least to the end."""
    if seen.running is not None and not seen.running.spot:
        return seen.running
    if seen.step:
        for offer in seen.on_demand:
            if offer.region == seen.region:
                return offer
        return seen.on_demand[0] if seen.on_demand else None
    room = slack(seen)
    best, least = None, math.inf
    for offer in seen.on_demand:
        cost = offer.price * (seen.left + offer.start) / HOUR + offer.entry
        if cost < least and offer.start <= room + EPSILON:
            best, least = offer, cost
    return best or min(seen.on_demand, key=lambda offer: offer.start, default=None)


def net(seen: Observation, wanted: Decision) -> Decision:
    """Return what is wanted, or what keeps the deadline safe where that would not.

    Invariant: whoever could end in time on on-demand before the decision, can after it, whatever spot does until the
    next one. So a spot machine is begun only with time for its start, its loss, and a start of on-demand. Work on spot
    costs no slack and goes on. With `step` it is the rule of the published simulators to the digit.
    """
    return _stepped_net(seen, wanted) if seen.step else _exact_net(seen, wanted)


def _stepped_net(seen: Observation, wanted: Decision) -> Decision:
    step, running = seen.step, seen.running
    time = math.floor((seen.deadline - seen.now) / step + 1e-9) * step
    one, two = (math.ceil((seen.left + n * seen.overhead) / step - 1e-9) * step for n in (1, 2))
    on_spot = running is not None and running.spot
    if one >= time:
        return Decision(running, NET_SPOT) if on_spot and seen.warming <= EPSILON else Decision(refuge(seen), NET)
    return Decision(refuge(seen), NET) if two >= time and not on_spot else wanted


def back(seen: Observation, region: str) -> float:
    """Return the seconds until on-demand works that is begun with the data in a region."""
    for offer in seen.on_demand:
        if offer.region == region:
            return seen.overhead
    return max((offer.start for offer in seen.on_demand), default=seen.overhead)


def may_begin(seen: Observation, offer: Offer) -> bool:
    """Whether there is time to begin this spot machine, lose it, and still end on on-demand."""
    return offer.start + seen.lag + back(seen, offer.region) <= slack(seen) + EPSILON


def may_wait(seen: Observation) -> bool:
    """Whether there is time to run nothing until the next question and still end on on-demand."""
    way = min((offer.start for offer in seen.on_demand), default=seen.overhead)
    return seen.grain + way <= slack(seen) + EPSILON


def _exact_net(seen: Observation, wanted: Decision) -> Decision:
    offer, running, room = wanted.offer, seen.running, slack(seen)
    if offer is None:
        safe = may_wait(seen)
    elif not offer.spot:
        safe = same(offer, running) or offer.start <= room + EPSILON
    elif same(offer, running):
        safe = seen.warming + seen.lag + back(seen, offer.region) <= room + EPSILON
    else:
        safe = may_begin(seen, offer)
    if safe:
        return wanted
    if running is not None and not running.spot:
        return Decision(running, NET, math.inf)
    if running is not None and seen.warming + seen.lag + back(seen, running.region) <= room + EPSILON:
        return Decision(running, STAY, math.inf)
    haven = refuge(seen)
    if haven is not None and haven.start <= room + EPSILON:
        return Decision(haven, NET, math.inf)
    return Decision(running or haven, LATE, math.inf)


def on_demand(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """On-demand from the start to the end: the price of certainty."""
    return Decision(refuge(seen), ALWAYS, math.inf), memory


def held(seen: Observation) -> Offer | None:
    """Return the spot machine that runs."""
    return seen.running if seen.running is not None and seen.running.spot else None


def greedy(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Spot whenever it is to be had, nothing else until the deadline compels."""
    offer = held(seen) or (seen.spot[0] if seen.spot else None)
    if seen.running is not None and not seen.running.spot:
        return Decision(seen.running, NET, math.inf), memory
    wanted = Decision(offer, (STAY if offer is seen.running else SPOT_UP), math.inf) if offer else waiting(seen)
    return net(seen, wanted), memory


def waiting(seen: Observation, until: float = math.inf) -> Decision:
    """Return the decision to wait, to be asked again when the net or `until` comes."""
    way = min((offer.start for offer in seen.on_demand), default=seen.overhead)
    return Decision(None, WAIT, min(until, seen.now + slack(seen) - way - seen.grain))


def paced(seen: Observation, spot: Offer | None) -> Decision:
    """Uniform progress, on whichever spot offer is put forward: keep to the even pace, by on-demand where behind.

    Once on on-demand it stays until two restarts ahead of the pace, and then leaves for spot only, never to wait.
    """
    offer = held(seen) or spot
    done = seen.work - seen.left
    running = seen.running
    if running is not None and not running.spot:
        ahead = done - expected(seen, 2 * seen.overhead)
        if offer is None or ahead <= 0:
            rate = 1 - seen.work / (seen.deadline - seen.began)
            # Zero is "go" only beyond it, so the question comes at that very moment and once more after it.
            review = seen.now + (seen.warming - ahead) / rate if rate > 0 and ahead < 0 else seen.now
            return Decision(running, CATCH_UP, review if offer is not None else math.inf)
        return Decision(offer, SPOT_UP, math.inf)
    if offer is not None:
        return Decision(offer, STAY if offer is running else SPOT_UP, math.inf)
    if done < expected(seen) - EPSILON:
        return Decision(refuge(seen), BEHIND, math.inf)
    rate = seen.work / (seen.deadline - seen.began)
    return waiting(seen, seen.began + done / rate)


def uniform_progress(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Uniform progress on the cheapest spot that is to be had when one is needed; never moves from spot to spot."""
    return net(seen, paced(seen, seen.spot[0] if seen.spot else None)), memory


def uniform_progress_away(seen: Observation, memory: Memory) -> tuple[Decision, Memory]:
    """Uniform progress that tries the region last used at the end: the published baseline of several regions."""
    away = [offer for offer in seen.spot if offer.region != seen.region]
    spot = away[0] if away else seen.spot[0] if seen.spot else None
    return net(seen, paced(seen, spot)), memory
