"""What a control plane does about money and in its own time: receipts, and the loops of budgets, schedules and news.

Made and started by `plane`.
"""

from collections.abc import Coroutine, Iterable
from functools import partial

from sky.engine.budgets import BudgetCare
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties
from sky.engine.farewells import warn
from sky.engine.notifications import SHARED_LAG_S, Courier, Notifier
from sky.engine.receipts import Receipts
from sky.engine.schedules import Schedules, Submit

Loop = tuple[Coroutine[object, object, None], str]


class Money:
    """See the module."""

    def __init__(self, desk: Desk, submit: Submit, duties: Duties, courier: Courier | None) -> None:
        self.budget_rows = desk.store.budgets
        self.schedule_rows = desk.store.schedules
        self.receipts = Receipts(desk.store, desk.clock)
        self.budgets = BudgetCare(desk, duties, partial(warn, desk))
        self.schedules = Schedules(desk.store, desk.clock, desk.signals, submit, duties)
        lag = 0.0 if isinstance(duties, Alone) else SHARED_LAG_S
        self.notifier = (
            None if courier is None else Notifier(desk.store, desk.clock, desk.section, courier, duties, lag)
        )

    def loops(self) -> Iterable[Loop]:
        """What runs until cancelled, with names."""
        yield self.budgets.run(), "budgets"
        yield self.schedules.run(), "schedules"
        if self.notifier is not None:
            yield self.notifier.run(), "notifications"
