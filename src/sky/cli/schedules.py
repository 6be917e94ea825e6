"""`sky jobs schedule`: managed jobs at the times of a cron expression. Loaded when one of its commands runs."""

from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.entrypoint import classify
from sky.cli.launch import typed
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.terminal import say
from sky.sdk import schedules as sdk

_KEYS = (
    "id", "name", "user", "workspace", "cron", "zone", "missed", "overlap", "paused", "next_at", "last_at",
    "last_request", "waiting", "said", "created_at",
)  # fmt: skip


@options.command("add", help="Launch ENTRYPOINT as a managed job at the times of a cron expression.")
@options.entrypoint
@click.option("--cron", required=True, help="Five fields, or six with seconds: '0 3 * * MON-FRI'.")
@click.option("--timezone", "zone", default="UTC", help="In which it is read: Europe/Berlin (UTC).")
@click.option("--missed", type=click.Choice(["skip", "once"]), default="skip",
              help="Times at which no server ran: none is launched, or one for all.")  # fmt: skip
@click.option("--overlap", type=click.Choice(["skip", "queue", "allow"]), default="skip",
              help="While the last one has not ended: leave it out, let it wait, or launch it too.")  # fmt: skip
@click.option("--schedule-name", help="Name of the schedule (that of the job).")
@click.option("--num-jobs", type=click.IntRange(min=1), help="So many jobs of the same each time.")
@options.task_options
@click.option("--priority", help="-1000 to 1000: higher is begun sooner.")
@options.output
def add(entrypoint: tuple[str, ...], *, cron: str, zone: str, form: str, **flags: Any) -> int:
    """Add a schedule."""
    from sky.cli.tasks import make_dag  # noqa: PLC0415 - 90 ms that help need not pay

    made = make_dag(classify(entrypoint), {**flags, "name": None})
    job_name = flags["name"] or getattr(made, "name", None)
    name = flags["schedule_name"] or job_name
    if name is None:
        raise click.UsageError("Name the schedule: --schedule-name NAME, or -n for the job.")
    told = sdk.schedule_add(
        name, made, cron, timezone=zone, missed=flags["missed"], overlap=flags["overlap"], job_name=job_name,
        num_jobs=flags["num_jobs"], _command=typed(),
    )  # fmt: skip
    if form != "table":
        emit(shape(told), form)
        return exit_codes.OK
    say(f"Schedule {name} is set; its next time is {_time(told, 'next_at')}.")
    return exit_codes.OK


@options.command("list", help="Show schedules, their next times, and what was decided last.")
@options.all_users
@options.output
def list_(*, all_users: bool, form: str) -> int:
    """Show schedules."""
    found = sdk.schedule_list(all_users)
    if form != "table":
        emit([shape(each) for each in found], form)
        return exit_codes.OK
    if not found:
        say("No schedules.")
        return exit_codes.OK
    columns = ["NAME", "USER", "CRON", "TIME ZONE", "NEXT", "LAST", "MISSED", "OVERLAP", "SAID"]
    rows = [
        [
            text(each, "name"),
            text(each, "user"),
            text(each, "cron"),
            text(each, "zone"),
            "paused" if each.get("paused") else _time(each, "next_at"),
            _time(each, "last_at"),
            text(each, "missed"),
            text(each, "overlap"),
            tables.clean(each.get("said") or "-"),
        ]
        for each in found
    ]
    say(tables.render(columns, rows))
    return exit_codes.OK


@options.command("rm", help="Forget schedules; jobs that they launched go on.")
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> int:
    """Forget schedules."""
    for name in names:
        sdk.schedule_remove(name)
        say(f"Schedule {name} is removed.")
    return exit_codes.OK


@options.command("pause", help="Launch nothing more for a schedule, or go on with --resume.")
@click.argument("name")
@click.option("--resume", is_flag=True, help="Go on with its next time.")
@options.output
def pause(name: str, *, resume: bool, form: str) -> int:
    """Pause a schedule."""
    told = sdk.schedule_pause(name, not resume)
    if form != "table":
        emit(shape(told), form)
        return exit_codes.OK
    say(f"Schedule {name} goes on at {_time(told, 'next_at')}." if resume else f"Schedule {name} is paused.")
    return exit_codes.OK


def shape(schedule: Record) -> dict[str, object]:
    """Return a schedule as `-o json` promises it."""
    return {key: schedule.get(key) for key in _KEYS}


def _time(schedule: Record, key: str) -> str:
    return times.local_time(number(schedule, key)) if schedule.get(key) is not None else "-"
