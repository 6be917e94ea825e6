"""Messages about budgets. Used by the server's routes."""

from sky.core.model.budgets import Rung, Standing
from sky.core.policy.budgets import due
from sky.wire.codec import Body, Record, field

_MOST_ACTIONS = 20


class BudgetBody(Body):
    """Arguments of `/budgets/set`. `amount` in USD; `of` names the user, workspace, label (`key=value`) or job.

    `actions` are texts such as `80% notify`; without any, 80% notify and 100% refuse_new.
    """

    name: str
    amount: float
    scope: str = "all"
    of: str = ""
    period: str = "total"
    actions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what is beyond all sense."""
        if len(self.actions) > _MOST_ACTIONS:
            raise ValueError(f"actions: found {len(self.actions)}; allowed: at most {_MOST_ACTIONS}")


class BudgetNameBody(Body):
    """Arguments of `/budgets/remove`."""

    name: str


class BudgetsBody(Body):
    """Arguments of `/budgets`."""


class BudgetRecord(Record):
    """A budget and how it stands. USD; times in seconds since the epoch; `share` of the amount that is spent.

    `actions` are all of it, `reached` those whose share is spent.
    """

    name: str
    scope: str
    of: str
    amount: float
    period: str
    began: float
    ends: float | None
    spent: float
    reserved: float
    share: float
    actions: list[str]
    reached: list[str]
    made_by: str
    created_at: float


def budget_record(one: Standing) -> BudgetRecord:
    """A budget as it is told."""
    budget = one.budget
    return BudgetRecord(
        name=budget.name,
        scope=budget.scope.value,
        of=budget.of,
        amount=budget.amount,
        period=budget.period.value,
        began=one.began,
        ends=one.ends,
        spent=one.spent,
        reserved=one.reserved,
        share=one.spent / budget.amount,
        actions=[_words(each) for each in budget.rungs],
        reached=[_words(each) for each in due(one)],
        made_by=budget.made_by,
        created_at=budget.created_at,
    )


def _words(rung: Rung) -> str:
    return f"{rung.share * 100:g}% {rung.action}"
