"""The table of where a task could run, shown before `launch` asks. Called by `launch`."""

import sys
from collections.abc import Sequence

from sky.cli import tables
from sky.cli.status_view import Record, number, text
from sky.cli.terminal import talk
from sky.sdk import clusters as sdk
from sky.sdk import requests
from sky.sdk.records import PlanRecord

_COLUMNS = ("INFRA", "INSTANCE", "vCPUs", "Mem(GB)", "GPUS", "COST ($)", "CHOSEN")
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
)
#: Rows shown of a plan; the rest are dearer.
ROWS = 8


def of(task: object) -> list[PlanRecord]:
    """Ask the server where the task could run: one plan per task. Raises ResourcesUnavailableError when nowhere."""
    return requests.get(sdk.optimize([task]))


def show(plans: Sequence[PlanRecord]) -> None:
    """Show plans on stderr, cheapest first."""
    for plan in plans:
        placements: Sequence[Record] = plan.get("placements") or ()
        if not placements:
            continue
        rows = [_row(placement) for placement in placements[:ROWS]]
        talk(tables.render(_COLUMNS, rows, right=("vCPUs", "Mem(GB)", "COST ($)"), stream=sys.stderr))
        if len(placements) > ROWS:
            talk(f"… and {len(placements) - ROWS} more places.")


def _row(placement: Record) -> list[object]:
    nodes = int(number(placement, "num_nodes")) or 1
    instance = text(placement, "instance_type")
    return [
        text(placement, "infra"),
        (f"{nodes}x {instance}" if nodes > 1 else instance) + ("[Spot]" if placement.get("use_spot") else ""),
        f"{number(placement, 'cpus'):g}",
        f"{number(placement, 'memory_gb'):.4g}",
        text(placement, "accelerators") or "-",
        f"{number(placement, 'price_hourly'):.2f}",
        "✔" if placement.get("chosen") else " ",
    ]


def shape(plan: PlanRecord) -> dict[str, object]:
    """Return a plan as `-o json` promises it."""
    placements: Sequence[Record] = plan.get("placements") or ()
    rejections: Sequence[Record] = plan.get("rejections") or ()
    return {
        "placements": [{key: placement.get(key) for key in _KEYS} for placement in placements],
        "rejections": [{key: one.get(key) for key in ("infra", "instance_type", "reason")} for one in rejections],
    }
