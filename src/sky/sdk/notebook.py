"""In a notebook: tasks, plans and clusters as tables, and `%sky`, `%%sky` after `%load_ext sky`.

IPython is not imported here: it hands itself to `load_ipython_extension`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sky.core.errors import JobError
from sky.sdk.records import ClusterJobRecord, CostRecord, ManagedJobRecord, PlanRecord, Record, StatusResponse
from sky.sdk.runs import Run
from sky.sdk.tasks import Task

#: What a table of such records shows, as (heading, field).
_COLUMNS: Mapping[type[Record], Sequence[tuple[str, str]]] = {
    StatusResponse: (
        ("Name", "name"), ("Status", "status"), ("Infra", "infra"), ("Resources", "resources_str"),
        ("Autostop", "autostop"),
    ),
    ClusterJobRecord: (("ID", "job_id"), ("Name", "job_name"), ("Status", "status"), ("Resources", "resources")),
    ManagedJobRecord: (
        ("ID", "job_id"), ("Name", "job_name"), ("Status", "status"), ("Infra", "infra"),
        ("Recoveries", "recovery_count"), ("Reason", "failure_reason"),
    ),
    CostRecord: (("Name", "name"), ("Resources", "resources_str"), ("USD", "total_cost")),
}  # fmt: skip
_PLACES = (
    ("Infra", "infra"), ("Instance", "instance_type"), ("vCPUs", "cpus"), ("Mem (GB)", "memory_gb"),
    ("GPUs", "accelerators"), ("Nodes", "num_nodes"), ("USD per hour", "price_hourly"), ("Chosen", "chosen"),
)  # fmt: skip
#: What is shown so.
_SHOWN = (Task, Record, list)
#: Rows of a table, and characters of a script, that are shown.
_MOST_ROWS, _MOST_SCRIPT = 200, 4000


def html(thing: object) -> str | None:
    """A task, a plan, a record, or a list of records as HTML; None for anything else. All text is escaped."""
    if isinstance(thing, Task):
        return _task(thing)
    if isinstance(thing, PlanRecord):
        return _rows(_PLACES, thing.placements) + (f"<p>{escape(str(thing.note))}</p>" if thing.note else "")
    if isinstance(thing, Record):
        columns = _COLUMNS.get(type(thing))
        return _rows(columns, [thing]) if columns else None
    if isinstance(thing, list) and thing:
        kind = type(thing[0])
        if kind is PlanRecord:
            return "".join(html(each) or "" for each in thing)
        if kind in _COLUMNS and all(type(each) is kind for each in thing):
            return _rows(_COLUMNS[kind], thing)
    return None


def load_ipython_extension(ipython: Any) -> None:
    """What `%load_ext sky` calls."""
    ipython.register_magic_function(_line, "line", "sky")
    ipython.register_magic_function(_cell, "cell", "sky")
    for kind in _SHOWN:
        # None leaves a list that is none of ours to what else there is.
        ipython.display_formatter.formatters["text/html"].for_type(kind, html)


def unload_ipython_extension(ipython: Any) -> None:
    """What `%unload_ext sky` calls."""
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop("sky", None)
    for shown in _SHOWN:
        ipython.display_formatter.formatters["text/html"].pop(shown, None)


# --- magics -----------------------------------------------------------------------------------------------------------


def _line(line: str) -> None:
    """`%sky status`: any command of the command line."""
    from importlib import import_module  # noqa: PLC0415 - the command line is not part of the SDK: found by its name

    import_module("sky.cli").main(shlex.split(line))


def _cell(line: str, cell: str) -> None:
    """`%%sky CLUSTER [--gpus H100:1] [--infra aws] …`: the cell is a shell script, run on that cluster.

    Made if it is not there, and kept. Interrupting the cell cancels the job. Raises JobError if it fails.
    """
    asked = _parsed(line)
    wanted = {"infra": asked.infra, "accelerators": asked.gpus, "cpus": asked.cpus}
    task = Task(name="cell", run=cell, num_nodes=asked.num_nodes)
    task.set_resources({key: value for key, value in wanted.items() if value})
    options = {"idle_minutes_to_autostop": asked.idle_minutes} if asked.idle_minutes is not None else {}
    outcome = Run(task, cluster_name=asked.cluster, keep=not asked.down, **options).follow(sys.stdout)
    if not outcome.succeeded:
        raise JobError(f"job {outcome.job_id} on {asked.cluster}: {outcome.status}")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong by an exception: a notebook must not be ended for a typing error."""

    def error(self, message: str) -> Any:
        raise ValueError(f"{message}\n{self.format_usage()}")


def _parsed(line: str) -> argparse.Namespace:
    parser = _Parser(prog="%%sky", add_help=False)
    parser.add_argument("cluster")
    parser.add_argument("--infra")
    parser.add_argument("--gpus")
    parser.add_argument("--cpus")
    parser.add_argument("--num-nodes", type=int)
    parser.add_argument("-i", "--idle-minutes", type=float)
    parser.add_argument("--down", action="store_true")
    return parser.parse_args(shlex.split(line))


# --- tables -----------------------------------------------------------------------------------------------------------


def _task(task: Task) -> str:
    """What it runs, where it may run. Of secrets the names alone."""
    rows: list[tuple[str, str]] = [("Name", task.name or "-"), ("Nodes", str(task.num_nodes))]
    rows += [("Resources", str(each)) for each in task.resources]
    for title, names in (("Variables", task.envs), ("Secrets", task.secrets)):
        if names:
            rows.append((title, ", ".join(sorted(names))))
    for title, script in (("Setup", task.setup), ("Run", task.run)):
        if script:
            rows.append((title, str(script)[:_MOST_SCRIPT]))
    cells = (f"<tr><th>{escape(title)}</th><td><pre>{escape(text)}</pre></td></tr>" for title, text in rows)
    return f"<table>{''.join(cells)}</table>"


def _rows(columns: Sequence[tuple[str, str]], records: Iterable[Mapping[str, Any]]) -> str:
    listed = list(records)
    head = "".join(f"<th>{escape(title)}</th>" for title, _ in columns)
    body = (
        f"<tr>{''.join(f'<td>{escape(_text(each.get(key)))}</td>' for _, key in columns)}</tr>"
        for each in listed[:_MOST_ROWS]
    )
    more = f"<p>and {len(listed) - _MOST_ROWS} more</p>" if len(listed) > _MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{more}"


def _text(value: Any) -> str:
    shown: Callable[[Any], str] = str
    if value is None or value is False:
        return "-"
    if value is True:
        return "yes"
    if isinstance(value, float):
        shown = "{:.2f}".format
    elif isinstance(value, Mapping):
        return ", ".join(f"{key}:{count}" for key, count in value.items())
    return shown(getattr(value, "value", value))
