"""`sky jobs receipt` and `sky receipt`: what a managed job or a cluster has cost. Loaded when one of them runs."""

from collections.abc import Mapping
from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.completion import complete_cluster
from sky.cli.costs import focus_csv, money
from sky.cli.output import FORMATS, emit
from sky.cli.records import number, text
from sky.cli.terminal import say
from sky.sdk import schedules as sdk

_form = click.option(
    "-o", "--output", "form", type=click.Choice((*FORMATS, "csv")), default="table",
    help="Form of the result on stdout; csv has the columns of FOCUS 1.0.",
)  # fmt: skip


@options.command("receipt", help="Show what a managed job has cost, and where it went.")
@click.argument("job_id", type=int)
@_form
def job(job_id: int, *, form: str) -> int:
    """Show the receipt of a managed job."""
    return _shown(sdk.receipt(job_id), form)


@options.command("receipt", help="Show what a cluster, living or gone, has cost.")
@click.argument("cluster", shell_complete=complete_cluster)
@_form
def cluster(cluster: str, *, form: str) -> int:
    """Show the receipt of a cluster."""
    return _shown(sdk.receipt(cluster=cluster), form)


def _shown(receipt: Mapping[str, Any], form: str) -> int:
    if form == "csv":
        say(focus_csv(receipt["lines"]).rstrip("\n"))
    elif form != "table":
        emit(dict(receipt), form)
    else:
        _print(receipt)
    return exit_codes.OK


def _print(receipt: Mapping[str, Any]) -> None:
    kind = f"Managed job {receipt['job_id']}" if receipt.get("job_id") else "Cluster"
    what = f"{kind} {receipt['name']}"
    say(f"{what} ({receipt['user']}, {receipt['status']}){': until now' if receipt['open'] else ''}\n")
    if receipt["intervals"]:
        rows = [_row(each) for each in receipt["intervals"]]
        columns = ("BEGAN", "FOR", "WHERE", "TYPE", "NODES", "COST/hr", "COST", "JOB RAN")
        say(tables.render(columns, rows, right=("NODES", "COST/hr", "COST", "JOB RAN")) + "\n")
    recoveries = receipt["recoveries"]
    cost = sum(number(each, "cost") for each in recoveries)
    lasted = sum(number(each, "seconds") for each in recoveries)
    facts = [
        ("Total", money(number(receipt, "total"))),
        ("Idle", _idle(receipt)),
        ("Recoveries", f"{len(recoveries)}: {times.duration(lasted)} without a running job, {money(cost)} meanwhile"
         if recoveries else "none"),
        ("Transfer", money(receipt["transfer"]) if receipt.get("transfer") is not None else "unknown"),
        ("Second best", _second(receipt)),
    ]  # fmt: skip
    for name, words in facts:
        say(f"{name + ':':<13} {words}")


def _row(each: Mapping[str, Any]) -> list[str]:
    until = times.now() if each.get("ended") is None else number(each, "ended")
    return [
        times.local_time(number(each, "began")),
        times.duration(until - number(each, "began")),
        text(each, "place"),
        text(each, "instance_type") + (" [spot]" if each.get("spot") else ""),
        text(each, "nodes"),
        money(number(each, "price_hourly")),
        money(number(each, "cost")),
        times.duration(number(each, "ran")) if each.get("ran") is not None else "unknown",
    ]


def _idle(receipt: Mapping[str, Any]) -> str:
    if receipt.get("idle_share") is None:
        return "unknown: it is not on record any more when its jobs ran"
    return f"{number(receipt, 'idle_share') * 100:.0f} % of the time was paid for without a job that ran"


def _second(receipt: Mapping[str, Any]) -> str:
    second = receipt.get("second_best")
    if not isinstance(second, dict):
        return "there was none, or it is not on record"
    spot = " [spot]" if second["spot"] else ""
    return (
        f"{second['instance_type']}{spot} on {second['place']} at {money(second['price_hourly'])} per hour would have "
        f"cost {money(second['cost'])} for the same hours"
    )
