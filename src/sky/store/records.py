"""Everything that is remembered, on whichever database; `sqlite` and `postgres` open it."""

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select

from sky.store import retention
from sky.store.audit import SqlAudit
from sky.store.clusters import SqlClusters
from sky.store.database import Database, settle
from sky.store.duties import SqlDuties
from sky.store.jobs import SqlJobs
from sky.store.ledger import SqlLedger
from sky.store.outcomes import SqlOutcomes
from sky.store.requests import SqlRequests
from sky.store.schema import VALUES
from sky.store.statements import Prepared
from sky.store.stories import SqlStories
from sky.store.users import SqlUsers

_VALUE = Prepared(select(VALUES.c.value).where(VALUES.c.key == bindparam("wanted")))
_FORGET_VALUE = Prepared(delete(VALUES).where(VALUES.c.key == bindparam("wanted")))
_SET_VALUE = Prepared(insert(VALUES))


class SqlStore:
    """See `core.ports.Store`. Who opens it says how it is connected and closed."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.clusters = SqlClusters(database)
        self.jobs = SqlJobs(database)
        self.requests = SqlRequests(database)
        self.stories = SqlStories(database)
        self.outcomes = SqlOutcomes(database)
        self.ledger = SqlLedger(database)
        self.duties = SqlDuties(database)
        self.users = SqlUsers(database)
        self.audit = SqlAudit(database)

    async def get_value(self, key: str) -> str | None:
        """A small named value."""
        async with self._db.read() as tx:
            found: str | None = await tx.scalar(_VALUE, wanted=key)
        return found

    async def set_value(self, key: str, value: str) -> None:
        """Replace a small named value."""

        async def write() -> None:
            async with self._db.write() as tx:
                await tx.change(_FORGET_VALUE, wanted=key)
                await tx.change(_SET_VALUE, key=key, value=value)

        await settle(write)

    async def forget(self, requests_before: float, clusters_before: float) -> list[str]:
        """Delete a batch of what ended before these times; ids of the requests among it."""
        async with self._db.write() as tx:
            return await retention.forget(tx, requests_before, clusters_before)

    async def manifests_in_use(self) -> set[str]:
        """Manifests of uploads that requests or jobs may still ask for."""
        async with self._db.read() as tx:
            documents: Sequence[str] = await retention.uploads_of_open(tx)
        found: set[str] = set()
        for each in map(json.loads, documents):
            uploads = each.get("uploads") or (each.get("body") or {}).get("uploads") or {}
            found |= {str(manifest) for manifest in uploads.values()}
        return found
