"""Logs of clusters' jobs as a stream, by whoever asks: of what the node has, over a loss of contact, to a recorded end.

The control plane gives them on to the doors. Several who read the same share the call to the node.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from sky.core.errors import AgentRefused, AgentUnreachable, ClusterNotUpError
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.ports import Fleet, LogPiece, Store
from sky.engine.sharing import Shared
from sky.engine.waiting import until
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: How long an agent holds a log that has nothing new, in seconds.
_LOG_HOLD_S = 10.0
#: Seconds between attempts to go on reading a log whose node does not answer.
_LOG_AGAIN_S = 1.0
#: Seconds for the end of a job to be on record after its log has ended. Another server may have to take over listening
#: first.
_RECORDED_S = 45.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a job's log: from byte `offset` on, or its last `tail` lines (0: all); of one rank, or of all.

    With `follow`, until the job has ended and that is on record; else what is there.
    """

    follow: bool
    tail: int = 0
    offset: int | None = None
    which: str = "run"
    rank: int | None = None


class JobLogs:
    """See the module."""

    def __init__(self, store: Store, fleet: Fleet, signals: Signals) -> None:
        self._store, self._fleet, self._signals = store, fleet, signals
        self._reads: Shared[LogPiece] = Shared()

    async def read(self, cluster: Cluster, job: Job, part: Part) -> AsyncIterator[LogPiece]:
        """Pieces of a job's log. Raises ClusterNotUpError."""
        if cluster.phase not in (Phase.UP, Phase.DEGRADED, Phase.AUTOSTOPPING):
            raise ClusterNotUpError(
                f"Cluster '{cluster.name}' is {cluster.status}: its logs are on its nodes and cannot be read now.",
                cluster_status=cluster.status.value,
            )
        start = part.offset if part.offset is not None else (None if part.tail else 0)
        while True:
            piece = await self._piece(cluster, job, part, start)
            if piece is None:
                continue
            if piece.ended and part.follow:
                await self._recorded(job)
            if piece.data or piece.ended:
                yield piece
            if piece.ended or (not part.follow and not piece.data):
                return
            start = piece.next

    async def _piece(self, cluster: Cluster, job: Job, part: Part, start: int | None) -> LogPiece | None:
        """The piece at `start`; None when its node is out of reach for now and it is worth asking again."""
        try:
            head = await self._fleet.head(cluster)
            read = partial(
                head.read_log,
                job.job_id or 0,
                offset=start,
                tail=part.tail or None if start is None else None,
                wait=_LOG_HOLD_S if part.follow else 0.0,
                which=part.which,
                rank=part.rank,
            )
            return await self._reads.call((job.id, start, part), read)
        except (AgentUnreachable, AgentRefused) as error:
            if not part.follow:
                raise
            if await self._ended_with_its_cluster(job):
                return LogPiece(b"", start or 0, ended=True)
            if isinstance(error, AgentRefused):
                raise
            # Contact lost is not a job lost: the log goes on where it was read to, once the node is back.
            await self._change_of(cluster)
            return None

    async def _change_of(self, cluster: Cluster) -> None:
        """Wait until something happens to the cluster, or for a moment."""
        with self._signals.watch(f"cluster:{cluster.id}") as change:
            await change.changed(_LOG_AGAIN_S)

    async def _ended_with_its_cluster(self, job: Job) -> bool:
        """Whether the node does not answer because its cluster was taken down under the job."""
        cluster = await self._store.clusters.get(job.cluster_id)
        return cluster is None or cluster.phase in (Phase.STOPPING, Phase.STOPPED, Phase.TERMINATING, Phase.TERMINATED)

    async def _recorded(self, job: Job) -> None:
        """Wait until the end that the node knows of is on record here too, so that `queue` agrees with the log."""

        async def load() -> Job:
            return await self._store.jobs.get(job.id) or job

        try:
            async with asyncio.timeout(_RECORDED_S):
                await until(self._signals, f"job:{job.id}", load, lambda now: now.phase is JobPhase.DONE)
        except TimeoutError:
            log.warning("the end of job %s on %s was not reported in time", job.job_id, job.cluster_name)
