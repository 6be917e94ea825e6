"""What follows from how a budget stands: plain functions, called by `store.budgets` at admission and `engine.budgets`.

Money is counted against every budget that covers whose it is; the strictest decides. What is asked for is held against
what was spent and what others were promised and have not spent yet, so promises never exceed a budget that refuses.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sky.core.model.budgets import Action, Budget, Period, Reservation, Rung, Scope, Spending, Standing, Whose

#: Hours that are promised to what does not say how long it will run.
USUAL_H = 1.0
#: A tenth of a cent: sums of floating point are not held to more.
_NOTHING = 0.001


def window(budget: Budget, now: float) -> tuple[float, float | None]:
    """Begin and end of the period that `now` is in, seconds since the epoch; a `total` never ends."""
    if budget.period is Period.TOTAL:
        return budget.created_at, None
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if budget.period is Period.DAY:
        begin, end = day, day + timedelta(days=1)
    elif budget.period is Period.WEEK:
        begin = day - timedelta(days=day.weekday())
        end = begin + timedelta(days=7)
    else:
        begin = day.replace(day=1)
        end = (begin + timedelta(days=32)).replace(day=1)
    return begin.timestamp(), end.timestamp()


def covers(budget: Budget, whose: Whose) -> bool:
    """Whether money of somebody counts against a budget."""
    match budget.scope:
        case Scope.ALL:
            return True
        case Scope.USER:
            return whose.owner == budget.of
        case Scope.WORKSPACE:
            return whose.workspace == budget.of
        case Scope.LABEL:
            key, _, value = budget.of.partition("=")
            return whose.labels.get(key) == value
        case Scope.JOB:
            return bool(budget.origin) and whose.origin == budget.origin


def standing(budget: Budget, spent: Iterable[Spending], reserved: Iterable[Reservation], now: float) -> Standing:
    """How a budget stands; `spent` is of its period."""
    begin, end = window(budget, now)
    used = sum(each.cost for each in spent if covers(budget, each.whose))
    promised = sum(each.left for each in reserved if covers(budget, each.whose))
    return Standing(budget, begin, end, used, promised)


def due(one: Standing) -> tuple[Rung, ...]:
    """The rungs that were reached, the lowest first."""
    reached = one.spent + _NOTHING
    return tuple(each for each in one.budget.rungs if reached >= each.share * one.budget.amount)


def actions(several: Iterable[Standing], whose: Whose) -> frozenset[Action]:
    """All that is to be done about somebody's things now."""
    return frozenset(rung.action for one in several if covers(one.budget, whose) for rung in due(one))


#: Actions from which on nothing new may begin, whether the budget says so expressly or not.
_CLOSED = frozenset([Action.REFUSE_NEW, Action.CHECKPOINT_AND_STOP, Action.STOP_ALL])


def limit(budget: Budget) -> float | None:
    """USD beyond which nothing new begins; None for a budget that only watches."""
    shares = [each.share for each in budget.rungs if each.action in _CLOSED]
    return min(shares) * budget.amount if shares else None


def refusal(several: Iterable[Standing], asked: Sequence[tuple[Whose, float]]) -> str | None:
    """Why something new may not begin, in words that name the budget and its figures; None where it may.

    `asked` are all those that are to begin at once, with USD for each: all of them may, or none.
    """
    for one in several:
        most = limit(one.budget)
        mine = [amount for whose, amount in asked if covers(one.budget, whose)]
        if most is None or not mine:
            continue
        wanted = sum(mine)
        used_up = one.spent + _NOTHING >= most
        if used_up or one.spent + one.reserved + wanted > most + _NOTHING:
            return words(one, wanted, most)
    return None


def words(one: Standing, asked: float, most: float) -> str:
    """A refusal as it is told."""
    budget = one.budget
    period = "in all" if budget.period is Period.TOTAL else f"per {budget.period}"
    part = "" if most == budget.amount else f", of which {usd(most)} may be spent on what is new"
    return (
        f"the budget '{budget.name}' ({budget.shown}: {usd(budget.amount)} {period}{part}) has {usd(one.spent)} spent "
        f"and {usd(one.reserved)} reserved; asked: {usd(asked)}"
    )


def estimate(config: Mapping[str, object], price_hourly: float) -> float:
    """USD that are reserved for a task: its `max_cost`, else its price for as long as it may run, or says it works.

    `config` is its `job_recovery`; `price_hourly` is of all nodes.
    """
    most = _number(config.get("max_cost"))
    seconds = _number(config.get("max_run_time")) or _number(config.get("work"))
    expected = price_hourly * (seconds / 3600 if seconds else USUAL_H)
    return expected if most is None else most if seconds is None else min(most, expected)


def _number(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) and said > 0 else None


def usd(amount: float) -> str:
    """An amount as people read it."""
    return f"${amount:,.2f}"


# --- the most that a job may cost ------------------------------------------------------------------------------------

#: Seconds that it takes a job to end once it was told, for which its machines cost money on.
ENDING_S = 120.0


def reaches(spent: float, price_hourly: float, most: float, ahead_s: float = ENDING_S) -> bool:
    """Whether something that may cost `most` USD has to be told now, so that it has ended before that is spent."""
    return spent + price_hourly * ahead_s / 3600 >= most - _NOTHING


#: The share of its `max_cost` from which on a job with `on_max_cost: spot` runs on spot.
DOWNGRADE = 0.8


def downgrades(tasks: Mapping[str, object], spent: float) -> bool:
    """Whether what is left of a managed job of these task configurations runs on spot by now."""
    most = max_cost(tasks)
    wanted = any(recovery_of(task).get("on_max_cost") == "spot" for task in tasks.values())
    return wanted and most is not None and spent + _NOTHING >= most * DOWNGRADE


def recovery_of(task: object) -> Mapping[str, object]:
    """What a task's configuration says under `job_recovery`; nothing where it says nothing."""
    resources = task.get("resources") if isinstance(task, Mapping) else None
    if not isinstance(resources, Mapping):
        return {}
    several = resources.get("any_of") or resources.get("ordered")
    first = several[0] if isinstance(several, list | tuple) and several else resources
    found = (first.get("job_recovery") if isinstance(first, Mapping) else None) or resources.get("job_recovery")
    return found if isinstance(found, Mapping) else {}


def max_cost(tasks: Mapping[str, object]) -> float | None:
    """USD that a managed job of these task configurations may cost in all: the least that one of them says."""
    said = [found for task in tasks.values() if (found := _number(recovery_of(task).get("max_cost"))) is not None]
    return min(said, default=None)


def labels_of(task: object) -> Mapping[str, str]:
    """The labels of a task's configuration."""
    resources = task.get("resources") if isinstance(task, Mapping) else None
    if not isinstance(resources, Mapping):
        return {}
    several = resources.get("any_of") or resources.get("ordered")
    first = several[0] if isinstance(several, list | tuple) and several else resources
    found = first.get("labels") if isinstance(first, Mapping) else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def labels_in(text: str) -> Mapping[str, str]:
    """The labels that a line of the ledger has."""
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
