"""Budgets. The interface has no functions for these; they are ours. Reached as `sky.budget_set` and so on.

What they return are records: mappings whose fields are attributes as well. Errors are raised as by every call.
"""

from __future__ import annotations

from collections.abc import Sequence

from sky.sdk.records import Record
from sky.sdk.requests import get, read
from sky.sdk.transport import call


def budget_set(
    name: str,
    amount: float,
    scope: str = "all",
    of: str = "",
    *,
    period: str = "total",
    actions: Sequence[str] = (),
) -> Record:
    """Set a budget of `amount` USD, or change the one of this name. Returns it with how it stands.

    scope: all, or user, workspace, label (`of` is `key=value`) or job (its number). period: total, day, week or month.
    actions: such as `80% notify`, `100% refuse_new`, `110% stop_idle`, `120% checkpoint_and_stop`, `150% stop_all`.
    Raises ValueError, PermissionDeniedError.
    """
    body = {"name": name, "amount": amount, "scope": scope, "of": of, "period": period, "actions": list(actions)}
    return Record(call("POST", "/budgets/set", body).json())


def budget_list() -> list[Record]:
    """Budgets that concern the caller, and how they stand: `spent`, `reserved`, `amount`, `share`, `reached` …"""
    return [Record(each) for each in get(read("budgets", {}))]


def budget_remove(name: str) -> None:
    """Forget a budget. Raises ValueError, PermissionDeniedError."""
    call("POST", "/budgets/remove", {"name": name})
