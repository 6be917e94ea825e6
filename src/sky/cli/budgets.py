"""`sky budget`: set, list and remove budgets. Loaded when one of them runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.costs import money
from sky.cli.output import emit
from sky.cli.records import number, text
from sky.cli.terminal import say
from sky.sdk import budgets as sdk

_KEYS = (
    "name", "scope", "of", "amount", "period", "began", "ends", "spent", "reserved", "share", "actions", "reached",
    "made_by", "created_at",
)  # fmt: skip
_COLUMNS = ("NAME", "OF", "AMOUNT", "PERIOD", "SPENT", "RESERVED", "SHARE", "ACTIONS")


@options.command("set", help="Set a budget of AMOUNT USD, or change the one of this name.")
@click.argument("name")
@click.argument("amount", type=click.FloatRange(min=0, min_open=True))
@click.option("--user", help="What this user spends.")
@click.option("--in-workspace", "workspace", help="What is spent in this workspace.")
@click.option("--label", metavar="KEY=VALUE", help="What tasks with this label spend.")
@click.option("--job", type=int, help="What this managed job spends.")
@click.option("--period", type=click.Choice(["total", "day", "week", "month"]), default="total",
              help="When counting begins anew, in UTC (total: never).")  # fmt: skip
@click.option("--action", "actions", multiple=True, metavar="'SHARE% WHAT'",
              help="notify, refuse_new, stop_idle, checkpoint_and_stop or stop_all at a share; repeatable "
              "(80% notify, 100% refuse_new).")  # fmt: skip
@options.output
def set_(name: str, amount: float, *, form: str, **flags: str | int | tuple[str, ...] | None) -> int:
    """Set a budget."""
    period, actions = flags.pop("period"), flags.pop("actions")
    said = [(scope, str(of)) for scope, of in flags.items() if of is not None]
    if len(said) > 1:
        raise click.UsageError("A budget is of one of --user, --in-workspace, --label and --job, or of everything.")
    scope, of = said[0] if said else ("all", "")
    made = sdk.budget_set(name, amount, scope, of, period=str(period), actions=actions)  # type: ignore[arg-type]
    return _shown([made], form, one=True)


@options.command("list", help="Show budgets, what is spent of them, and what is reserved for what runs.")
@options.output
def list_(*, form: str) -> int:
    """Show budgets."""
    return _shown(sdk.budget_list(), form)


@options.command("rm", help="Forget budgets.")
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> int:
    """Forget budgets."""
    for name in names:
        sdk.budget_remove(name)
        say(f"Budget {name} is removed.")
    return exit_codes.OK


def shape(budget: Mapping[str, Any]) -> dict[str, object]:
    """Return a budget as `-o json` promises it."""
    return {key: budget.get(key) for key in _KEYS}


def _shown(found: Sequence[Mapping[str, Any]], form: str, *, one: bool = False) -> int:
    if form != "table":
        told = [shape(each) for each in found]
        emit(told[0] if one else told, form)
        return exit_codes.OK
    if not found:
        say("No budgets. `sky budget set NAME AMOUNT` sets one.")
        return exit_codes.OK
    rows = [
        [
            text(each, "name"),
            "everything" if each.get("scope") == "all" else f"{each.get('scope')} {each.get('of')}",
            money(number(each, "amount")),
            _period(each),
            money(number(each, "spent")),
            money(number(each, "reserved")),
            f"{number(each, 'share') * 100:.0f} %",
            ", ".join(f"{word} (reached)" if word in each["reached"] else word for word in each["actions"]),
        ]
        for each in found
    ]
    say(tables.render(_COLUMNS, rows, right=("AMOUNT", "SPENT", "RESERVED", "SHARE")))
    return exit_codes.OK


def _period(budget: Mapping[str, Any]) -> str:
    if budget.get("ends") is None:
        return "total"
    return f"{budget.get('period')}, since {times.local_time(number(budget, 'began'))}"
