"""The table of where a task could run, and the reasons beside it. Called by `launch` and `optimize`."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from sky.cli import tables, times
from sky.cli.records import Record, number, text
from sky.cli.terminal import talk
from sky.sdk import plans as sdk
from sky.sdk import requests
from sky.sdk.records import PlanRecord

_COLUMNS = ("INFRA", "INSTANCE", "vCPUs", "Mem(GB)", "GPUS", "COST ($)", "CHOSEN")
_TIMES = ("INFRA", "INSTANCE", "vCPUs", "Mem(GB)", "GPUS", "TIME (hr)", "CHOSEN")
_KEYS = (
    "infra",
    "instance_type",
    "num_nodes",
    "cpus",
    "memory_gb",
    "accelerators",
    "use_spot",
    "price_hourly",
    "chosen",
    "enabled",
    "reserved_nodes",
    "quality",
    "observed",
    "standing",
)
_REASON_KEYS = ("infra", "instance_type", "reason", "code", "asked", "found", "remedy")
#: Rows shown of a plan; the rest are dearer.
ROWS = 8
#: Seconds after which the age of prices is worth a word.
_OLD_S = 3 * 86400.0


def of(task: object, **questions: Any) -> list[PlanRecord]:
    """Ask the server where a task or DAG could run: one plan per task. Raises ResourcesUnavailableError."""
    return requests.get(sdk.optimize(task if hasattr(task, "tasks") else [task], **questions))


def render(plan: PlanRecord, *, target: str = "COST", stream: TextIO) -> str:
    """Return the candidates of one task as the interface's table, best first."""
    placements: Sequence[Record] = plan.get("placements") or ()
    shown = (plan.get("places") or placements)[:ROWS]
    by_time = target.upper() == "TIME"
    headers = _TIMES if by_time else _COLUMNS
    rows = [_row(placement, by_time=by_time) for placement in shown]
    lines = [tables.render(headers, rows, right=("vCPUs", "Mem(GB)", headers[5]), stream=stream)]
    others = len(placements) - len(shown) + int(number(plan, "more"))
    if others > 0:
        count = f"{others:,}" if plan.get("more") is not None else f"at least {others:,}"
        lines.append(f"… and {count} more places; `sky optimize --explain` tells why these.")
    if any(placement.get("enabled") is False for placement in shown):
        lines.append("* not enabled yet: `sky check CLOUD` tells how to get in.")
    lines += [
        f"{text(each, 'infra')}: {reserved:g} of {number(each, 'num_nodes'):g} nodes are reserved, and paid for."
        for each in shown
        if (reserved := number(each, "reserved_nodes"))
    ]
    if ages := _ages(shown):
        lines.append(ages)
    if plan.get("data"):
        lines.append(text(plan, "data"))
    return "\n".join(lines)


def show(plans: Sequence[PlanRecord], *, target: str = "COST") -> None:
    """Show plans on stderr, best first."""
    for plan in plans:
        if plan.get("placements"):
            talk(render(plan, target=target, stream=sys.stderr))


def _ages(placements: Sequence[Record]) -> str:
    """How old the prices shown are, where that is more than a few days."""
    seen = [float(at) for each in placements if isinstance(at := each.get("observed"), int | float)]
    now = times.now()
    if not seen or now - min(seen) < _OLD_S:
        return ""
    ages = dict.fromkeys([times.ago(max(seen), now), times.ago(min(seen), now)])
    return f"Prices seen {' to '.join(ages)}; `sky catalog refresh` asks for today's."


def _row(placement: Record, *, by_time: bool) -> list[object]:
    nodes = int(number(placement, "num_nodes")) or 1
    instance = text(placement, "instance_type")
    standing = placement.get("standing")
    figures: Mapping[str, float] = standing if isinstance(standing, Mapping) else {}
    hours = figures.get("hours", 0.0)
    # What the run costs: the machines for as long as it is taken to last (an hour, unless told), and moving its data.
    cost = sum(figures.get(part, 0.0) for part in ("price", "data", "expected_loss"))
    return [
        text(placement, "infra") + ("*" if placement.get("enabled") is False else ""),
        (f"{nodes}x {instance}" if nodes > 1 else instance) + ("[Spot]" if placement.get("use_spot") else ""),
        f"{number(placement, 'cpus'):g}",
        f"{number(placement, 'memory_gb'):.4g}",
        text(placement, "accelerators") or "-",
        f"{hours:.2f}" if by_time else f"{cost:.2f}",
        "✔" if placement.get("chosen") else " ",
    ]


def reason_line(reason: Record) -> str:
    """Return why one offer, or a whole place, was not taken: "gcp/us-central1 a2-highgpu-8g: 34 % dearer …"."""
    what = " ".join(part for part in (text(reason, "infra"), text(reason, "instance_type")) if part not in ("", "*"))
    remedy = f" ({text(reason, 'remedy')})" if reason.get("remedy") else ""
    return f"{what}: {text(reason, 'reason')}{remedy}" if what else f"{text(reason, 'reason')}{remedy}"


def shape(plan: PlanRecord) -> dict[str, object]:
    """Return a plan as `-o json` promises it."""
    placements: Sequence[Record] = plan.get("placements") or ()
    told: dict[str, object] = {
        "placements": [{key: placement.get(key) for key in _KEYS} for placement in placements],
        "rejections": [{key: one.get(key) for key in _REASON_KEYS} for one in plan.get("rejections") or ()],
    }
    answers: Sequence[Record] = plan.get("answers") or ()
    return told | {
        "task": plan.get("task"),
        "more": plan.get("more"),
        "data": plan.get("data") or None,
        "answers": [{key: one.get(key) for key in _REASON_KEYS} for one in answers],
        "comparisons": list(plan.get("comparisons") or ()),
        "chances": list(plan.get("chances") or ()),
        "note": plan.get("note") or None,
    }
