"""jobs pool apply, status, down, logs: pools of workers for managed jobs. Loaded when one of its commands runs."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.entrypoint import classify
from sky.cli.jobs import lines_to
from sky.cli.launch import typed
from sky.cli.output import emit
from sky.cli.pools_view import table
from sky.cli.prompts import confirm
from sky.cli.records import Record, text
from sky.cli.targets import print_request_id, talk_of_going_on
from sky.cli.terminal import Progress, paint, say, talk
from sky.sdk import pools as sdk
from sky.sdk import requests

_WORKER_COLUMNS = ("POOL_NAME", "ID", "VERSION", "LAUNCHED", "INFRA", "RESOURCES", "STATUS", "USED_BY")
_MORE_WORKER_COLUMNS = ("CLUSTER", "REASON")
#: Workers shown of all pools together unless -a is given.
_MOST_ROWS = 10
_KEYS = (
    "name", "version", "status", "uptime", "user_name", "workspace", "ready_workers", "workers", "target_workers",
    "min_workers", "max_workers", "update_mode", "policy", "requested_resources_str", "waiting_jobs",
    "unfinished_jobs", "reason",
)  # fmt: skip
_WORKER_KEYS = (
    "replica_id", "name", "status", "version", "launched_at", "ready_at", "used_by", "infra", "resources_str",
    "price_hourly", "reason",
)  # fmt: skip


@options.command("apply", help="Make a pool from ENTRYPOINT (YAML with `pool`), or change the pool of this name.")
@click.argument("entrypoint", nargs=-1, metavar="[YAML]")
@click.option("-p", "--pool", "pool_name", help="Name of the pool; else that of the task.")
@click.option("--mode", type=click.Choice(["rolling", "blue_green"]), default="rolling", show_default=True,
              help="Replace older workers one after another, or once all new ones are ready.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=0), help="So many workers, whatever the YAML says.")
@options.task_options
@options.yes
@options.asynchronous
@options.output
def apply(entrypoint: tuple[str, ...], *, pool_name: str | None, form: str, **flags: Any) -> int:
    """Make or change a pool."""
    workers = flags["workers"]
    if not entrypoint and (workers is None or pool_name is None):
        raise click.UsageError("Pass a YAML, or --pool and --workers to change the size of a pool.")
    made = None
    if entrypoint:
        from sky.cli.tasks import make_task  # noqa: PLC0415 - 90 ms that help need not pay

        made = make_task(classify(entrypoint), flags)
        pool_name = pool_name or made.name
    if pool_name is None:
        raise click.UsageError("Name the pool: -p NAME, or `name` in the YAML.")
    confirm(f"Applying pool {pool_name!r}. Proceed?", assume_yes=flags["yes"])
    request_id = str(sdk.pool_apply(made, pool_name, flags["mode"], workers, _command=typed()))
    if (code := _await(request_id, form, "Applying…", asynchronous=flags["asynchronous"])) is not None:
        return code
    talk(paint("✓ ", "green", sys.stderr) + f"Pool {pool_name} is applied; its workers come up by themselves.")
    talk(
        f"  Workers: sky jobs pool status {pool_name}   A job: sky jobs launch -p {pool_name} …   "
        f"End: sky jobs pool down {pool_name}", "dim",
    )  # fmt: skip
    if form != "table":
        emit({"request_id": request_id, "pool": pool_name}, form)
    return exit_codes.OK


def _await(request_id: str, form: str, words: str, *, asynchronous: bool) -> int | None:
    """Follow a request to its end; the exit code where the command ends here."""
    if asynchronous:
        print_request_id(request_id, form)
        return exit_codes.OK
    try:
        with Progress(words) as progress:
            requests.stream_and_get(request_id, output_stream=progress)
    except KeyboardInterrupt:
        talk_of_going_on([request_id])
        return exit_codes.INTERRUPTED
    return None


@options.command("status", help="Show pools and their workers.")
@click.argument("pools", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="More columns.")
@click.option("-a", "--all", "everything", is_flag=True, help=f"All workers, not the first {_MOST_ROWS} of them.")
@options.output
def status(pools: tuple[str, ...], *, verbose: bool, everything: bool, form: str) -> int:
    """Show pools."""
    found = requests.get(sdk.pool_status(list(pools) or None))
    if form != "table":
        emit([shape(each) for each in found], form)
        return exit_codes.OK
    say(paint("Pools", "bold", sys.stdout))
    if not found:
        say("No existing pools." if not pools else "No such pool.")
        return exit_codes.OK
    at = times.now()
    say(table(found, at, verbose=verbose))
    rows = [_worker_row(pool, each, at, verbose=verbose) for pool in found for each in pool["replica_info"]]
    say("")
    say(paint("Pool Workers", "bold", sys.stdout))
    if not rows:
        say("No workers.")
        return exit_codes.OK
    shown = rows if everything else rows[:_MOST_ROWS]
    say(tables.render([*_WORKER_COLUMNS, *(_MORE_WORKER_COLUMNS if verbose else ())], shown))
    if len(rows) > len(shown):
        say(f"{len(rows)} workers ({len(shown)} shown; -a shows every one)")
    return exit_codes.OK


def _worker_row(pool: Record, worker: Mapping[str, Any], at: float, *, verbose: bool) -> list[object]:
    user = worker.get("used_by")
    row: list[object] = [
        text(pool, "name"), worker.get("replica_id"), worker.get("version"),
        times.ago(worker.get("launched_at"), at), worker.get("infra") or "-", worker.get("resources_str") or "-",
        getattr(worker["status"], "value", worker["status"]), "-" if user is None else f"Job ID: {user}",
    ]  # fmt: skip
    return [*row, worker.get("name") or "-", tables.clean(worker.get("reason") or "-")] if verbose else row


def shape(pool: Record) -> dict[str, object]:
    """Return a pool as `-o json` promises it."""
    told: dict[str, object] = {key: getattr(pool.get(key), "value", pool.get(key)) for key in _KEYS}
    workers: Sequence[Record] = pool["replica_info"]  # type: ignore[assignment]
    told["replica_info"] = [
        {key: getattr(each.get(key), "value", each.get(key)) for key in _WORKER_KEYS} for each in workers
    ]
    return told


@options.command("down", help="Take pools and their workers down; names may hold shell globs.")
@click.argument("pools", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All of yours.")
@click.option("-p", "--purge", is_flag=True, help="Also where jobs have not ended: they are cancelled.")
@options.yes
@options.asynchronous
@options.output
def down(pools: tuple[str, ...], *, form: str, **flags: Any) -> int:
    """Take pools down."""
    if bool(pools) == flags["everything"]:
        raise click.UsageError("Pass names of pools, or --all: one of them.")
    what = "all pools" if flags["everything"] else f"pool{'s' if len(pools) > 1 else ''} {', '.join(pools)}"
    also = " and cancelling their jobs" if flags["purge"] else ""
    confirm(f"Terminating {what}{also}. Proceed?", assume_yes=flags["yes"])
    request_id = str(sdk.pool_down(list(pools) or None, flags["everything"], flags["purge"]))
    if (code := _await(request_id, form, "Terminating…", asynchronous=flags["asynchronous"])) is not None:
        return code
    talk(paint("✓ ", "green", sys.stderr) + f"Terminating {what}: done.")
    if form != "table":
        emit({"request_id": request_id, "pools": list(pools)}, form)
    return exit_codes.OK


@options.command("logs", help="Show how workers of POOL were set up (all, or those named), or what was decided.")
@click.argument("pool")
@click.argument("worker_ids", nargs=-1, type=int, metavar="[WORKER_IDS]...")
@click.option("--follow/--no-follow", default=True, help="Go on with new lines, or stop at what is there.")
@click.option("--controller", is_flag=True, help="What was decided about the pool.")
@click.option("-s", "--sync-down", is_flag=True, help="Download the logs to ~/sky_logs/pools.")
@click.option("--tail", type=click.IntRange(min=0), default=0, help="Last lines; 0 for all (the default).")
@options.output
def logs(pool: str, worker_ids: tuple[int, ...], *, form: str, **flags: Any) -> int:
    """Show logs."""
    if flags["sync_down"]:
        chosen = {"targets": "controller"} if flags["controller"] else {"worker_ids": list(worker_ids) or None}
        folder = sdk.pool_sync_down_logs(pool, "~/sky_logs/pools", tail=flags["tail"], **chosen)
        if form != "table":
            emit({pool: folder}, form)
        else:
            say(f"Pool {pool} logs: {folder}")
        return exit_codes.OK
    if form != "table":
        raise click.UsageError(f"A log is shown as it is; -o {form} goes with --sync-down.")
    try:
        _show(pool, worker_ids, flags)
    except KeyboardInterrupt:
        talk("\nStopped following; the pool goes on.")
        return exit_codes.INTERRUPTED
    return exit_codes.OK


def _show(pool: str, worker_ids: Sequence[int], flags: Mapping[str, Any]) -> None:
    data = lines_to(sys.stdout)
    if flags["controller"]:
        sdk.pool_tail_logs(pool, "controller", None, flags["follow"], data, flags["tail"])
        return
    numbers = list(worker_ids) or sdk.workers_of(pool)
    for each in numbers:
        if len(numbers) > 1:
            data.end_line()
            data.write(f"=== worker {each}\n")
        # One that is followed holds up the next, so only a lone one is followed on.
        sdk.pool_tail_logs(pool, "worker", each, flags["follow"] and len(numbers) == 1, data, flags["tail"])
    data.flush()
