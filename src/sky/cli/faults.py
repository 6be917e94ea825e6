"""`sky chaos` causes a fault on a cluster; `sky progress` is for jobs. Loaded when one of them runs."""

import os
from pathlib import Path

import click

from sky.cli import exit_codes, options
from sky.cli.output import emit
from sky.cli.prompts import confirm
from sky.cli.terminal import say, talk
from sky.core.model.faults import MOST_SECONDS, FaultKind
from sky.sdk import faults as sdk
from sky.sdk import requests

_SECONDS = click.FloatRange(min=0, max=MOST_SECONDS)
#: Where the node of a job wants to be told.
_PROGRESS_FILE = "SKYPILOT_PROGRESS_FILE"


@options.command(
    "chaos",
    help="Cause a fault on a cluster of `infra: local` or of an SSH pool, to see whether its jobs recover. CLUSTER may "
    "also be the number of a managed job: then it happens on the cluster that it has now. FAULT is "
    "preempt (a notice, then the node ends), kill (kill -9 of a job's processes, or of the node's agent), partition "
    "(nothing reaches the node for a while) or oom (a job ends as for want of memory).",
)
@click.argument("fault", type=click.Choice([each.value for each in FaultKind]))
@options.cluster_name
@click.argument("job_id", type=int, required=False)
@click.option("--node", type=click.IntRange(min=0), help="Rank of the node; one is drawn from --seed otherwise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the node: the same seed, the same node.")
@click.option("--after", type=_SECONDS, default=0.0, help="Seconds until it happens.")
@click.option("--seconds", type=_SECONDS, help="Of notice before a preemption (10), or of a partition (30).")
@options.yes
@options.output
def chaos(
    fault: str,
    cluster: str,
    *,
    job_id: int | None,
    node: int | None,
    seed: int,
    after: float,
    seconds: float | None,
    yes: bool,
    form: str,
) -> int:
    """Cause a fault."""
    whose = f"managed job {cluster}" if cluster.isdecimal() else f"cluster {cluster!r}"
    what = f"job {job_id} of {whose}" if job_id is not None else whose
    confirm(f"Causing '{fault}' on {what}. Proceed?", assume_yes=yes)
    asked = sdk.chaos(cluster, fault, job_id=job_id, node=node, seed=seed, after=after, seconds=seconds)
    told = requests.get(asked)
    if form != "table":
        emit(told, form)
    else:
        say(f"{fault}: node {told['node']} of {told['cluster_name']}. `sky events {cluster}` tells what followed.")
    return exit_codes.OK


@options.command("progress", help="Inside of a job: say how far it is, from 0 to 1 or like 42%.", hidden=True)
@click.argument("share")
def progress(share: str) -> int:
    """Write a share where the node looks for it; the node has a command of this name for jobs without our own."""
    number, percent = share.removesuffix("%"), share.endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise click.UsageError(f"{share[:40]!r} is no share; a number from 0 to 1, or like 42%.")
    path = os.environ.get(_PROGRESS_FILE)
    if not path:
        talk("Only a job can say how far it is.", "red")
        return exit_codes.ERROR
    Path(path).write_text(f"{value:.6f}\n", encoding="ascii")
    return exit_codes.OK
