"""Everything that is remembered, on whichever database; `sqlite` and `postgres` open it."""

from collections.abc import Mapping

from sqlalchemy import bindparam, select, text

from sky.core.errors import NotSupportedError
from sky.core.model.vitals import Counts, Spent
from sky.store import retention, upkeep
from sky.store.audit import SqlAudit
from sky.store.budgets import SqlBudgets
from sky.store.clusters import SqlClusters
from sky.store.database import Database
from sky.store.duties import SqlDuties
from sky.store.jobs import SqlJobs
from sky.store.ledger import SqlLedger
from sky.store.managed_jobs import SqlManagedJobs
from sky.store.outbox import SqlOutbox
from sky.store.outcomes import SqlOutcomes
from sky.store.pools import SqlPools
from sky.store.requests import SqlRequests
from sky.store.schedules import SqlSchedules
from sky.store.schema import VALUES
from sky.store.sealing import Sealer
from sky.store.statements import Prepared
from sky.store.stories import SqlStories
from sky.store.talk import SqlTalk
from sky.store.upkeep import Timed
from sky.store.users import SqlUsers

#: The value that names the key with which everything is sealed.
_SEALED_WITH = "sealed-with"
_VALUE = Prepared(select(VALUES.c.value).where(VALUES.c.key == bindparam("wanted")))
#: In words, which both databases have in common; SQLAlchemy has them for each apart.
_SET_VALUE = Prepared(
    text("INSERT INTO state_values (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = :value")
)


class SqlStore:
    """See `core.ports.Store`. Who opens it says how it is connected and closed."""

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        self._db = Timed(database)
        database = self._db
        self._sealer = sealer
        self.clusters = SqlClusters(database, sealer)
        self.jobs = SqlJobs(database, sealer)
        self.requests = SqlRequests(database, sealer)
        self.managed_jobs = SqlManagedJobs(database, sealer)
        self.pools = SqlPools(database, sealer)
        self.stories = SqlStories(database)
        self.talk = SqlTalk(database)
        self.outcomes = SqlOutcomes(database)
        self.ledger = SqlLedger(database)
        self.budgets = SqlBudgets(database)
        self.schedules = SqlSchedules(database, sealer)
        self.outbox = SqlOutbox(database, sealer)
        self.duties = SqlDuties(database)
        self.users = SqlUsers(database)
        self.audit = SqlAudit(database)

    async def durable(self) -> None:
        """Of a database that has what is committed on its disk there is nothing to wait for; see `sqlite`."""

    async def get_value(self, key: str) -> str | None:
        """A small named value."""
        async with self._db.read() as tx:
            found: str | None = await tx.scalar(_VALUE, wanted=key)
        return found

    async def set_value(self, key: str, value: str) -> None:
        """Replace a small named value."""
        await self.set_values({key: value})

    async def set_values(self, values: Mapping[str, str]) -> None:
        """Replace several, all or none."""
        async with self._db.write() as tx:
            # In one order, so that two who replace the same do not wait for each other.
            for key in sorted(values):
                await tx.change(_SET_VALUE, key=key, value=values[key])

    async def forget(self, requests_before: float, clusters_before: float) -> list[str]:
        """Delete a batch of what ended before these times; ids of the requests among it."""
        async with self._db.write() as tx:
            return await retention.forget(tx, requests_before, clusters_before)

    async def forget_managed_jobs(self, before: float) -> list[int]:
        """Delete a batch of managed jobs that ended before then; their numbers."""
        async with self._db.write() as tx:
            return await retention.forget_managed_jobs(tx, before)

    async def manifests_in_use(self) -> set[str]:
        """Manifests of uploads that requests or jobs may still ask for."""
        async with self._db.read() as tx:
            requests, jobs, managed = await retention.documents_of_open(tx)
        found: set[str] = set()
        for request in self.requests.loaded(requests):
            uploads = request.body.get("uploads")
            found |= {str(manifest) for manifest in uploads.values()} if isinstance(uploads, Mapping) else set()
        for job in self.jobs.loaded(jobs):
            found |= set(job.uploads.values())
        for one in self.managed_jobs.loaded(managed):
            found |= set(one.uploads.values())
        for pool in await self.pools.living():
            found |= {manifest for uploads in pool.uploads.values() for manifest in uploads.values()}
        for schedule in await self.schedules.all():
            uploads = schedule.body.get("uploads")
            found |= {str(manifest) for manifest in uploads.values()} if isinstance(uploads, Mapping) else set()
        return found

    async def counts(self, now: float) -> Counts:
        """How much there is of everything."""
        return await upkeep.counts(self._db, now)

    async def rows(self, most: int) -> dict[str, list[dict[str, object]]]:
        """The newest rows of each noun, and lines of their stories, without anything that a user said."""
        return await upkeep.rows(self._db, most)

    def spent(self) -> tuple[Spent, Spent]:
        """What reads, and what writes, have taken."""
        return self._db.spent()

    async def backup(self, path: str) -> None:
        """Copy everything as of one moment into a new file. Raises NotSupportedError, FileExistsError."""
        raise NotSupportedError("A database of PostgreSQL is backed up by its own means: pg_dump.")

    async def reseal(self) -> int:
        """Seal what is not sealed with the key that is in use now; how many rows that were. May be called at any time.

        Rows are written one by one if nobody wrote them meanwhile; whoever did, sealed them with that key.
        """
        if self._sealer is None:
            return 0
        now = self._sealer.key_id
        changed = 0
        for rows in (self.clusters, self.jobs, self.requests, self.managed_jobs, self.pools):
            changed += await rows.reseal()
        changed += await self.schedules.reseal() + await self.outbox.reseal()
        await self.set_value(_SEALED_WITH, now)
        return changed

    async def keep_sealed(self) -> bool:
        """Called when the store is opened; whether secrets were found that had been written in clear.

        Raises RuntimeError if what is on record was sealed with a key that is not here.
        """
        last = await self.get_value(_SEALED_WITH)
        if last is not None and (self._sealer is None or not self._sealer.knows(last)):
            raise RuntimeError(
                f"the records are sealed with the key {last}, which is not among the keys of this server; bring its "
                "file back (keys/sealing.keys in the state directory, or what `encryption.key_file` names)"
            )
        if self._sealer is None or last == self._sealer.key_id:
            return False
        return await self.reseal() > 0 and last is None
