"""`sky events`: the story of a cluster, one line per change. Loaded by the root group when it runs."""

from sky.cli import exit_codes, options, times
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.tables import clean
from sky.cli.terminal import say
from sky.sdk import clusters as sdk
from sky.sdk import managed_jobs, requests


@options.command("events", help="Tell what happened to a cluster, or to a managed job by its number, oldest first.")
@options.cluster_name
@options.output
def events(cluster: str, *, form: str) -> int:
    """Tell the story of a cluster, or of a managed job: no cluster's name is a number."""
    asked = managed_jobs.events(int(cluster)) if cluster.isdecimal() else sdk.cluster_events(cluster)
    found: list[Record] = requests.get(asked)
    if form != "table":
        emit([shape(event) for event in found], form)
        return exit_codes.OK
    for event in found:
        before, after = text(event, "before"), text(event, "after")
        change = f"{before} → {after}" if before else after
        shown = f"  [{change}]" if before != after and after else ""
        say(f"{times.local_time(number(event, 'time'))}  {clean(text(event, 'text'))}{shown}")
    return exit_codes.OK


def shape(event: Record) -> dict[str, object]:
    """Return an event as `-o json` promises it."""
    return {
        "time": event.get("time"),
        "entity": text(event, "entity"),
        "name": text(event, "name"),
        "kind": text(event, "kind"),
        "before": text(event, "before"),
        "after": text(event, "after"),
        "text": text(event, "text"),
    }
