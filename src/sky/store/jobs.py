"""Rows of jobs on clusters; a request opens at most one."""

from collections.abc import Collection, Mapping

from sqlalchemy import bindparam, or_, select, text

from sky.core.lifecycle.jobs import EVENTS, ORDERS
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Phase
from sky.core.model.jobs import Job
from sky.store.database import Database
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import CLUSTERS, JOBS, OPEN_JOBS
from sky.store.sealing import Sealer
from sky.store.statements import Among, Prepared

#: Fields that hold what a user says, secrets among it.
SEALED = ("task_config",)

_T = JOBS.c
_NEWEST_FIRST = select(_T.doc).order_by(_T.created_at.desc())
_BY_REQUEST = Prepared(select(_T.doc).where(_T.request_id == bindparam("wanted")))
_OF_CLUSTER = Prepared(_NEWEST_FIRST.where(_T.cluster_id == bindparam("wanted")))
_BY_NUMBER = Prepared(
    _NEWEST_FIRST.where(_T.cluster_id == bindparam("wanted"), _T.job_id == bindparam("number")).limit(1)
)
#: Word for word as the index has it, which is used for nothing else; asked every few seconds over all jobs on record.
_WITHOUT_CLUSTER = _NEWEST_FIRST.select_from(JOBS.outerjoin(CLUSTERS, CLUSTERS.c.id == _T.cluster_id)).where(
    text(f"jobs.{OPEN_JOBS}"),
    or_(CLUSTERS.c.id.is_(None), ~CLUSTERS.c.living, CLUSTERS.c.phase == Phase.STOPPED.value),
)
_BEREFT, _BEREFT_OF = Prepared(_WITHOUT_CLUSTER), Prepared(_WITHOUT_CLUSTER.where(Among(_T.cluster_id, "clusters")))


class SqlJobs(LeasedRows[Job]):
    """See `core.ports.JobRows`."""

    noun = "job"

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        super().__init__(database, JOBS, Document(Job, SEALED, sealer), EVENTS, ORDERS)

    def columns(self, entity: Job) -> Mapping[str, object]:
        return {
            "cluster_id": entity.cluster_id,
            "job_id": entity.job_id,
            "request_id": entity.request_id,
            "phase": entity.phase.value,
            "created_at": entity.created_at,
        }

    def label(self, entity: Job) -> str:
        return entity.cluster_name

    def status(self, entity: Job) -> str:
        return entity.status.value

    async def open(self, step: Step[Job], now: float) -> tuple[Job, bool]:
        """Record a job, unless its request has one."""
        return await self._open(step, now, _BY_REQUEST, wanted=step.entity.request_id)

    async def by_number(self, cluster_id: str, job_id: int) -> Job | None:
        """The job that a cluster knows under this number."""
        return await self._one(_BY_NUMBER, wanted=cluster_id, number=job_id)

    async def of_cluster(self, cluster_id: str) -> list[Job]:
        """All jobs of a cluster, newest first."""
        return await self._many(_OF_CLUSTER, wanted=cluster_id)

    async def bereft(self, clusters: Collection[str] | None = None) -> list[Job]:
        """Jobs, of these clusters or of all, that have not ended although their cluster was stopped or is gone."""
        if clusters is None:
            return await self._many(_BEREFT)
        return await self._many(_BEREFT_OF, clusters=list(clusters))

    async def by_request(self, request_id: str) -> Job | None:
        """The job that a request opened."""
        return await self._one(_BY_REQUEST, wanted=request_id)
