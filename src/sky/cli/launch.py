"""launch and exec: a task on a cluster, followed to its end. Loaded by the root group when one of them runs.

stdout carries the job's log, "Job submitted, ID: N" and how it finished (or one JSON object with `-o`); everything
else is talk and goes to stderr.
"""

import getpass
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click

from sky.cli import exit_codes, options, plans
from sky.cli.completion import complete_cluster, complete_exec
from sky.cli.entrypoint import COMMAND_NAME, classify
from sky.cli.jobs import follow_job
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.records import Record, text
from sky.cli.status_view import fetch
from sky.cli.targets import print_request_id, talk_of_going_on
from sky.cli.terminal import Progress, talk
from sky.core.errors import not_supported
from sky.core.model.names import check_cluster_name
from sky.kit.ids import short_token
from sky.sdk import clusters as sdk
from sky.sdk import requests

_QUESTIONS = {
    "STOPPED": "Restarting the stopped cluster {name!r}.",
    "INIT": "Launching on cluster {name!r}, which is in INIT.",
    "AUTOSTOPPING": "Launching on cluster {name!r}, which is about to stop.",
}

#: Said on stdout, where scripts look for it; the server's own line in the talk is left out.
_SUBMITTED = "Job submitted, ID:"
_KEY_OF_SECRET = re.compile(r"^((?:--secret=)?[^=]*).*", re.DOTALL)


@options.command("launch", help="Run ENTRYPOINT (a task YAML or a command) on a cluster, made for it if need be.")
@options.entrypoint
@click.option(
    "-c",
    "--cluster",
    shell_complete=complete_cluster,
    help="Cluster to use, or to make under this name (a new name otherwise).",
)
@click.option("--dryrun", is_flag=True, help="Show where it would run; change nothing.")
@click.option("--all-infra", is_flag=True, help="With --dryrun: show places that are not enabled, too.")
@click.option("-d", "--detach-run", is_flag=True, help="Return once the job is submitted.")
@options.task_options
@click.option("--priority", help="-1000 to 1000, or the name of a priority class.")
@click.option(
    "-i", "--idle-minutes-to-autostop", "idle_minutes", type=int, help="Stop the cluster after so many idle minutes."
)
@options.wait_for
@click.option("--down", is_flag=True, help="Remove the cluster after its last job (with -i: once it is idle).")
@click.option("-r", "--retry-until-up", is_flag=True, help="Keep trying all places until one has room.")
@click.option("--no-setup", is_flag=True, help="Leave out the setup of the task.")
@click.option(
    "--clone-disk-from",
    "--clone",
    metavar="CLUSTER",
    shell_complete=complete_cluster,
    help="Start from the disk of a stopped cluster.",
)
@click.option("--fast", is_flag=True, help="On a cluster that is UP: leave out making it ready, and setup.")
@click.option("--resize", is_flag=True, help="Change the number of nodes of the cluster (with -c).")
@click.option("--docker", is_flag=True, hidden=True)
@options.yes
@options.asynchronous
@options.output
def launch(entrypoint: tuple[str, ...], *, cluster: str | None, form: str, **flags: Any) -> int:
    """Run a task on a cluster, made for it if need be."""
    _refuse(flags, cluster)
    if flags["all_infra"] and not flags["dryrun"]:
        raise click.UsageError("--all-infra compares places that cannot be used yet: it goes with --dryrun.")
    if flags["asynchronous"] and flags["dryrun"]:
        raise click.UsageError("--dryrun changes nothing, so there is no request for --async to return.")
    task = task_of(entrypoint, flags)
    name = check_cluster_name(cluster) if cluster else new_name()
    if not prepare(task, name, existing=fetch([cluster]) if cluster else [], flags=flags, form=form):
        return exit_codes.OK
    request_id = str(
        sdk.launch(
            task,
            name,
            retry_until_up=flags["retry_until_up"],
            idle_minutes_to_autostop=flags["idle_minutes"],
            wait_for=flags["wait_for"],
            down=flags["down"],
            no_setup=flags["no_setup"],
            fast=flags["fast"],
            clone_disk_from=flags["clone_disk_from"],
            resize=flags["resize"],
            _command=typed(),
        )
    )
    return finish(request_id, name, "Launching", flags=flags, form=form)


@options.command("exec", help="Run ENTRYPOINT (a task YAML or a command) on CLUSTER, which is UP; no setup.")
@click.argument("words", nargs=-1, metavar="CLUSTER ENTRYPOINT...", shell_complete=complete_exec)
@click.option("-c", "--cluster", hidden=True, shell_complete=complete_cluster)
@click.option("-d", "--detach-run", is_flag=True, help="Return once the job is submitted.")
@options.task_options
@options.asynchronous
@click.option("-y", "--yes", is_flag=True, hidden=True)
@options.output
def exec_(words: tuple[str, ...], *, cluster: str | None, form: str, **flags: Any) -> int:
    """Run a task on a cluster that is up."""
    if cluster is None:
        cluster, words = (words[0], words[1:]) if words else (None, ())
    if not cluster or not words:
        raise click.UsageError("Pass the name of a cluster, then a task YAML or a command: sky exec CLUSTER 'echo hi'.")
    task = task_of(words, flags)
    request_id = str(sdk.exec(task, cluster, _command=typed()))
    return finish(request_id, cluster, "Submitting", flags=flags, form=form)


def _refuse(flags: Mapping[str, Any], cluster: str | None) -> None:
    """Before anything is shown or asked: what contradicts itself, and what cannot be done yet."""
    if flags["resize"] and not cluster:
        raise click.UsageError("--resize needs -c: the cluster whose number of nodes changes.")
    for given, feature in ((flags["docker"], "Running in a local Docker container (--docker)"),):
        if given:
            raise not_supported(feature)


def task_of(words: tuple[str, ...], flags: Mapping[str, Any]) -> object:
    """Return the task that the words and options mean: a `Task`, or for a bare command its configuration.

    A command without options has nothing to be read and checked here, and is spared 90 ms of imports for that.
    """
    entry = classify(words)
    if entry.command and not any(flags.get(name) not in (None, ()) for name in options.TASK_FLAGS):
        return {"name": COMMAND_NAME, "run": entry.command}
    from sky.cli.tasks import make_task  # noqa: PLC0415 - see above

    return make_task(entry, flags)


def prepare(task: object, name: str, *, existing: list[Record], flags: dict[str, Any], form: str) -> bool:
    """Show what will be used and ask. False when a dry run ends here; raises prompts.Declined for a no."""
    status = text(existing[0], "status") if existing else None
    if status == "UP":
        talk(f"Running on the existing cluster {name!r}.")
        question = None
    elif status is None:
        found = plans.of(task, all_infra=flags["all_infra"])
        plans.show(found)
        question = f"Launching a new cluster {name!r}."
        if flags["dryrun"] and form != "table":
            emit([plans.shape(plan) for plan in found], form)
    else:
        question = _QUESTIONS.get(status, "Launching on cluster {name!r}.").format(name=name)
    if flags["dryrun"]:
        talk("Dry run: nothing was changed.")
        return False
    if question and flags["yes"]:
        talk(question)
    elif question:
        confirm(f"{question} Proceed?", assume_yes=False)
    return True


def finish(request_id: str, cluster: str, doing: str, *, flags: dict[str, Any], form: str) -> int:
    """Follow the request, then the job's log, and return the job's exit code."""
    if flags["asynchronous"]:
        print_request_id(request_id, form, cluster=cluster)
        return exit_codes.OK
    try:
        with Progress(f"{doing} on {cluster}…", without=_SUBMITTED) as progress:
            job_id, _ = requests.stream_and_get(request_id, output_stream=progress)
    except KeyboardInterrupt:
        talk_of_going_on([request_id])
        return exit_codes.INTERRUPTED
    data: TextIO = sys.stdout if form == "table" else sys.stderr
    if job_id is not None:
        data.write(f"{_SUBMITTED} {job_id}\n")
        data.flush()
    followed = job_id is not None and not flags["detach_run"]
    code = follow_job(cluster, job_id, stream=data) if followed else exit_codes.OK
    if form != "table":
        emit(
            {"request_id": request_id, "cluster": cluster, "job_id": job_id, "exit_code": code if followed else None},
            form,
        )
    elif code != exit_codes.INTERRUPTED:
        _talk_of_what_next(cluster, job_id, gone=bool(flags.get("down")) and flags["idle_minutes"] is None)
    return code


def _talk_of_what_next(cluster: str, job_id: int | None, *, gone: bool) -> None:
    if gone:
        return
    lines = [] if job_id is None else [f"sky logs {cluster} {job_id}", f"sky exec {cluster} CMD"]
    talk(f"Cluster {cluster}:  " + "   ".join([*lines, f"sky stop {cluster}", f"sky down {cluster}"]), "dim")


def typed() -> str:
    """Return what was typed, for the record; secrets without their values."""
    words: list[str] = []
    for word in click.get_current_context().obj or ():
        hidden = word.startswith("--secret=") or (words and words[-1] == "--secret")
        words.append(_KEY_OF_SECRET.sub(r"\1", word) if hidden else word)
    return shlex.join(["sky", *words])


def new_name() -> str:
    """Return a name for a cluster that was given none: `sky-1a2b-ada`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = ""
    clean = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-")[:20].strip("-")
    return f"sky-{short_token()}" + (f"-{clean}" if clean else "")
