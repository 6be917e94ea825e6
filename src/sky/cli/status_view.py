"""What `sky status` shows. Free of click, so that the plain command can be answered without loading it.

Called by `sky.cli.main` directly and by the click command of `sky.cli.status`.
"""

import fnmatch
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sky.cli import exit_codes, tables, times
from sky.cli.output import emit
from sky.cli.records import Record, number, text
from sky.cli.terminal import paint, say
from sky.sdk import clusters, requests, ssh_seen

#: Managed jobs shown below the clusters.
_MOST_JOBS = 10


class Wanted(NamedTuple):
    """What to show: names (globs allowed, none = all), and how."""

    names: tuple[str, ...] = ()
    verbose: bool = False
    refresh: bool = False
    all_users: bool = False
    form: str = "table"
    managed_jobs: bool = True
    pools: bool = True


def show(wanted: Wanted) -> int:
    """Print the clusters, newest launch first, and return the exit code: 0 also when a name is not found.

    Without names what else is there follows in sections of its own: managed jobs that have not ended, and pools.
    """
    records = fetch(wanted.names, refresh=wanted.refresh, all_users=wanted.all_users)
    if not wanted.names:
        ssh_seen.saw(records, lambda: requests.get(requests.read("nodes", {})))
    if wanted.form != "table":
        emit([shape(record) for record in records], wanted.form)
        return exit_codes.OK
    missing = unmatched(wanted.names, records)
    if records or not wanted.names:
        say(paint("Clusters", "bold", sys.stdout))
    if records:
        _print_table(records, wanted)
    elif not wanted.names:
        say("No existing clusters.")
    for name in missing:
        # On stdout, since scripts of the interface look for the quoted name there.
        say(f"Cluster {name!r} not found.")
    if not wanted.names:
        _print_sections(wanted)
    return exit_codes.OK


def fetch(names: Sequence[str], *, refresh: bool = False, all_users: bool = False) -> list[Record]:
    """Return the records of the clusters that names or globs match (no names: all), newest launch first."""
    # The enum with this word; its module is not loaded for the sake of one word.
    how = "FORCE" if refresh else "NONE"
    asked = clusters.status(list(names) or None, refresh=how, all_users=all_users)
    records: list[Record] = requests.get(asked)
    return sorted(records, key=lambda record: (-number(record, "launched_at"), text(record, "name")))


def unmatched(names: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Return the names and globs that match none of the records."""
    present = [text(record, "name") for record in records]
    return [name for name in names if not fnmatch.filter(present, name) and name not in present]


def resources(record: Record, *, full: bool = False) -> str:
    """Return what the cluster is made of, with the number of nodes first: `2x(cpus=4, mem=16)`."""
    each = (text(record, "resources_str_full") if full else "") or text(record, "resources_str")
    nodes = int(number(record, "nodes") or number(record, "num_nodes") or 1)
    return each if each.partition("x")[0].isdigit() else f"{nodes}x{each}"


def infra(record: Record) -> str:
    """Return where a cluster is, as one would write it in `infra:`; `-` when no place was chosen yet."""
    if record.get("infra"):
        return text(record, "infra")
    cloud, region, zone = (text(record, key) for key in ("cloud", "region", "zone"))
    return "/".join(part for part in (cloud.lower(), region if region != cloud.lower() else "", zone) if part) or "-"


def head_ip(record: Record) -> str:
    """Return the address of the head node, empty when there is none."""
    handle = record.get("handle")
    if isinstance(handle, Mapping):
        return str(handle.get("head_ip") or "")
    return str(getattr(handle, "head_ip", None) or "")


def shown_status(record: Record) -> str:
    """Return the status word; INIT because of a broken runtime is shown as UNHEALTHY."""
    status = text(record, "status")
    return "UNHEALTHY" if status == "INIT" and text(record, "init_kind").lower() == "unhealthy" else status


def autostop(record: Record) -> str:
    """Return the idle time as `10m`, with `(down)` when the cluster is removed then; `-` when it is off."""
    minutes = record.get("autostop")
    if not isinstance(minutes, int | float) or minutes < 0:
        return "-"
    return f"{minutes:g}m" + (" (down)" if record.get("to_down") else "")


def last_event(record: Record) -> str:
    """Return the newest line of the cluster's story."""
    event = record.get("last_event")
    return str(event.get("text") or "") if isinstance(event, Mapping) else str(event or "")


def reason(record: Record) -> str:
    """Return why the cluster is in a state that needs an explanation; empty when it needs none."""
    return "" if text(record, "status") in ("UP", "STOPPED") else text(record, "init_status_reason")


def shape(record: Record) -> dict[str, object]:
    """Return the record as `-o json` promises it."""
    return {
        "name": text(record, "name"),
        "status": shown_status(record),
        "infra": infra(record),
        "resources": resources(record, full=True),
        "nodes": record.get("nodes"),
        "autostop": record.get("autostop"),
        "to_down": bool(record.get("to_down")),
        "launched_at": record.get("launched_at"),
        "status_updated_at": record.get("status_updated_at"),
        "head_ip": head_ip(record) or None,
        "user": text(record, "user_name") or None,
        "workspace": text(record, "workspace") or None,
        "command": text(record, "last_creation_command") or text(record, "last_use") or None,
        "last_event": last_event(record) or None,
        "reason": reason(record) or None,
    }


def _print_table(records: Sequence[Record], wanted: Wanted) -> None:
    at = times.now()
    workspaces = len({text(record, "workspace") for record in records}) > 1
    columns: list[tuple[str, Callable[[Record], str]]] = [("NAME", lambda r: text(r, "name"))]
    if wanted.all_users:
        columns.append(("USER", lambda r: text(r, "user_name")))
    if wanted.all_users and wanted.verbose:
        columns.append(("USER_ID", lambda r: text(r, "user_hash")))
    if workspaces:
        columns.append(("WORKSPACE", lambda r: text(r, "workspace")))
    columns += [
        ("INFRA", infra),
        ("RESOURCES", lambda r: resources(r, full=wanted.verbose)),
        ("STATUS", shown_status),
        ("AUTOSTOP", autostop),
        ("LAUNCHED", lambda r: times.ago(number(r, "launched_at"), at)),
    ]
    if wanted.verbose:
        columns += [
            ("HEAD_IP", head_ip),
            ("COMMAND", lambda r: text(r, "last_creation_command") or text(r, "last_use")),
            ("LAST_EVENT", last_event),
        ]
    rows = [[value(record) for _, value in columns] for record in records]
    lines = tables.render([name for name, _ in columns], rows).split("\n")
    say(lines[0])
    for record, line in zip(records, lines[1:], strict=True):
        say(line)
        if wanted.verbose and reason(record):
            say(f"  why: {tables.clean(reason(record))}")


def _print_sections(wanted: Wanted) -> None:
    if wanted.managed_jobs:
        from sky.sdk import managed_jobs  # noqa: PLC0415 - only what is shown is loaded, here and below

        asked = managed_jobs.queue_v2(skip_finished=True, all_users=wanted.all_users, limit=_MOST_JOBS)
        records, total, *_ = requests.get(asked)
        if records:
            from sky.cli import managed_jobs_view  # noqa: PLC0415

            _head("Managed jobs")
            say(managed_jobs_view.table(records, verbose=wanted.verbose, all_users=wanted.all_users))
            if total > _MOST_JOBS:
                say(f"{total} managed jobs have not ended ({_MOST_JOBS} shown; every one: sky jobs queue -s -l all)")
    if wanted.pools:
        from sky.sdk import pools  # noqa: PLC0415

        if found := requests.get(pools.pool_status()):
            from sky.cli import pools_view  # noqa: PLC0415

            _head("Pools")
            say(pools_view.table(found, times.now(), verbose=wanted.verbose))


def _head(title: str) -> None:
    say("")
    say(paint(title, "bold", sys.stdout))
