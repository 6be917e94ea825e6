"""`sky api status|logs|cancel`: the requests that commands became. Loaded by the `api` group when one of them runs."""

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.completion import complete_cluster
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, number, text
from sky.cli.terminal import say, talk
from sky.sdk import requests as sdk
from sky.sdk import server

#: Rows shown unless --limit says otherwise.
DEFAULT_LIMIT = 50


def _limit(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value.lower() in ("all", "none"):
        return None
    if not value.isdigit() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither a number above 0 nor 'all'.")
    return int(value)


@options.command("status", help="Show requests: those under way, with --all also those that ended.")
@click.argument("request_ids", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Also requests that ended.")
@click.option("-l", "--limit", default=str(DEFAULT_LIMIT), callback=_limit, help="Number of rows, or 'all' (50).")
@click.option("-c", "--cluster", shell_complete=complete_cluster, help="Only requests about this cluster.")
@click.option("-v", "--verbose", is_flag=True, help="Also the cluster, and what each is doing.")
@options.output
def status(
    request_ids: tuple[str, ...], *, everything: bool, limit: int | None, cluster: str | None, verbose: bool, form: str
) -> int:
    """Show requests."""
    found = sdk.api_status(list(request_ids) or None, everything, limit=limit, cluster_name=cluster)
    if form != "table":
        emit([shape(request) for request in found], form)
        return exit_codes.OK
    if not found:
        say("No requests." if everything else "No requests under way.")
        if not everything:
            talk("--all shows those that ended.")
        return exit_codes.OK
    at = times.now()
    columns = [
        "ID",
        "User",
        "Name",
        *(["Cluster"] if verbose else []),
        "Created",
        "Status",
        *(["Message"] if verbose else []),
    ]
    rows = []
    for request in found:
        row = [text(request, "request_id"), text(request, "user_name"), _call(request)]
        row += [text(request, "cluster_name")] if verbose else []
        row += [times.ago(number(request, "created_at"), at), text(request, "status")]
        rows.append(row + ([_message(request)] if verbose else []))
    say(tables.render(columns, rows))
    return exit_codes.OK


def _call(request: Record) -> str:
    return text(request, "name").removeprefix("sky.")


def _message(request: Record) -> str:
    error = request.get("error")
    get = getattr(error, "get", None)
    return str(get("message") or "") if get else text(request, "status_msg")


def shape(request: Record) -> dict[str, object]:
    """Return a request as `-o json` promises it."""
    return {
        "request_id": text(request, "request_id"),
        "name": _call(request),
        "user": text(request, "user_name"),
        "cluster": text(request, "cluster_name") or None,
        "status": text(request, "status"),
        "created_at": request.get("created_at"),
        "finished_at": request.get("finished_at"),
        "message": _message(request) or None,
    }


@options.command("logs", help="Follow what a request (a unique prefix of its id is enough) says until it ends.")
@click.argument("request_id", required=False)
@click.option("--server-logs", is_flag=True, help="The log of the server itself.")
@click.option("-l", "--log-path", help="The log at this path of the server.")
@click.option("--tail", type=click.IntRange(min=0), help="Last lines only.")
@click.option("--follow/--no-follow", default=True, help="Go on with new lines, or stop at what is there.")
def logs(*, request_id: str | None, server_logs: bool, log_path: str | None, tail: int | None, follow: bool) -> int:
    """Follow a request."""
    given = [value for value in (request_id, log_path, server_logs) if value]
    if len(given) != 1:
        raise click.UsageError("Pass one of: a request id, --log-path or --server-logs.")
    try:
        if server_logs:
            server.api_server_logs(follow, tail)
        else:
            sdk.stream_and_get(request_id, log_path, tail, follow)
    except KeyboardInterrupt:
        talk("\nStopped following; the request goes on.")
        return exit_codes.INTERRUPTED
    return exit_codes.OK


@options.command("cancel", help="Cancel requests, by ids or unique prefixes, or all of yours.")
@click.argument("request_ids", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All of your requests that are under way.")
@options.all_users
@options.yes
@options.output
def cancel(request_ids: tuple[str, ...], *, everything: bool, all_users: bool, yes: bool, form: str) -> int:
    """Cancel requests."""
    if bool(request_ids) == (everything or all_users):
        raise click.UsageError("Pass either request ids or --all.")
    if not request_ids:
        confirm(f"Cancelling all {'' if all_users else 'your '}requests. Proceed?", assume_yes=yes)
    cancelled = sdk.get(sdk.api_cancel(list(request_ids) or None, all_users, silent=True))
    if form != "table":
        emit([str(request_id) for request_id in cancelled], form)
    elif not cancelled:
        say("No requests to cancel.")
    else:
        for request_id in cancelled:
            say(f"Cancelled {request_id}")
    return exit_codes.OK
