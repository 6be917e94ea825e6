"""Rows of jobs on clusters; a request opens at most one."""

from collections.abc import Mapping

from sqlalchemy import select

from sky.core.lifecycle.jobs import EVENTS, ORDERS
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Phase
from sky.core.model.jobs import Job, JobPhase
from sky.store.database import Database
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import CLUSTERS, JOBS


class SqlJobs(LeasedRows[Job]):
    """See `core.ports.JobRows`."""

    noun = "job"

    def __init__(self, database: Database) -> None:
        super().__init__(database, JOBS, Document(Job), EVENTS, ORDERS)

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
        t = self._table
        with self._db.write() as connection:
            there = connection.execute(select(t.c.doc).where(t.c.request_id == step.entity.request_id)).scalar()
            if there is not None:
                return self._document.load(there), False
            self._insert(connection, step, now)
        return step.entity, True

    async def by_number(self, cluster_id: str, job_id: int) -> Job | None:
        """The job that a cluster knows under this number."""
        return self._one(self._table.c.cluster_id == cluster_id, self._table.c.job_id == job_id)

    async def of_cluster(self, cluster_id: str) -> list[Job]:
        """All jobs of a cluster, newest first."""
        return self._many(self._table.c.cluster_id == cluster_id)

    async def bereft(self) -> list[Job]:
        """Jobs that have not ended although their cluster was stopped or is gone."""
        t = self._table
        gone = select(CLUSTERS.c.id).where(~CLUSTERS.c.living | (CLUSTERS.c.phase == Phase.STOPPED.value))
        kept = select(CLUSTERS.c.id)
        return self._many(
            t.c.phase != JobPhase.DONE.value, t.c.cluster_id.in_(gone) | t.c.cluster_id.not_in(kept)
        )  # fmt: skip

    async def by_request(self, request_id: str) -> Job | None:
        """The job that a request opened."""
        return self._one(self._table.c.request_id == request_id)
