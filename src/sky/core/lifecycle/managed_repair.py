"""How a managed job's gang is repaired; what the rules of `managed_jobs.py` say of that, as functions of the job.

The attempt whose nodes are lost is over: once its work has ended everywhere and the new nodes are up, another one
begins on the same cluster.
"""

from sky.core.lifecycle.cluster_repair import replacing
from sky.core.lifecycle.managed_events import Seen
from sky.core.model.clusters import Phase
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.model.statuses import JobStatus
from sky.core.policy.repair import Loss, Verdict, repair_or_relaunch
from sky.kit.frozen import replace


def verdict(job: ManagedJob, event: Seen) -> Verdict:
    """Whether the nodes that are gone can be replaced beside the others; asked once their job counts as lost."""
    if event.phase not in (Phase.UP, Phase.DEGRADED) or not event.ever_up or job.cluster_id is None:
        return Verdict(False)
    return repair_or_relaunch(Loss(event.num_nodes, event.lost, event.fixed, job.repairs))


def begun(job: ManagedJob, event: Seen) -> ManagedJob:
    """The job while the nodes that are gone are replaced."""
    # A loss may be seen before it was seen to run, which says as well that its setup was done everywhere.
    unprepared = () if event.job is JobStatus.RUNNING else job.fresh
    left = None if unprepared is None else tuple(sorted({*unprepared, *event.lost}))
    return replace(
        job, stage=Stage.REPAIRING, replacing=event.lost, repair=event.repairs + 1, repairs=job.repairs + 1,
        fresh=left, silent_since=None,
    )  # fmt: skip


def in_words(job: ManagedJob, event: Seen) -> str:
    """`replacing 1 of 2 nodes (rank 1) on aws/us-east-1/us-east-1a`."""
    where = event.where or job.task.where
    return replacing(job.replacing, event.num_nodes) + (f" on {where.infra}" if where else "")


def under_way(job: ManagedJob, event: Seen) -> bool:
    """Whether the repair has not come to an end, good or bad."""
    return event.repairs < job.repair or event.phase in (Phase.REPAIRING, Phase.BOOTSTRAPPING)


def whole(job: ManagedJob) -> ManagedJob:
    """The next attempt, on the cluster of the last."""
    number = job.attempt + 1
    return replace(
        job, attempt=number, job_key=f"managed:{job.id}:{number}", job_number=None, replacing=(), seen_version=-1,
        reason=None,
    )  # fmt: skip
