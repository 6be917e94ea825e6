"""queue, logs, cancel: the jobs of clusters. Loaded by the root group when one of them runs."""

import sys
from collections.abc import Sequence
from typing import TextIO

import click

from sky.cli import exit_codes, options, tables, times
from sky.cli.failures import report
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, number, text
from sky.cli.status_view import fetch, unmatched
from sky.cli.targets import print_request_id, talk_of_going_on
from sky.cli.terminal import Progress, paint, say, talk
from sky.core.errors import ClusterDoesNotExist, JobExitCode, SkyError
from sky.sdk import clusters as sdk
from sky.sdk import requests

_COLUMNS = (
    "ID", "NAME", "USER", "SUBMITTED", "STARTED", "DURATION", "RESOURCES", "STATUS", "LOG", "GIT COMMIT",
)  # fmt: skip
#: Lines of a log shown unless --tail says otherwise; 0 shows all.
DEFAULT_TAIL = 1000


@options.command("queue", help="Show the jobs of clusters (all that are UP, or those named).")
@options.cluster_names
@options.all_users
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that have not ended.")
@options.output
def queue(clusters: tuple[str, ...], *, all_users: bool, skip_finished: bool, form: str) -> int:
    """Show jobs."""
    records = fetch(clusters, all_users=all_users)
    missing = unmatched(clusters, records)
    for name in missing:
        talk(f"Cluster {name!r} not found.", "yellow")
    shown: list[dict[str, object]] = []
    failed = bool(missing)
    for record in records:
        name, status = text(record, "name"), text(record, "status")
        if status != "UP":
            talk(f"Cluster {name!r} is {status}: this is its queue as last reported (sky start {name}).", "yellow")
        try:
            found: list[Record] = requests.get(sdk.queue(name, skip_finished=skip_finished, all_users=all_users))
        except SkyError as exc:
            failed = True
            report(exc)
            continue
        shown += [shape(name, job) for job in found]
        if form == "table":
            _print_queue(name, found)
    if form != "table":
        emit(shown, form)
    elif not records and not missing:
        say("No existing clusters.")
    return exit_codes.ERROR if failed else exit_codes.OK


def shape(cluster: str, job: Record) -> dict[str, object]:
    """Return a job as `-o json` promises it."""
    metadata = job.get("metadata")
    return {
        "cluster": cluster,
        "job_id": job.get("job_id"),
        "name": job.get("job_name"),
        "user": text(job, "username"),
        "submitted_at": job.get("submitted_at"),
        "started_at": job.get("start_at"),
        "ended_at": job.get("end_at"),
        "resources": text(job, "resources"),
        "status": text(job, "status"),
        "log_path": job.get("log_path"),
        "reason": _field(metadata, "reason"),
        "exit_codes": _field(metadata, "exit_codes") or [],
        "git_commit": _field(metadata, "git_commit"),
        "progress": _field(metadata, "progress"),
        "checkpoint": _field(metadata, "checkpoint"),
        "cause": _field(metadata, "cause"),
    }


def _field(metadata: object, key: str) -> object:
    get = getattr(metadata, "get", None)
    return get(key) if get else None


def _print_queue(name: str, jobs: Sequence[Record]) -> None:
    at = times.now()
    rows = []
    ordered = sorted(jobs, key=lambda job: -number(job, "job_id"))
    for job in ordered:
        started, ended = number(job, "start_at"), number(job, "end_at")
        rows.append(
            [
                job.get("job_id"),
                job.get("job_name"),
                text(job, "username"),
                times.ago(number(job, "submitted_at"), at),
                times.ago(started, at),
                times.duration((ended or at) - started if started else None),
                text(job, "resources"),
                text(job, "status"),
                job.get("log_path"),
                _field(job.get("metadata"), "git_commit"),
            ]
        )
    say(f"\nJob queue of cluster {name}")
    columns = [*_COLUMNS]
    for title, words in (("PROGRESS", _progress), ("CHECKPOINT", _checkpoint)):
        told = [words(job) for job in ordered]
        # Where no task says anything of the kind, a column of dashes helps nobody.
        if any(told):
            columns.append(title)
            for row, cell in zip(rows, told, strict=True):
                row.append(cell)
    say(tables.render(columns, rows) if rows else "No jobs.")


def _progress(job: Record) -> str | None:
    share = _field(job.get("metadata"), "progress")
    return f"{float(share):.0%}" if isinstance(share, int | float) else None


def _checkpoint(job: Record) -> str | None:
    found = _field(job.get("metadata"), "checkpoint")
    age, size = _field(found, "age"), _field(found, "bytes")
    if not isinstance(age, int | float) or not isinstance(size, int | float):
        return None
    warnings = _field(found, "warnings")
    marks = f" ({', '.join(map(str, warnings))})" if isinstance(warnings, list) and warnings else ""
    return f"{times.duration(age)} old, {size / 1e9:.3g} GB{marks}"


@options.command("logs", help="Follow the log of a job (default: the newest), fetch logs, or tell how jobs ended.")
@options.cluster_name
@click.argument("job_ids", nargs=-1, type=int)
@click.option("--provision", is_flag=True, help="How the cluster was made, instead of a job.")
@click.option("--hook", is_flag=False, flag_value="", metavar="[EVENT]", help="Log of lifecycle hooks.")
@click.option("--autostop", "hook", flag_value="autostop", hidden=True)
@click.option("-w", "--worker", type=click.IntRange(min=0), help="Only the log of the node of this rank.")
@click.option("-s", "--sync-down", is_flag=True, help="Download the logs of the jobs to ~/sky_logs.")
@click.option("--status", "only_status", is_flag=True, help="Print how the job stands; exit code 0 if it succeeded.")
@click.option("--follow/--no-follow", default=True, help="Go on with new lines, or stop at what is there.")
@click.option("--tail", type=click.IntRange(min=0), default=DEFAULT_TAIL, help="Last lines (1000); 0 for all.")
@options.output
def logs(
    cluster: str,
    job_ids: tuple[int, ...],
    *,
    provision: bool,
    hook: str | None,
    worker: int | None,
    sync_down: bool,
    only_status: bool,
    follow: bool,
    tail: int,
    form: str,
) -> int:
    """Show logs."""
    asked = [name for name, given in (("--provision", provision), ("--hook", hook is not None),
                                      ("--sync-down", sync_down), ("--status", only_status)) if given]  # fmt: skip
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} cannot be combined.")
    if form != "table" and not (sync_down or only_status):
        raise click.UsageError(f"A log is shown as it is; -o {form} goes with --status and --sync-down.")
    if provision:
        return int(sdk.tail_provision_logs(cluster, worker=worker, follow=follow, tail=tail))
    if hook is not None:
        return int(sdk.tail_hook_logs(cluster, event=hook or None, follow=follow, tail=tail))
    if sync_down:
        return _download(cluster, job_ids, form)
    if only_status:
        return _print_status(cluster, job_ids, form)
    if len(job_ids) > 1:
        raise click.UsageError("Only one job can be followed; --sync-down and --status take several.")
    return follow_job(cluster, job_ids[0] if job_ids else None, follow=follow, tail=tail, worker=worker)


def lines_to(stream: TextIO) -> "_Lines":
    """A stream for logs that knows whether its last line was ended."""
    return _Lines(stream)


class _Lines:
    """A stream that knows whether its last line was ended; what a job prints need not end so."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ended = True

    def write(self, text: str) -> None:
        """Write text as it is."""
        self._stream.write(text)
        self._ended = text.endswith("\n") if text else self._ended

    def end_line(self) -> None:
        """Begin a line, unless one is begun."""
        if not self._ended:
            self.write("\n")

    def flush(self) -> None:
        """Show what was written."""
        self._stream.flush()


def follow_job(
    cluster: str,
    job_id: int | None,
    *,
    follow: bool = True,
    tail: int = 0,
    worker: int | None = None,
    stream: TextIO | None = None,
) -> int:
    """Relay a job's log to stdout (or `stream`) and return the job's exit code; Ctrl-C stops the relay only."""
    data = _Lines(stream or sys.stdout)
    try:
        code = sdk.tail_logs(cluster, job_id, follow, tail, data, _worker=worker)
    except KeyboardInterrupt:
        which = "" if job_id is None else f" {job_id}"
        talk(f"\nStopped following; the job runs on. Follow: sky logs {cluster}{which}   "
             f"Cancel: sky cancel {cluster}{which}")  # fmt: skip
        return exit_codes.INTERRUPTED
    if code == JobExitCode.NOT_FOUND:
        talk(f"Job {'' if job_id is None else f'{job_id} '}not found on cluster {cluster!r}.", "yellow")
    elif code != JobExitCode.NOT_FINISHED:
        data.end_line()
        data.write(f"Job finished (status: {_final_word(cluster, job_id, code)}).\n")
        data.flush()
    return code


def _final_word(cluster: str, job_id: int | None, code: int) -> str:
    """Return the status of a job that ended; the code alone tells all but how a job failed."""
    if code != JobExitCode.FAILED:
        return JobExitCode(code).name
    found = requests.get(sdk.job_status(cluster, None if job_id is None else [job_id]))
    return next((status.value for status in found.values() if status), "FAILED")


def _download(cluster: str, job_ids: Sequence[int], form: str) -> int:
    paths = sdk.download_logs(cluster, [str(job_id) for job_id in job_ids] or None)
    if form != "table":
        emit({str(job_id): str(path) for job_id, path in paths.items()}, form)
        return exit_codes.OK
    for job_id, path in paths.items():
        say(f"Job {job_id} logs: {path}")
    return exit_codes.OK


def _print_status(cluster: str, job_ids: Sequence[int], form: str) -> int:
    found = requests.get(sdk.job_status(cluster, list(job_ids) or None))
    words = {str(job_id): getattr(status, "value", status) for job_id, status in found.items()}
    if form != "table":
        emit(words, form)
    for job_id, word in words.items() if form == "table" else ():
        say(f"Job {job_id}: {word or 'not found'}")
    if not words:
        talk(f"Cluster {cluster!r} has no jobs.")
    good = bool(words) and all(word == "SUCCEEDED" for word in words.values())
    return exit_codes.OK if good else exit_codes.ERROR


def _may_cancel(cluster: str, job_ids: Sequence[int]) -> bool:
    """Whether there is something to cancel; says so if not."""
    if job_ids:
        found = requests.get(sdk.job_status(cluster, list(job_ids)))
        unknown = [str(job_id) for job_id in job_ids if found.get(job_id) is None]
        if unknown:
            talk(f"Error: job {', '.join(unknown)} not found on cluster {cluster!r}; nothing was cancelled.", "red")
        return not unknown
    if requests.get(sdk.queue(cluster, skip_finished=True)):
        return True
    talk(f"No jobs to cancel on cluster {cluster!r}.")
    return False


@options.command("cancel", help="Cancel jobs of a cluster: those given, all, or without either the newest that runs.")
@options.cluster_name
@click.argument("job_ids", nargs=-1, type=int, metavar="[JOBS]...")
@click.option("-a", "--all", "everything", is_flag=True, help="All of your jobs on the cluster.")
@options.all_users
@options.yes
@options.asynchronous
@options.output
def cancel(
    cluster: str,
    job_ids: tuple[int, ...],
    *,
    everything: bool,
    all_users: bool,
    yes: bool,
    asynchronous: bool,
    form: str,
) -> int:
    """Cancel jobs."""
    if job_ids and (everything or all_users):
        raise click.UsageError("Pass either job ids or --all, not both.")
    if not fetch([cluster], all_users=all_users):
        raise ClusterDoesNotExist(f"Cluster {cluster!r} not found.")
    what = "all jobs" if everything or all_users else "the newest running job"
    if job_ids:
        what = f"job{'s' if len(job_ids) > 1 else ''} {', '.join(map(str, job_ids))}"
    if not _may_cancel(cluster, job_ids):
        return exit_codes.ERROR if job_ids else exit_codes.OK
    confirm(f"Cancelling {what} on cluster {cluster!r}. Proceed?", assume_yes=yes)
    request_id = str(sdk.cancel(cluster, all=everything, all_users=all_users, job_ids=list(job_ids) or None))
    if asynchronous:
        print_request_id(request_id, form, cluster=cluster)
        return exit_codes.OK
    try:
        with Progress("Cancelling…") as progress:
            requests.stream_and_get(request_id, output_stream=progress)
    except KeyboardInterrupt:
        talk_of_going_on([request_id])
        return exit_codes.INTERRUPTED
    talk(paint("✓ ", "green", sys.stderr) + f"Cancelled {what} on cluster {cluster!r}.")
    if form != "table":
        emit({"request_id": request_id, "cluster": cluster, "job_ids": list(job_ids)}, form)
    return exit_codes.OK
