"""The plan of one task: the best placements in the order in which they are tried, and why each stands there.

The engine's plans call `plan_task` for launches and dry runs; `several` plans tasks that depend on each other.
"""

from collections.abc import Sequence
from itertools import islice

from sky.core.model.offers import Plan, Standing
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.gravity import line, money, span
from sky.core.optimizer.locations import Search
from sky.core.optimizer.rank import Ranked, Ranking
from sky.core.optimizer.sold import Sold

#: Placements that a plan holds.
MOST = 100


def plan_task(
    task: TaskSpec,
    catalog: Sold,
    conditions: Conditions,
    goal: Goal = Goal.COST,
    *,
    most: int = MOST,
) -> Plan:
    """The first `most` placements in failover order.

    A plan without placements says why of what was nearest; `relax.relaxations` knows what would help.
    """
    ranked = Search.of(task, catalog, conditions, goal).ranking()
    first = list(islice(ranked, most))
    rest = next(ranked, None)
    return laid_out(first, conditions, goal, more=0 if rest is None else None, ranking=ranked)


def laid_out(
    first: Sequence[Ranked],
    conditions: Conditions,
    goal: Goal,
    *,
    more: int | None = None,
    ranking: Ranking | None = None,
) -> Plan:
    """Ranked offers as a plan."""
    if not first:
        return Plan((), ranking.rejections if ranking else (), (), 0)
    best = first[0]
    standings = tuple(
        Standing(
            objective=each.worth.key[0],
            price=each.worth.price,
            data=each.worth.data,
            expected_loss=each.worth.loss,
            hours=each.worth.hours,
            why=_why(each, best, position, goal),
        )
        for position, each in enumerate(first)
    )
    return Plan(
        placements=tuple(each.placement() for each in first),
        rejections=ranking.rejections if ranking else (),
        standings=standings,
        more=more,
        data=line(conditions.holdings, (best.offer.cloud, best.offer.region), conditions.tariff),
    )


def _why(each: Ranked, best: Ranked, position: int, goal: Goal) -> str:
    """`the cheapest`, `next cheapest: +12 %`; what makes up the figure beyond the price is named."""
    worse = each.worth.key[0] - best.worth.key[0]
    words = {Goal.COST: "cheapest", Goal.TIME: "fastest", Goal.EXPECTED: "cheapest to expect"}[goal]
    if position == 0:
        text = f"the {words}"
    elif each.wish.rank != best.wish.rank and worse < 0:
        text = f"after the alternatives that you put first: {_amount(each.worth.key[0], goal)}"
    elif worse <= abs(best.worth.key[0]) * 1e-9:
        text = f"as {'fast' if goal is Goal.TIME else 'cheap'} as the first"
    elif best.worth.key[0] > 0:
        text = f"next {words}: {percent(worse / best.worth.key[0])}"
    else:
        text = f"next {words}: {_amount(worse, goal)} more"
    details = []
    if each.worth.reserved:
        details.append(f"{each.worth.reserved} of {each.wish.num_nodes} nodes reserved")
    if each.worth.data:
        details.append(f"{money(each.worth.data)} for data")
    if each.worth.loss:
        details.append(f"{money(each.worth.loss)} expected loss")
    return text + (f" ({', '.join(details)})" if details else "")


def _amount(figure: float, goal: Goal) -> str:
    return span(figure) if goal is Goal.TIME else money(figure)


def percent(share: float) -> str:
    """`+12 %`, `+0.4 %`."""
    return f"{share * 100:+.0f} %" if abs(share) >= 0.01 else f"{share * 100:+.1f} %"
