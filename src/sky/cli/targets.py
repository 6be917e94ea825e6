"""Commands on several clusters: find them, show them, ask, submit for all at once, wait, and tell each one's outcome.

Used by stop, down, start, autostop and cancel.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from sky.cli import exit_codes
from sky.cli.failures import describe
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, text
from sky.cli.status_view import fetch, unmatched
from sky.cli.terminal import Progress, paint, say, talk
from sky.core.errors import SkyError
from sky.sdk import requests

_GLOB = frozenset("*?[")


@dataclass
class Outcome:
    """What became of one target."""

    cluster: str
    request_id: str | None = None
    status: str = "SUBMITTED"
    error: str | None = None


@dataclass(frozen=True)
class Choice:
    """Clusters to act on, and the plain names that were asked for and do not exist."""

    records: tuple[Record, ...]
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [text(record, "name") for record in self.records]


def choose(names: Sequence[str], everything: bool, *, all_users: bool = False) -> Choice:
    """Return the clusters meant by names and globs, or all of them. Raises click.UsageError when nothing is meant."""
    if names and everything:
        raise click.UsageError("Pass either cluster names or --all, not both.")
    if not names and not everything and not all_users:
        raise click.UsageError("Pass the names of clusters (globs work), or --all.")
    records = fetch(names, all_users=all_users)
    missing = unmatched(names, records)
    for name in missing:
        talk(f"No cluster matches {name!r}." if _GLOB & set(name) else f"Cluster {name!r} not found.", "yellow")
    return Choice(tuple(records), tuple(name for name in missing if not _GLOB & set(name)))


def ask(choice: Choice, verb: str, *, assume_yes: bool) -> None:
    """Ask whether to go on, naming every target: "Stopping 2 clusters: a, b. Proceed?"."""
    if not choice.records:
        return
    count = len(choice.records)
    confirm(
        f"{verb} {count} cluster{'s' if count > 1 else ''}: {', '.join(choice.names)}. Proceed?", assume_yes=assume_yes
    )


def run_all(
    choice: Choice, submit: Callable[[str], str], *, doing: str, done: str, asynchronous: bool, form: str
) -> int:
    """Submit for every target, then wait for all; one line each. Returns ERROR if a target failed or was not found.

    `doing` and `done` complete "… a, b" and "Cluster 'a' …". With `asynchronous` the ids are printed instead.
    """
    outcomes = [_submit(name, submit) for name in choice.names]
    open_ones = [outcome for outcome in outcomes if outcome.request_id]
    if asynchronous:
        _print_ids(open_ones, form)
    else:
        try:
            _wait(open_ones, f"{doing} {', '.join(choice.names)}", done)
        except KeyboardInterrupt:
            going = [outcome.request_id for outcome in open_ones if outcome.status == "SUBMITTED"]
            talk_of_going_on([str(request_id) for request_id in going])
            return exit_codes.INTERRUPTED
    if form != "table":
        emit([vars(outcome) for outcome in outcomes], form)
    if not choice.records and not choice.missing:
        talk("No clusters to act on.")
    failed = any(outcome.error for outcome in outcomes)
    return exit_codes.ERROR if failed or choice.missing else exit_codes.OK


def talk_of_going_on(request_ids: Sequence[str]) -> None:
    """After Ctrl-C: say that requests live on the server, and how to follow or cancel them."""
    talk("")
    for request_id in request_ids:
        talk(f"Stopped waiting; the request goes on. Follow: sky api logs {request_id}")
        talk(f"{' ' * 40}Cancel: sky api cancel {request_id}")


def print_request_id(request_id: str, form: str, **more: object) -> None:
    """`--async`: the id on stdout, alone, so that scripts can take it."""
    if form == "table":
        say(str(request_id))
        talk(f"Submitted. Follow: sky api logs {request_id}   Cancel: sky api cancel {request_id}")
    else:
        emit({"request_id": str(request_id), **more}, form)


def _submit(name: str, submit: Callable[[str], str]) -> Outcome:
    try:
        return Outcome(name, str(submit(name)))
    except (SkyError, ValueError) as exc:
        return _failed(Outcome(name), exc)


def _failed(outcome: Outcome, exc: Exception) -> Outcome:
    lines = describe(exc)
    outcome.status, outcome.error = "FAILED", lines[0]
    talk(paint("✗ ", "red", sys.stderr) + f"Cluster {outcome.cluster!r}: " + "\n".join(lines))
    return outcome


def _wait(outcomes: Sequence[Outcome], caption: str, done: str) -> None:
    with Progress(f"{caption}…") as progress:
        for outcome in outcomes:
            request_id = outcome.request_id or ""
            try:
                if len(outcomes) == 1:
                    requests.stream_and_get(request_id, output_stream=progress)
                else:
                    requests.get(request_id)
            except (SkyError, ValueError, TimeoutError) as exc:
                _failed(outcome, exc)
            else:
                outcome.status = "SUCCEEDED"
                progress.write(paint("✓ ", "green", sys.stderr) + f"Cluster {outcome.cluster!r} {done}.\n")


def _print_ids(outcomes: Sequence[Outcome], form: str) -> None:
    if form != "table":
        return
    for outcome in outcomes:
        print_request_id(outcome.request_id or "", form)
