"""`sky status` with options; `status_view` says what it shows and answers the plain command without click."""

import click

from sky.cli import exit_codes, options
from sky.cli.output import emit
from sky.cli.records import text
from sky.cli.status_view import Wanted, fetch, head_ip, show
from sky.cli.terminal import say, talk
from sky.core.errors import ClusterDoesNotExist, ClusterNotUpError
from sky.sdk import clusters as sdk
from sky.sdk import requests


@options.command("status", help="Show clusters: all, or those that names and globs match.")
@options.cluster_names
@click.option("-v", "--verbose", "--why", is_flag=True, help="More columns, and why a cluster is not UP.")
@click.option("-r", "--refresh", is_flag=True, help="Ask the providers before answering.")
@click.option("--ip", "ip", is_flag=True, help="Print only the address of the cluster's head node.")
@click.option("--endpoints", is_flag=True, help="Print the endpoints of the cluster's open ports.")
@click.option("--endpoint", type=click.IntRange(1, 65535), metavar="PORT", help="Print only the endpoint of this port.")
@click.option("--show-managed-jobs/--no-show-managed-jobs", default=True,
              help="Also managed jobs that have not ended.")  # fmt: skip
@click.option("--show-services/--no-show-services", default=True, hidden=True)
@click.option("--show-pools/--no-show-pools", default=True, help="Also pools.")
@options.all_users
@options.output
def status(
    clusters: tuple[str, ...],
    *,
    verbose: bool,
    refresh: bool,
    ip: bool,
    endpoints: bool,
    endpoint: int | None,
    all_users: bool,
    form: str,
    **flags: bool,
) -> int:
    """Show clusters, and below them managed jobs and pools where there are some."""
    asked = [name for name, given in (("--ip", ip), ("--endpoints", endpoints), ("--endpoint", endpoint)) if given]
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} cannot be combined.")
    if asked and len(clusters) != 1:
        raise click.UsageError(f"{asked[0]} needs the name of exactly one cluster.")
    if ip:
        return _print_ip(clusters[0], refresh, form)
    if asked:
        return _print_endpoints(clusters[0], endpoint, form)
    sections = {"managed_jobs": flags["show_managed_jobs"], "pools": flags["show_pools"]}
    return show(Wanted(tuple(clusters), verbose, refresh, all_users, form, **sections))


def _print_ip(name: str, refresh: bool, form: str) -> int:
    records = fetch([name], refresh=refresh)
    if len(records) != 1:
        raise ClusterDoesNotExist(
            f"Cluster {name!r} not found." if not records else f"{name!r} matches several clusters."
        )
    address = head_ip(records[0])
    if not address:
        raise ClusterNotUpError(f"Cluster {name!r} is {text(records[0], 'status')}: its head node has no address.")
    if form == "table":
        say(address)
    else:
        emit({"name": name, "head_ip": address}, form)
    return exit_codes.OK


def _print_endpoints(name: str, port: int | None, form: str) -> int:
    found = requests.get(sdk.endpoints(name, port))
    if form != "table":
        emit({str(key): value for key, value in found.items()}, form)
    elif port is not None:
        say(found.get(port) or next(iter(found.values())))
    else:
        for key, value in found.items():
            say(f"{key}: {value}")
        if not found:
            talk(f"Cluster {name!r} has no open ports; `resources.ports` of a task opens them.")
    return exit_codes.OK
