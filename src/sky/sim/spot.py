"""Spot markets of a world: zones that run dry and prices that move, as faults, so that a run can be shrunk by them.

Where they come from is `markets`: drawn from a seed, or recorded. `play` asks for them.
"""

from collections.abc import Iterator, Sequence
from random import Random

from sky.core.lifecycle.billing import LISTED
from sky.core.model import catalog
from sky.core.model.ledger import Question
from sky.sim.faults import Fault
from sky.sim.markets import Market, ZoneTrace, generated
from sky.sim.world import World

#: Seconds of a world for one tick of a market: an hour of a market that is recorded every ten minutes is a minute here.
TICK_S = 10.0
#: The most that a spot machine costs, as a share of its price on demand: at times more than that.
DEAREST = 1.5
#: Worlds in a hundred that have a market, if none is named.
_COMMON = 40


def drawn(seed: int, zones: Sequence[str], until: float) -> tuple[Fault, ...]:
    """What the market of a seed does until then, if it has one."""
    chance = Random(f"{seed}:market")  # noqa: S311 - a world that can be repeated
    if chance.randrange(100) >= _COMMON:
        return ()
    return played(generated(chance.randrange(1 << 30), ticks=200), seed, zones, until)


def played(market: Market, seed: int, zones: Sequence[str], until: float) -> tuple[Fault, ...]:
    """A stretch of a market, which one is drawn from the seed; its zones are shared out among those of the world."""
    ticks = int(until / TICK_S)
    chance = Random(f"{seed}:stretch")  # noqa: S311 - a world that can be repeated
    start = chance.randrange(max(1, market.ticks - ticks))
    order = chance.sample(range(len(market.zones)), len(market.zones))
    found: list[Fault] = []
    for number, name in enumerate(zones):
        trace = market.zones[order[number % len(order)]]
        span = range(start, min(start + ticks, market.ticks))
        found += [*_dry(trace, span, name), *_prices(trace, span, name)]
    return tuple(sorted(found, key=lambda each: (each.at, each.kind, each.where)))


def _dry(trace: ZoneTrace, span: range, zone: str) -> Iterator[Fault]:
    """A fault for each run of ticks without spot machines. Everybody's market is fine again when people go home."""
    since: int | None = None
    for at, tick in enumerate(span):
        if not trace.up[tick] and since is None:
            since = at
        elif trace.up[tick] and since is not None:
            yield _fault("market dry", since, at, zone)
            since = None
    if since is not None:
        yield _fault("market dry", since, len(span), zone)


def _fault(kind: str, since: int, until: int, zone: str, dose: float = 0.0) -> Fault:
    # Not on the stroke, when so much else happens.
    return Fault(kind, since * TICK_S + 0.7, (until - since) * TICK_S, dose, zone)


def _prices(trace: ZoneTrace, span: range, zone: str) -> Iterator[Fault]:
    before = trace.prices[span[0]] if len(span) else 0.0
    for at, tick in enumerate(span):
        if trace.prices[tick] != before:
            before = trace.prices[tick]
            share = min(DEAREST, max(0.1, before / trace.on_demand))
            yield _fault("price moves", at, at, zone, round(share, 4))


async def price_moves(world: World) -> dict[str, float]:
    """What spot machines cost above today's price, by cluster, where the records of their launch are lost."""
    machines, found = {machine.name: machine for machine in world.machines()}, dict[str, float]()
    for _, entry in await world.disk.ledger.lines(Question(ended=True)):
        if entry.note == LISTED and entry.market is catalog.Market.SPOT:
            more = machines[entry.resource].cost(world.clock.now()) - entry.cost(world.clock.now())
            found[entry.cluster_id] = found.get(entry.cluster_id, 0.0) + more
    return found
