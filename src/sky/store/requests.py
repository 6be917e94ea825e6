"""Rows of requests; an id is recorded once, so that a client may send it again."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.requests import EVENTS, ORDERS, opening
from sky.core.model.requests import Request
from sky.store.database import Database
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import REQUESTS

_OPEN = ("PENDING", "WAITING", "RUNNING")


class SqlRequests(LeasedRows[Request]):
    """See `core.ports.RequestRows`."""

    noun = "request"

    def __init__(self, database: Database) -> None:
        super().__init__(database, REQUESTS, Document(Request), EVENTS, ORDERS)

    def columns(self, entity: Request) -> Mapping[str, object]:
        return {
            "name": entity.name,
            "cluster_name": entity.cluster_name,
            "status": entity.status.value,
            "created_at": entity.created_at,
            "finished_at": entity.finished_at,
        }

    def label(self, entity: Request) -> str:
        return entity.cluster_name or entity.name

    def status(self, entity: Request) -> str:
        return entity.status.value

    async def open(self, request: Request, now: float) -> tuple[Request, bool]:
        """Record a request, unless its id is on record."""
        step: Step[Request] = opening(request)
        t = self._table
        with self._db.write() as connection:
            there = connection.execute(select(t.c.doc).where(t.c.id == request.id)).scalar()
            if there is not None:
                return self._document.load(there), False
            self._insert(connection, step, now)
        return step.entity, True

    async def find(self, prefix: str) -> list[Request]:
        """Requests whose id begins with `prefix`, at most ten."""
        return self._many(self._table.c.id.startswith(prefix, autoescape=True), limit=10)

    async def recent(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]:
        """The newest requests; without `finished`, only open ones."""
        where: list[Any] = []
        if not finished:
            where.append(self._table.c.status.in_(_OPEN))
        if cluster_name is not None:
            where.append(self._table.c.cluster_name == cluster_name)
        return self._many(*where, limit=limit)
