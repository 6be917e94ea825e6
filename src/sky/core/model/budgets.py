"""A budget: how much what may cost in which time, and what is done as it is used up.

`core.policy.budgets` decides by it, `store.budgets` keeps it, `engine.budgets` acts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

E = TypeVar("E", bound=StrEnum)

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_SHARE = re.compile(r"(\d{1,4}(?:\.\d+)?)\s*%\s*:?\s*([a-z_]+)")
#: The most that a budget may be, in USD: beyond it somebody mistyped.
_MOST = 1e12
_LONGEST = 256


class Scope(StrEnum):
    """Whose money is counted. Of a label what is written `key=value`, of a job its number."""

    ALL = "all"
    USER = "user"
    WORKSPACE = "workspace"
    LABEL = "label"
    JOB = "job"


class Period(StrEnum):
    """When counting begins anew, in UTC; `total` counts from when the budget was set."""

    TOTAL = "total"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Action(StrEnum):
    """What is done once a share is spent, the mildest first."""

    NOTIFY = "notify"
    REFUSE_NEW = "refuse_new"
    STOP_IDLE = "stop_idle"
    CHECKPOINT_AND_STOP = "checkpoint_and_stop"
    STOP_ALL = "stop_all"


class Rung(NamedTuple):
    """At this share of the amount (1.0 is all of it), this is done."""

    share: float
    action: Action


#: What is done where nothing else was said.
USUAL = (Rung(0.8, Action.NOTIFY), Rung(1.0, Action.REFUSE_NEW))


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as recorded. `amount` in USD; `of` names whose money is counted (empty for all).

    `origin` is what lines of the ledger say of the job that is meant. `created_at` in seconds since the epoch.
    """

    name: str
    scope: Scope
    of: str
    amount: float
    period: Period = Period.TOTAL
    rungs: tuple[Rung, ...] = USUAL
    made_by: str = ""
    created_at: float = 0.0
    origin: str = ""

    @property
    def shown(self) -> str:
        """Whose money it is about, in words."""
        return "everything" if self.scope is Scope.ALL else f"{self.scope} {self.of}"


class Whose(NamedTuple):
    """Whom something costs money: `origin` as of a line of the ledger."""

    owner: str
    workspace: str
    labels: Mapping[str, str]
    origin: str = ""


class Spending(NamedTuple):
    """USD that were spent for somebody."""

    whose: Whose
    cost: float


class Reservation(NamedTuple):
    """USD that somebody was promised at admission; `spent` of them went since. `id` is the origin."""

    id: str
    request_id: str
    whose: Whose
    amount: float
    created_at: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        """What is still promised."""
        return max(0.0, self.amount - self.spent)


class Standing(NamedTuple):
    """How a budget stands: USD spent in its period, and promised."""

    budget: Budget
    began: float
    ends: float | None
    spent: float
    reserved: float


def read_budget(
    name: str, scope: str, of: str, amount: float, *, period: str, actions: Iterable[str], made_by: str, now: float
) -> Budget:
    """A budget from what somebody says. Raises ValueError with what is wrong and what is allowed."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: found {name[:80]!r}; allowed: letters, digits, '.', '_' and '-', at most 64")
    kind = _word(Scope, scope, "scope")
    if (kind is Scope.ALL) == bool(of):
        raise ValueError(f"scope: {kind} goes {'without' if kind is Scope.ALL else 'with'} a name")
    if len(of) > _LONGEST:
        raise ValueError(f"scope: the name is longer than {_LONGEST} characters")
    if kind is Scope.LABEL and not of.partition("=")[0]:
        raise ValueError(f"scope: found {of[:80]!r}; allowed: KEY=VALUE for a label")
    if kind is Scope.JOB and not of.isdecimal():
        raise ValueError(f"scope: found {of[:80]!r}; allowed: the number of a managed job")
    if not 0 < amount <= _MOST:
        raise ValueError(f"amount: found {amount}; allowed: USD above 0")
    rungs = tuple(sorted((read_rung(each) for each in actions), key=lambda each: each.share)) or USUAL
    return Budget(name, kind, of, float(amount), _word(Period, period, "period"), rungs, made_by, now)


def read_rung(said: str) -> Rung:
    """`80% notify`, or a bare action for 100 %. Raises ValueError."""
    found = _SHARE.fullmatch(said.strip().lower())
    if found is None:
        return Rung(1.0, _word(Action, said.strip().lower(), "actions"))
    share = float(found[1]) / 100
    if not 0 < share <= 10:
        raise ValueError(f"actions: found {said[:40]!r}; allowed: a share above 0% and at most 1000%")
    return Rung(share, _word(Action, found[2], "actions"))


def _word(kind: type[E], said: str, where: str) -> E:
    try:
        return kind(said)
    except ValueError:
        raise ValueError(f"{where}: found {said[:40]!r}; allowed: {', '.join(kind)}") from None
