"""`sky cost-report`, what clusters cost, and `sky ledger`, everything that is billed. Loaded by the root group."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.completion import complete_cluster
from sky.cli.output import FORMATS, emit
from sky.cli.records import Record, number, text
from sky.cli.status_view import resources
from sky.cli.terminal import say, talk
from sky.core.policy import focus as focus_columns
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


_LINES = ("CLUSTER", "KIND", "WHAT", "INFRA", "TYPE", "USER", "BEGAN", "ENDED", "COST/hr", "COST")
#: Keys of a line as `-o json` and CSV promise them, in order.
_KEYS = (
    "cluster", "kind", "resource", "cloud", "region", "zone", "instance_type", "market", "user", "workspace",
    "price_hourly", "began", "ended", "cost", "reason", "note", "cluster_hash", "number", "labels", "origin",
)  # fmt: skip


@options.command("ledger", help="Show everything that is billed, line by line: since when, at which price, for whom.")
@click.argument("cluster", required=False, shell_complete=complete_cluster)
@click.option("-a", "--all", "everything", is_flag=True, help="Also what has ended.")
@click.option("--user", help="Of this user alone.")
@click.option("--cloud", help="On this cloud alone.")
@click.option("--days", type=click.IntRange(min=0), help="With --all: not what ended longer ago; 0 for all.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice((*FORMATS, "csv")),
    default="table",
    help="Form of the result on stdout.",
)
@click.option(
    "--focus",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="As CSV in the columns of FOCUS 1.0, to FILE or to stdout.",
)
def ledger(*, cluster: str | None, everything: bool, form: str, focus: str | None, **asked: Any) -> int:
    """Show the ledger."""
    found: list[Record] = requests.get(
        sdk.ledger(cluster, everything, asked["user"], asked["cloud"], asked["days"] or None)
    )
    if focus is not None:
        return _write_focus(found, focus)
    rows = [{key: record.get(key) for key in _KEYS} for record in found]
    if form == "csv":
        text_of = io.StringIO()
        writer = csv.DictWriter(text_of, _KEYS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
        say(text_of.getvalue().rstrip("\n"))
        return exit_codes.OK
    if form != "table":
        emit(rows, form)
        return exit_codes.OK
    if not found:
        say("Nothing is billed." if not everything else "Nothing was billed.")
        return exit_codes.OK
    say(tables.render(_LINES, [_line(record) for record in found], right=("COST/hr", "COST")))
    still = sum(number(record, "price_hourly") for record in found if record.get("ended") is None)
    say(f"\nTotal: {money(sum(number(record, 'cost') for record in found))}; {money(still)} per hour goes on.")
    return exit_codes.OK


def focus_csv(lines: Sequence[Mapping[str, object]]) -> str:
    """Return lines of the ledger as CSV in the columns of FOCUS 1.0."""
    text_of = io.StringIO()
    writer = csv.DictWriter(text_of, focus_columns.COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in focus_columns.rows(lines, times.now()):
        writer.writerow({key: _amount(value) for key, value in row.items()})
    return text_of.getvalue()


def _amount(value: object) -> object:
    """A cell: amounts without exponents, and so exact that sums are right to the cent."""
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else _cell(value)


def _write_focus(lines: Sequence[Record], path: str) -> int:
    told = focus_csv(lines)
    if path == "-":
        say(told.rstrip("\n"))
        return exit_codes.OK
    try:
        Path(path).write_text(told, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    talk(f"{len(lines)} lines are in {path}.")
    return exit_codes.OK


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: names are chosen by users."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _line(record: Record) -> list[str]:
    cloud, where = text(record, "cloud"), text(record, "zone") or text(record, "region")
    place = cloud if where in ("", cloud) else f"{cloud}/{where}"
    spot = " [spot]" if text(record, "market") == "spot" else ""
    note = text(record, "note")
    return [
        text(record, "cluster"),
        text(record, "kind"),
        text(record, "resource") + (f" ({note})" if note else ""),
        place,
        text(record, "instance_type") + spot,
        text(record, "user"),
        times.local_time(number(record, "began")),
        times.local_time(number(record, "ended")) if record.get("ended") is not None else "-",
        money(number(record, "price_hourly")),
        money(number(record, "cost")),
    ]
