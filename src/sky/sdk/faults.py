"""Faults on request, to try a recovery before it is needed. Called by `sky chaos` and by programs."""

from __future__ import annotations

from typing import Any

from sky.sdk.ids import RequestId
from sky.sdk.requests import submit


def chaos(
    cluster_name: str,
    fault: str,
    *,
    job_id: int | None = None,
    node: int | None = None,
    seed: int = 0,
    after: float = 0.0,
    seconds: float | None = None,
) -> RequestId[dict[str, Any]]:
    """Cause a fault (preempt, kill, partition, oom) on a node of a cluster that is on `local` or in an SSH pool.

    cluster_name: or the number of a managed job, as text; then its cluster of now is meant, and of `kill` and `oom`
    its own processes.

    node: its rank; None draws one from `seed`. job_id: a job of the cluster (`kill` then ends its processes, else the
    agent; `oom` takes the newest that runs). after: seconds until it happens. seconds: of notice before a preemption
    (10), of a partition (30). The value is {"cluster_name", "fault", "node", "job_id", "struck"}. Raises
    NotSupportedError elsewhere.
    """
    body = {"cluster_name": cluster_name, "fault": fault, "job_id": job_id, "node": node, "seed": seed}
    return submit("chaos", {**body, "after": after, "seconds": seconds})
