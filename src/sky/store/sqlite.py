"""The store on one SQLite file; made by `server.assembly` and, in memory, by tests."""

import json
from pathlib import Path

from sqlalchemy import delete, insert, select

from sky.store import retention
from sky.store.audit import SqlAudit
from sky.store.clusters import SqlClusters
from sky.store.database import Database
from sky.store.jobs import SqlJobs
from sky.store.outcomes import SqlOutcomes
from sky.store.requests import SqlRequests
from sky.store.schema import VALUES
from sky.store.stories import SqlStories
from sky.store.users import SqlUsers


class SqliteStore:
    """See `core.ports.Store`. One process owns the file, so leases that an earlier one left are broken at opening."""

    def __init__(self, path: Path | None = None) -> None:
        """Open (or make) the database at `path`; None keeps it in memory."""
        self._db = Database(path)
        self.clusters = SqlClusters(self._db)
        self.jobs = SqlJobs(self._db)
        self.requests = SqlRequests(self._db)
        self.stories = SqlStories(self._db)
        self.outcomes = SqlOutcomes(self._db)
        self.users = SqlUsers(self._db)
        self.audit = SqlAudit(self._db)
        for rows in (self.clusters, self.jobs, self.requests):
            rows.break_leases()

    async def get_value(self, key: str) -> str | None:
        """A small named value."""
        with self._db.read() as connection:
            return connection.execute(select(VALUES.c.value).where(VALUES.c.key == key)).scalar()

    async def set_value(self, key: str, value: str) -> None:
        """Replace a small named value."""
        with self._db.write() as connection:
            connection.execute(delete(VALUES).where(VALUES.c.key == key))
            connection.execute(insert(VALUES).values(key=key, value=value))

    async def forget(self, requests_before: float, clusters_before: float) -> list[str]:
        """Delete a batch of what ended before these times; ids of the requests among it."""
        with self._db.write() as connection:
            return retention.forget(connection, requests_before, clusters_before)

    async def manifests_in_use(self) -> set[str]:
        """Manifests of uploads that requests or jobs may still ask for."""
        with self._db.read() as connection:
            documents = retention.uploads_of_open(connection)
        found: set[str] = set()
        for each in map(json.loads, documents):
            uploads = each.get("uploads") or (each.get("body") or {}).get("uploads") or {}
            found |= {str(manifest) for manifest in uploads.values()}
        return found

    async def close(self) -> None:
        """Close the file."""
        self._db.close()
