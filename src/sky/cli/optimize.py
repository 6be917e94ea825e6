"""optimize: where a task or pipeline would run, and why not elsewhere. Loaded by the root group when it runs."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from sky.cli import exit_codes, options, plans
from sky.cli.entrypoint import classify
from sky.cli.launch import task_of
from sky.cli.output import emit
from sky.cli.records import Record, text
from sky.cli.terminal import Progress, say
from sky.sdk.records import PlanRecord


@options.command("optimize", help="Show where ENTRYPOINT (a task, pipeline or job group) would run; change nothing.")
@options.entrypoint
@options.task_options
@click.option(
    "--minimize",
    type=click.Choice(["cost", "time", "expected"]),
    default="cost",
    help="Dollars, hours, or the dollars to be expected with refusals and preemptions.",
)
@click.option("--explain", is_flag=True, help="Tell for every place why it was not chosen.")
@click.option(
    "--why-not",
    multiple=True,
    metavar="WHAT",
    help="Tell why not this infra, instance type or accelerator: aws/eu-west-1, p4d.24xlarge, H100:8; repeatable.",
)
@click.option(
    "--what-if",
    multiple=True,
    metavar="CHANGE",
    help="Compare with a change: spot, on-demand, infra=gcp, region=us-east-1; repeatable.",
)
@click.option("--when", is_flag=True, help="Tell the chance of getting it now and soon, and what certainty costs.")
@click.option("--all-infra", is_flag=True, help="Plan over places that are not enabled, too; they are marked.")
@options.output
def optimize(entrypoint: tuple[str, ...], *, form: str, **flags: Any) -> int:
    """Show plans."""
    questions = {key: flags.pop(key) for key in ("minimize", "explain", "why_not", "what_if", "when", "all_infra")}
    task = dag_of(entrypoint, flags)
    with Progress("Comparing offers…"):
        found = plans.of(task, **{**questions, "minimize": questions["minimize"].upper()})
    if form != "table":
        emit([plans.shape(plan) for plan in found], form)
        return exit_codes.OK
    for plan in found:
        if len(found) > 1:
            say(f"Task {text(plan, 'task') or '-'}:")
        say(plans.render(plan, target=questions["minimize"], stream=sys.stdout))
        _explain(plan)
        if len(found) > 1:
            say("")
    if found and found[-1].get("note"):
        say(text(found[-1], "note"))
    return exit_codes.OK


def dag_of(words: tuple[str, ...], flags: dict[str, Any]) -> object:
    """Return the task, or the DAG of a file that holds several."""
    entry = classify(words)
    if entry.yaml is not None:
        from sky.cli.tasks import make_dag  # noqa: PLC0415 - as in `launch`: bare commands are spared its imports

        return make_dag(entry, flags)
    return task_of(words, flags)


def _explain(plan: PlanRecord) -> None:
    for title, key in (("Why not elsewhere", "answers"), ("What if", "comparisons"), ("When", "chances")):
        found: Sequence[Record | str] = plan.get(key) or ()
        if found:
            say(f"\n{title}:")
        for each in found:
            say(f"  {each if isinstance(each, str) else plans.reason_line(each)}")
