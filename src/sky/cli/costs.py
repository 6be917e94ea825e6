"""`sky cost-report`: what clusters cost. Loaded by the root group when it runs."""

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.output import emit
from sky.cli.status_view import Record, number, resources, text
from sky.cli.terminal import say, talk
from sky.sdk import clusters as sdk
from sky.sdk import requests

#: Rows shown without --all, and days looked back without --days: the interface's figures.
DEFAULT_ROWS = 5
DEFAULT_DAYS = 30
_COLUMNS = ("NAME", "LAUNCHED", "DURATION", "RESOURCES", "STATUS", "COST/hr", "COST (est.)")


@options.command("cost-report", help="Show what clusters cost, those that are gone included.")
@click.option("-a", "--all", "everything", is_flag=True, help=f"All rows, not the newest {DEFAULT_ROWS}.")
@click.option("--days", type=click.IntRange(min=0), default=DEFAULT_DAYS, help="Days to look back (30); 0 for all.")
@options.output
def cost_report(*, everything: bool, days: int, form: str) -> int:
    """Show costs."""
    found: list[Record] = requests.get(sdk.cost_report(days=days or None))
    found = sorted(found, key=lambda record: -number(record, "launched_at"))
    if form != "table":
        emit([shape(record) for record in found], form)
        return exit_codes.OK
    if not found:
        say("No clusters on record.")
        return exit_codes.OK
    shown = found if everything else found[:DEFAULT_ROWS]
    at = times.now()
    rows = [
        [
            text(record, "name"),
            times.ago(number(record, "launched_at"), at),
            times.duration(number(record, "duration")),
            resources(record),
            text(record, "status") or "TERMINATED",
            money(number(record, "cost_hourly")),
            money(number(record, "total_cost")),
        ]
        for record in shown
    ]
    say(tables.render(_COLUMNS, rows, right=("COST/hr", "COST (est.)")))
    say(f"\nTotal: {money(sum(number(record, 'total_cost') for record in found))}")
    if len(shown) < len(found):
        talk(f"{len(found) - len(shown)} older rows not shown; --all shows them.")
    return exit_codes.OK


def money(amount: float) -> str:
    """Return an amount of USD: "$ 1.23"."""
    return f"$ {amount:,.2f}"


def shape(record: Record) -> dict[str, object]:
    """Return a row as `-o json` promises it."""
    return {
        "name": text(record, "name"),
        "status": text(record, "status") or "TERMINATED",
        "resources": resources(record),
        "nodes": record.get("num_nodes"),
        "launched_at": record.get("launched_at"),
        "duration": record.get("duration"),
        "cost_hourly": record.get("cost_hourly"),
        "total_cost": record.get("total_cost"),
    }
