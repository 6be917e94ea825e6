"""stop, start, down, autostop: what is done to clusters as a whole. Loaded by the root group when one of them runs."""

import click

from sky.cli import options
from sky.cli.targets import ask, choose, run_all
from sky.sdk import clusters as sdk

_all = click.option("-a", "--all", "everything", is_flag=True, help="All of your clusters.")
_graceful = click.option(
    "--graceful", is_flag=True, help="Cancel jobs first and wait until cached mounts are written back."
)
_graceful_timeout = click.option("--graceful-timeout", type=int, metavar="SECONDS", help="Wait no longer than this.")
_idle = click.option(
    "-i",
    "--idle-minutes-to-autostop",
    "--idle-minutes",
    "idle_minutes",
    type=int,
    help="Stop after so many idle minutes.",
)


@options.command("stop", help="Stop clusters; their disks are kept and `sky start` brings them back.")
@options.cluster_names
@_all
@options.all_users
@_graceful
@_graceful_timeout
@options.yes
@options.asynchronous
@options.output
def stop(
    clusters: tuple[str, ...],
    *,
    everything: bool,
    all_users: bool,
    graceful: bool,
    graceful_timeout: int | None,
    yes: bool,
    asynchronous: bool,
    form: str,
) -> int:
    """Stop clusters."""
    choice = choose(clusters, everything, all_users=all_users)
    ask(choice, "Stopping", assume_yes=yes)
    return run_all(
        choice,
        lambda name: sdk.stop(name, graceful=graceful, graceful_timeout=graceful_timeout),
        doing="Stopping",
        done="is stopped; `sky start` brings it back",
        asynchronous=asynchronous,
        form=form,
    )


@options.command("down", help="Remove clusters and all that is on their disks.")
@options.cluster_names
@_all
@options.all_users
@click.option("-p", "--purge", is_flag=True, help="Forget the cluster even if its provider fails to remove it.")
@_graceful
@_graceful_timeout
@options.yes
@options.asynchronous
@options.output
def down(
    clusters: tuple[str, ...],
    *,
    everything: bool,
    all_users: bool,
    purge: bool,
    graceful: bool,
    graceful_timeout: int | None,
    yes: bool,
    asynchronous: bool,
    form: str,
) -> int:
    """Remove clusters."""
    choice = choose(clusters, everything, all_users=all_users)
    ask(choice, "Terminating", assume_yes=yes)
    return run_all(
        choice,
        lambda name: sdk.down(name, purge=purge, graceful=graceful, graceful_timeout=graceful_timeout),
        doing="Terminating",
        done="is gone",
        asynchronous=asynchronous,
        form=form,
    )


@options.command("start", help="Start stopped clusters again.")
@options.cluster_names
@_all
@_idle
@options.wait_for
@click.option("--down", is_flag=True, help="With -i: remove the idle cluster instead of stopping it.")
@click.option("-r", "--retry-until-up", is_flag=True, help="Keep trying until the cluster is up.")
@click.option("-f", "--force", is_flag=True, help="Also for a cluster that is UP: set its agent up again.")
@options.yes
@options.asynchronous
@options.output
def start(
    clusters: tuple[str, ...],
    *,
    everything: bool,
    idle_minutes: int | None,
    wait_for: str | None,
    down: bool,
    retry_until_up: bool,
    force: bool,
    yes: bool,
    asynchronous: bool,
    form: str,
) -> int:
    """Start stopped clusters."""
    if down and idle_minutes is None:
        raise click.UsageError("--down needs -i: after how many idle minutes the cluster is to go.")
    choice = choose(clusters, everything)
    ask(choice, "Starting", assume_yes=yes)
    return run_all(
        choice,
        lambda name: sdk.start(
            name,
            idle_minutes_to_autostop=idle_minutes,
            wait_for=wait_for,
            retry_until_up=retry_until_up,
            down=down,
            force=force,
        ),
        doing="Starting",
        done="is up",
        asynchronous=asynchronous,
        form=form,
    )


#: The interface's default for `sky autostop` without -i.
DEFAULT_IDLE_MINUTES = 5


@options.command("autostop", help="Stop clusters, or with --down remove them, once they are idle.")
@options.cluster_names
@_all
@options.all_users
@click.option("-i", "--idle-minutes", type=int, help=f"Idle minutes before it happens ({DEFAULT_IDLE_MINUTES}).")
@options.wait_for
@click.option("--cancel", is_flag=True, help="Do not stop any more (same as a negative -i).")
@click.option("--down", is_flag=True, help="Remove instead of stop.")
@options.yes
@options.asynchronous
@options.output
def autostop(
    clusters: tuple[str, ...],
    *,
    everything: bool,
    all_users: bool,
    idle_minutes: int | None,
    wait_for: str | None,
    cancel: bool,
    down: bool,
    yes: bool,
    asynchronous: bool,
    form: str,
) -> int:
    """Set when idle clusters stop."""
    if cancel and idle_minutes is not None and idle_minutes >= 0:
        raise click.UsageError("Pass either --cancel or -i, not both.")
    minutes = -1 if cancel else DEFAULT_IDLE_MINUTES if idle_minutes is None else idle_minutes
    off = minutes < 0
    choice = choose(clusters, everything, all_users=all_users)
    doing = "Cancelling autostop of" if off else "Setting autodown of" if down else "Setting autostop of"
    ask(choice, doing, assume_yes=yes)
    unit = "minute" if minutes == 1 else "minutes"
    fate = "will be removed" if down else "will be stopped"
    return run_all(
        choice,
        lambda name: sdk.autostop(name, minutes, wait_for=wait_for, down=down and not off),
        doing=doing,
        done="will not stop by itself any more" if off else f"{fate} after {minutes} idle {unit}",
        asynchronous=asynchronous,
        form=form,
    )
