"""jobs launch, queue, cancel, logs: managed jobs. Loaded by the group `jobs` when one of them runs."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.entrypoint import COMMAND_NAME, classify
from sky.cli.jobs import DEFAULT_TAIL, lines_to
from sky.cli.launch import typed
from sky.cli.managed_jobs_view import table
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, text
from sky.cli.targets import print_request_id, talk_of_going_on
from sky.cli.terminal import Progress, paint, say, talk
from sky.core.errors import JobExitCode
from sky.sdk import managed_jobs as sdk
from sky.sdk import requests

#: Jobs shown unless --limit says otherwise.
DEFAULT_LIMIT = 50
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@options.command("launch", help="Run ENTRYPOINT (YAML of one or several tasks, or a command) as a managed job.")
@options.entrypoint
@click.option("-c", "--cluster", "old_name", hidden=True)
@click.option("--job-recovery", help="How it recovers: EAGER_NEXT_REGION, FAILOVER, none, or a strategy of your own.")
@click.option("-d", "--detach-run", is_flag=True, help="Return once the job is submitted.")
@click.option("-p", "--pool", help="Run on workers of this pool, instead of clusters of its own.")
@click.option("--num-jobs", type=click.IntRange(min=1), help="So many jobs of the same, each with its own rank.")
@click.option("--after", metavar="IDS", help="Begin when these managed jobs (3,4) have succeeded.")
@click.option("--after-any", metavar="IDS", help="Begin when these managed jobs have ended, however.")
@click.option("--job-group", metavar="ID_OR_NAME", help="Launch into this running job group: it ends with that.")
@click.option("--strict", is_flag=True, help="Refuse a spot job that by its zone's survival will hardly end.")
@click.option("--no-job-group", is_flag=True, help="Not as a part of the job group that this runs in.")
@options.task_options
@click.option("--priority", help="-1000 to 1000: higher is begun sooner.")
@options.yes
@options.asynchronous
@options.output
def launch(entrypoint: tuple[str, ...], *, old_name: str | None, form: str, **flags: Any) -> int:
    """Run tasks as a managed job."""
    from sky.cli.tasks import make_dag  # noqa: PLC0415 - 90 ms that help need not pay

    name = flags["name"] or old_name
    after, after_any = _ids(flags["after"], "--after"), _ids(flags["after_any"], "--after-any")
    made = make_dag(classify(entrypoint), {**flags, "name": None})
    for task in getattr(made, "tasks", [made]):
        _override_recovery(task, flags["job_recovery"])
    name = name or getattr(made, "name", None) or COMMAND_NAME
    count = flags["num_jobs"]
    what = f"{count} managed jobs {name!r}" if count else f"a managed job {name!r}"
    if flags["yes"]:
        talk(f"Launching {what}.")
    else:
        confirm(f"Launching {what}. Proceed?", assume_yes=False)
    group = flags["job_group"] or (None if flags["no_job_group"] else sdk.AUTO)
    asked = {"after": after, "after_any": after_any, "strict": flags["strict"], "job_group": group}
    request_id = str(sdk.launch(made, name, flags["pool"], count, **asked, _command=typed()))
    if flags["asynchronous"]:
        print_request_id(request_id, form)
        return exit_codes.OK
    try:
        with Progress("Submitting…", without="Managed Job ID:") as progress:
            ids, _ = requests.stream_and_get(request_id, output_stream=progress)
    except KeyboardInterrupt:
        talk_of_going_on([request_id])
        return exit_codes.INTERRUPTED
    return _submitted(list(ids), request_id, form, follow=not flags["detach_run"] and len(ids) == 1)


def _ids(said: str | None, option: str) -> list[int] | None:
    if said is None:
        return None
    words = said.replace(",", " ").split()
    if not words or not all(word.isdecimal() for word in words):
        raise click.UsageError(f"{option} {said}: numbers of managed jobs with commas, such as 3,4.")
    return [int(word) for word in words]


def _override_recovery(task: Any, strategy: str | None) -> None:
    if strategy is not None:
        kept = next(iter(task.resources)).job_recovery or {}
        task.set_resources_override({"job_recovery": {**kept, "strategy": strategy}})


def _submitted(ids: Sequence[int], request_id: str, form: str, *, follow: bool) -> int:
    shown = ", ".join(map(str, ids))
    data = sys.stdout if form == "table" else sys.stderr
    data.write(f"Job submitted, ID: {shown}\nManaged Job ID: {shown}\n")
    data.flush()
    if len(ids) == 1:
        talk(
            f"  Cancel: sky jobs cancel {shown}   Log: sky jobs logs {shown}   Decisions: sky events {shown}   "
            "All: sky jobs queue", "dim",
        )  # fmt: skip
    code = _follow(ids[0], None, follow=True, tail=0, stream=data) if follow else exit_codes.OK
    if form != "table":
        emit({"request_id": request_id, "job_ids": list(ids), "exit_code": code if follow else None}, form)
    return code


def _follow(job_id: int | None, task: str | None, *, follow: bool, tail: int, name: str | None = None,
            stream: Any = None) -> int:  # fmt: skip
    """Relay a log and return the job's exit code; Ctrl-C stops the relay only."""
    data = lines_to(stream or sys.stdout)
    try:
        code = int(sdk.tail_logs(name, job_id, follow, tail=tail, output_stream=data, task=task))  # type: ignore[arg-type]
    except KeyboardInterrupt:
        which = "" if job_id is None else f" {job_id}"
        talk(f"\nStopped following; the job runs on. Follow: sky jobs logs{which}   Cancel: sky jobs cancel{which}")
        return exit_codes.INTERRUPTED
    if code == JobExitCode.NOT_FOUND:
        talk(f"Managed job {name or job_id or ''} not found.", "yellow")
    elif code != JobExitCode.NOT_FINISHED:
        data.end_line()
        data.write(f"Managed job finished (status: {_final_word(job_id, name, code)}).\n")
        data.flush()
    return code


def _final_word(job_id: int | None, name: str | None, code: int) -> str:
    """The status of a job that ended; the code alone tells all but how it failed."""
    if code != JobExitCode.FAILED or job_id is None:
        return JobExitCode(code).name
    found = requests.get(sdk.queue(job_ids=[job_id]))
    words = [str(each["job_status"]) for each in found]
    return words[0] if words else "FAILED"


@options.command("queue", help="Show managed jobs, newest first.")
@click.option("-v", "--verbose", is_flag=True, help="More columns.")
@click.option("-l", "--limit", default=str(DEFAULT_LIMIT), help="Jobs to show (50), or all.")
@click.option("-r", "--refresh", is_flag=True, help="Accepted; what is shown is always what is so.")
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that have not ended.")
@click.option("--status", "statuses", multiple=True, help="Only jobs of this status; repeatable.")
@click.option("--since", help="Submitted within this time: 90m, 48h, 7d.")
@click.option("--after", help="Submitted after this time: 2026-01-31 or 2026-01-31T12:00.")
@click.option("--before", help="Submitted before this time.")
@click.option("--infra", help="Only those on infra with this in its name.")
@click.option("--why", type=int, metavar="ID", help="Why this job is as it is: every decision with its reason.")
@options.all_users
@click.option("-a", "--all", "everything", is_flag=True, help="All jobs, however many.")
@options.output
def queue(*, form: str, **flags: Any) -> int:
    """Show managed jobs."""
    if flags["why"] is not None:
        return _why(flags["why"], form)
    limit = _limit(flags["limit"], everything=flags["everything"])
    after = times.now() - _span(flags["since"]) if flags["since"] else _moment(flags["after"], "--after")
    found = sdk.queue_v2(
        refresh=flags["refresh"],
        skip_finished=flags["skip_finished"],
        all_users=flags["all_users"],
        limit=limit,
        statuses=[each.upper() for each in flags["statuses"]] or None,
        submitted_after=after,
        submitted_before=_moment(flags["before"], "--before"),
        infra_match=flags["infra"],
    )
    records, total, counts, _ = requests.get(found)
    if form != "table":
        emit([shape(each) for each in records], form)
        return exit_codes.OK
    if not records:
        say("No managed jobs." if not total else "No managed jobs to show.")
        return exit_codes.OK
    say(table(records, verbose=flags["verbose"], all_users=flags["all_users"]))
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    more = f" ({limit} shown; -l all shows every one)" if limit is not None and total > limit else ""
    say(f"{total} managed job{'s' if total != 1 else ''}{more}: {told}")
    return exit_codes.OK


def shape(job: Record) -> dict[str, object]:
    """Return a task of a managed job as `-o json` promises it."""
    plain = (
        "job_id", "task_id", "job_name", "task_name", "workspace", "user_name", "status", "schedule_state",
        "resources", "submitted_at", "start_at", "end_at", "last_recovered_at", "job_duration", "recovery_count",
        "restarts_on_errors", "exit_codes", "infra", "cluster_resources", "price_hourly", "use_spot", "priority",
        "rank", "num_jobs", "current_cluster_name", "job_id_on_pool_cluster", "details", "failure_reason",
        "execution", "is_primary_in_job_group", "parent_job_id", "pool",
    )  # fmt: skip
    return {key: getattr(job.get(key), "value", job.get(key)) for key in plain}


def _why(job_id: int, form: str) -> int:
    records, _, _, _ = requests.get(sdk.queue_v2(job_ids=[job_id], why=True))
    if not records:
        talk(f"Managed job {job_id} not found.", "yellow")
        return exit_codes.ERROR
    told = requests.get(sdk.events(job_id))
    if form != "table":
        emit({"job": [shape(each) for each in records], "events": [dict(each) for each in told]}, form)
        return exit_codes.OK
    print_story(told)
    if records[0].get("execution") not in (None, "serial"):
        for each in records:
            words = f": {tables.clean(each.get('details'))}" if each.get("details") else ""
            say(f"Task {text(each, 'task_name')} is {text(each, 'status')} ({text(each, 'schedule_state')}){words}")
        say(f"Managed job {job_id} is {text(records[0], 'job_status')}")
        return exit_codes.OK
    current = next((each for each in records if not sdk.is_over(each["status"])), records[-1])
    why = f": {tables.clean(current.get('details'))}" if current.get("details") else ""
    say(f"Managed job {job_id} is {text(current, 'status')} ({text(current, 'schedule_state')}){why}")
    return exit_codes.OK


def print_story(events: Sequence[Mapping[str, Any]]) -> None:
    """Write the lines of a story."""
    for event in events:
        before, after = str(event.get("before") or ""), str(event.get("after") or "")
        shown = f"  [{f'{before} → {after}' if before else after}]" if before != after and after else ""
        say(f"{times.local_time(event.get('time'))}  {tables.clean(event.get('text') or '')}{shown}")


def _limit(said: str, *, everything: bool) -> int | None:
    if everything or said.lower() in ("all", "none"):
        return None
    if not said.isdecimal():
        raise click.UsageError(f"--limit {said}: a number, or all.")
    return int(said)


def _span(said: str) -> float:
    found = _SPAN.fullmatch(said.strip().lower())
    if found is None:
        raise click.UsageError(f"--since {said}: a number and s, m, h, d or w, such as 48h.")
    return float(found[1]) * _UNITS[found[2]]


def _moment(said: str | None, option: str) -> float | None:
    if said is None:
        return None
    from datetime import datetime  # noqa: PLC0415 - few ask for it

    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        raise click.UsageError(f"{option} {said}: a time such as 2026-01-31 or 2026-01-31T12:00.") from None


@options.command("cancel", help="End managed jobs: those given, those of a name, or all of yours.")
@click.argument("job_ids", nargs=-1, type=int, metavar="[IDS]...")
@click.option("-n", "--name", help="Those under way of this name.")
@click.option("-p", "--pool", help="Those under way in this pool.")
@click.option("--task", help="Only this task (name or position) of a group, graph or sweep.")
@click.option("--graceful", is_flag=True, help="Let their processes end by themselves first.")
@click.option("--graceful-timeout", type=float, help="For so many seconds (60).")
@click.option("-a", "--all", "everything", is_flag=True, help="All of yours.")
@options.all_users
@options.yes
@options.asynchronous
@options.output
def cancel(job_ids: tuple[int, ...], *, form: str, **flags: Any) -> int:
    """End managed jobs."""
    everything = flags["everything"] or flags["all_users"]
    if sum([bool(job_ids), flags["name"] is not None, flags["pool"] is not None, everything]) != 1:
        raise click.UsageError("Pass job ids, --name, --pool, or --all (or --all-users): one of them.")
    what = "all managed jobs" if everything else f"the managed jobs {flags['name']!r}"
    if flags["pool"] is not None:
        what = f"the managed jobs of the pool {flags['pool']!r}"
    if job_ids:
        what = f"managed job{'s' if len(job_ids) > 1 else ''} {', '.join(map(str, job_ids))}"
    confirm(f"Cancelling {what}. Proceed?", assume_yes=flags["yes"])
    request_id = str(
        sdk.cancel(
            flags["name"],
            list(job_ids) or None,
            flags["everything"],
            flags["all_users"],
            flags["pool"],
            flags["graceful"],
            flags["graceful_timeout"],
            flags["task"],
        )
    )
    if flags["asynchronous"]:
        print_request_id(request_id, form)
        return exit_codes.OK
    with Progress("Cancelling…") as progress:
        requests.stream_and_get(request_id, output_stream=progress)
    after = "their workers stay" if flags["pool"] is not None else "their clusters go with them"
    talk(paint("✓ ", "green", sys.stderr) + f"Cancelling {what}; {after}.")
    if form != "table":
        emit({"request_id": request_id, "job_ids": list(job_ids)}, form)
    return exit_codes.OK


@options.command("logs", help="Follow the log of a managed job (default: the newest), over all of its recoveries.")
@click.argument("job_id", required=False, type=int)
@click.argument("task", required=False)
@click.option("-n", "--name", help="The newest job of this name.")
@click.option("--follow/--no-follow", default=True, help="Go on with new lines, or stop at what is there.")
@click.option("--controller", is_flag=True, help="What was decided about the job, instead of its log.")
@click.option("-r", "--refresh", is_flag=True, help="Accepted; what is shown is always what is so.")
@click.option("-s", "--sync-down", is_flag=True, help="Download the log to ~/sky_logs.")
@click.option("--tail", type=click.IntRange(min=0), default=DEFAULT_TAIL, help="Last lines (1000); 0 for all.")
@options.output
def logs(job_id: int | None, task: str | None, *, form: str, **flags: Any) -> int:
    """Show logs."""
    if flags["sync_down"]:
        paths = sdk.download_logs(flags["name"], job_id, controller=flags["controller"])
        if form != "table":
            emit({str(number): path for number, path in paths.items()}, form)
        for number_, path in paths.items() if form == "table" else ():
            say(f"Managed job {number_} logs: {path}")
        if not paths:
            talk("No such managed job.", "yellow")
        return exit_codes.OK if paths else int(JobExitCode.NOT_FOUND)
    if form != "table":
        raise click.UsageError(f"A log is shown as it is; -o {form} goes with --sync-down.")
    if flags["controller"]:
        return int(sdk.tail_logs(flags["name"], job_id, flags["follow"], controller=True))  # type: ignore[arg-type]
    return _follow(job_id, task, follow=flags["follow"], tail=flags["tail"], name=flags["name"])
