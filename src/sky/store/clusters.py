"""Rows of clusters; at most one living cluster has a name."""

from collections.abc import Mapping

from sqlalchemy import select

from sky.core.lifecycle.clusters import EVENTS, ORDERS
from sky.core.lifecycle.machine import Step
from sky.core.model.clusters import Cluster
from sky.store.database import Database
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import CLUSTERS


class SqlClusters(LeasedRows[Cluster]):
    """See `core.ports.ClusterRows`."""

    noun = "cluster"

    def __init__(self, database: Database) -> None:
        super().__init__(database, CLUSTERS, Document(Cluster), EVENTS, ORDERS)

    def columns(self, entity: Cluster) -> Mapping[str, object]:
        return {
            "name": entity.name,
            "phase": entity.phase.value,
            "living": entity.alive,
            "request_id": entity.request_id,
            "created_at": entity.created_at,
            "ended_at": entity.ended_at,
        }

    def label(self, entity: Cluster) -> str:
        return entity.name

    def status(self, entity: Cluster) -> str:
        return entity.phase.value

    async def open(self, step: Step[Cluster], now: float) -> tuple[Cluster, bool]:
        """Record a cluster, unless a living one has its name."""
        t = self._table
        with self._db.write() as connection:
            there = connection.execute(select(t.c.doc).where(t.c.living, t.c.name == step.entity.name)).scalar()
            if there is not None:
                return self._document.load(there), False
            self._insert(connection, step, now)
        return step.entity, True

    async def by_name(self, name: str) -> Cluster | None:
        """The living cluster of this name."""
        return self._one(self._table.c.living, self._table.c.name == name)

    async def by_request(self, request_id: str) -> Cluster | None:
        """The newest cluster that this request opened."""
        return self._one(self._table.c.request_id == request_id, newest=True)

    async def living(self) -> list[Cluster]:
        """All living clusters, newest first."""
        return self._many(self._table.c.living)

    async def since(self, ended_after: float) -> list[Cluster]:
        """Living ones and those that ended later than `ended_after`."""
        return self._many(self._table.c.living | (self._table.c.ended_at > ended_after))
