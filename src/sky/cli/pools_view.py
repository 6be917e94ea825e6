"""How pools look in a table. Free of click, as `status_view` is, which shows them below the clusters."""

from collections.abc import Sequence

from sky.cli import tables, times
from sky.cli.records import Record, number, text

_COLUMNS = ("NAME", "VERSION", "UPTIME", "STATUS", "WORKERS")
_MORE_COLUMNS = ("AUTOSCALING_POLICY", "REQUESTED_RESOURCES", "WAITING", "REASON")


def table(pools: Sequence[Record], at: float, *, verbose: bool = False) -> str:
    """Return a row for each pool, as of a moment."""
    columns = [*_COLUMNS, *(_MORE_COLUMNS if verbose else ())]
    return tables.render(columns, [_row(each, at, verbose=verbose) for each in pools])


def _row(pool: Record, at: float, *, verbose: bool) -> list[object]:
    row: list[object] = [
        text(pool, "name"),
        pool.get("version"),
        times.duration(at - number(pool, "uptime")) if pool.get("ready_workers") else "-",
        text(pool, "status"),
        f"{pool.get('ready_workers')}/{pool.get('target_workers')}",
    ]
    if verbose:
        row += [text(pool, "policy"), text(pool, "requested_resources_str"), pool.get("waiting_jobs")]
        row += [tables.clean(pool.get("reason") or "-")]
    return row
