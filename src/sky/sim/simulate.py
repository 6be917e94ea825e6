"""One job under one policy on one market, tick by tick; behind `sky simulate` and `benchmarks/policies.py`.

Two sets of rules. `OURS`: a machine is billed to the second at which it ends, restarts and the way of the data take
their time. `CANT_BE_LATE` and `SKYNOMAD` are the rules of two published simulators, so that their figures can be had:
time in whole ticks, the last tick billed whole or not at all.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from sky.core.policy.deadlines import EMPTY, EPSILON, HOUR, Memory, Observation, Offer, Policy
from sky.sim.markets import Board, Market, Transfers


class LastTick(StrEnum):
    """How the tick in which a job ends is billed."""

    USED = "used"
    WHOLE = "whole"
    FREE = "free"


@dataclass(frozen=True)
class Rules:
    """How a play reckons. `stepped`: safety nets reckon in whole ticks."""

    stepped: bool = False
    last_tick: LastTick = LastTick.USED


OURS = Rules()
CANT_BE_LATE = Rules(stepped=True, last_tick=LastTick.WHOLE)
SKYNOMAD = Rules(stepped=True, last_tick=LastTick.FREE)


@dataclass(frozen=True)
class Job:
    """Seconds of work, seconds from the start to the deadline, seconds that a restart takes, and its data."""

    work: float
    deadline: float
    overhead: float = 720.0
    transfers: Transfers = field(default_factory=Transfers)


@dataclass(frozen=True)
class Stretch:
    """A machine's time: seconds since the job's start, USD."""

    zone: str
    spot: bool
    began: float
    ended: float
    cost: float
    reason: str


@dataclass(frozen=True)
class Run:
    """How it went. Times in seconds since the job's start, sums in USD."""

    cost: float
    finish: float
    kept: bool
    preemptions: int
    starts: int
    on_demand: float
    spot: float
    moved: float
    #: Of the work, what was done on on-demand, in seconds.
    on_demand_work: float = 0.0
    stretches: tuple[Stretch, ...] = ()


@dataclass(slots=True)
class _State:
    running: Offer | None = None
    place: int = -1
    warming: float = 0.0
    done: float = 0.0
    region: str = ""
    memory: Memory = EMPTY
    cost: float = 0.0
    moved: float = 0.0
    on_demand_work: float = 0.0
    preemptions: int = 0
    starts: int = 0
    time: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    finish: float = math.inf
    reason: str = ""
    began: tuple[float, float] = (0.0, 0.0)
    stretches: list[Stretch] = field(default_factory=list)


def horizon(job: Job, gap: float) -> int:
    """Return how many ticks of a market a play needs."""
    return math.ceil(job.deadline / gap - 1e-9)


class Player:
    """Plays one kind of job on one market; what both have in common over many starts is worked out once."""

    def __init__(
        self, market: Market, job: Job, rules: Rules = OURS, *, record: bool = False, board: Board | None = None
    ) -> None:
        """`record` keeps the stretches of machines; `board` is one of the same market, overhead and transfers."""
        self.market = market
        self.job = job
        self.rules = rules
        self.record = record
        self.board = board or Board(market, job.overhead, job.transfers)

    def starts(self, step: int) -> range:
        """Return the ticks at which a job may start so that the market lasts to its deadline, each `step`-th."""
        return range(0, self.market.ticks - horizon(self.job, self.market.gap) + 1, step)

    def play(self, policy: Policy, start: int = 0) -> Run:
        """Return how the job went that started at this tick."""
        last = start + horizon(self.job, self.market.gap)
        state = _State()
        tick = start
        while True:
            if state.running is not None and state.running.spot:
                self._goes_on(state, state.running, start, tick)
            review = self._decide(policy, state, start, tick)
            following = min(self._next(state, start, tick, review), last)
            self._advance(state, start, tick, following)
            tick = following
            if state.finish < math.inf or tick >= last:
                break
        return self._result(state, last, start)

    def _goes_on(self, state: _State, running: Offer, start: int, tick: int) -> None:
        """A spot machine is lost, or costs what it costs now."""
        zone = self.market.zones[state.place]
        if not zone.up[tick]:
            self._ended(state, (tick - start) * self.market.gap, lost=True)
        elif zone.prices[tick] != running.price:
            state.running = running._replace(price=zone.prices[tick])

    def _decide(self, policy: Policy, state: _State, start: int, tick: int) -> float:
        gap, job, board = self.market.gap, self.job, self.board
        now = (tick - start) * gap
        seen = Observation(
            now, 0.0, job.deadline, job.work, job.work - state.done, job.overhead,
            board.spot(tick, state.region), board.on_demand(state.region), state.running, state.warming,
            gap, 0.0, state.region, gap if self.rules.stepped else 0.0,
        )  # fmt: skip
        decision, state.memory = policy(seen, state.memory)
        offer = decision.offer
        if offer is None:
            if state.running is not None:
                self._ended(state, now)
        elif state.running is None or offer.zone != state.running.zone or offer.spot != state.running.spot:
            if state.running is not None:
                self._ended(state, now)
            self._order(state, offer, now)
            state.reason = decision.reason
        return decision.review

    def _order(self, state: _State, offer: Offer, now: float) -> None:
        state.running = offer
        state.place = self.board.places[offer.zone]
        state.warming = offer.start
        state.starts += 1
        state.cost += offer.entry
        state.moved += offer.entry
        state.region = offer.region
        state.began = (now, state.cost)

    def _ended(self, state: _State, now: float, *, lost: bool = False) -> None:
        running = state.running
        if running is None:
            return
        if self.record:
            began, before = state.began
            cost = state.cost - before
            state.stretches.append(Stretch(running.zone, running.spot, began, now, cost, state.reason))
        state.preemptions += lost
        state.running, state.warming = None, 0.0

    def _next(self, state: _State, start: int, tick: int, review: float) -> int:
        following = tick + 1 if self.rules.stepped else self.market.changes[tick]
        if following > tick + 1 and review < math.inf:
            following = max(tick + 1, min(following, start + math.floor(review / self.market.gap + 1e-9)))
        return following

    def _advance(self, state: _State, start: int, tick: int, following: int) -> None:
        running = state.running
        if running is None:
            return
        gap, job = self.market.gap, self.job
        left = job.work - state.done
        span = (following - tick) * gap
        need = state.warming + left
        if need <= span + EPSILON:
            state.finish = (tick - start) * gap + need
            ticks, part = divmod(need, gap)
            whole = tick + round(ticks)
            if part > EPSILON:
                share = {LastTick.USED: part / gap, LastTick.WHOLE: 1.0, LastTick.FREE: 0.0}[self.rules.last_tick]
            else:
                share = 0.0
                whole -= self.rules.last_tick is LastTick.FREE
            self._bill(state, tick, whole)
            if share:
                rate = running.price if not running.spot else self.market.zones[state.place].prices[whole]
                state.cost += rate * gap / HOUR * share
                state.time[running.spot] += gap * share
            state.on_demand_work += 0.0 if running.spot else left
            state.done = job.work
            self._ended(state, state.finish)
            return
        self._bill(state, tick, following)
        working = max(0.0, span - state.warming)
        state.warming = max(0.0, state.warming - span)
        state.done += working
        state.on_demand_work += 0.0 if running.spot else working

    def _bill(self, state: _State, tick: int, following: int) -> None:
        running = state.running
        assert running is not None
        if running.spot:
            sums = self.market.spent[state.place]
            state.cost += sums[following] - sums[tick]
        else:
            state.cost += running.price * (following - tick) * self.market.gap / HOUR
        state.time[running.spot] += (following - tick) * self.market.gap

    def _result(self, state: _State, last: int, start: int) -> Run:
        job = self.job
        if state.finish == math.inf:
            self._late(state, (last - start) * self.market.gap)
        kept = state.finish <= job.deadline + EPSILON
        return Run(
            state.cost, state.finish, kept, state.preemptions, state.starts, state.time[False], state.time[True],
            state.moved, state.on_demand_work, tuple(state.stretches),
        )  # fmt: skip

    def _late(self, state: _State, now: float) -> None:
        """The deadline has passed: on-demand to the end, since nobody knows the market from here on."""
        if state.running is None or state.running.spot:
            self._ended(state, now)
            self._order(state, self.board.on_demand(state.region)[0], now)
        assert state.running is not None
        need = state.warming + self.job.work - state.done
        state.cost += state.running.price * need / HOUR
        state.time[False] += need
        state.on_demand_work += self.job.work - state.done
        state.finish = now + need
        self._ended(state, state.finish)
