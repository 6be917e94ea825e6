"""Rows of pools, and beside them one row per worker: how it is by its pool's word, and which job has it.

The pool writes states, jobs write claims, each their own columns: so neither needs the other's lease. A claim asks for
the state READY in the statement that makes it, and a worker has room for one claim: two jobs never have the same.
"""

from collections.abc import Mapping

from sqlalchemy import and_, bindparam, delete, false, func, insert, select, true, update

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.pools import EVENTS, ORDERS
from sky.core.model.managed_jobs import Stage
from sky.core.model.pools import OWNED, Pool, Standing, WorkerState
from sky.store.database import Database, Transaction, settle
from sky.store.documents import Document
from sky.store.leases import LONGEST_NAME, LeasedRows
from sky.store.schema import ALIVE, CLUSTERS, MANAGED_JOBS, POOLS, WORKERS
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

#: Fields that hold what a user says, secrets among it.
SEALED = ("tasks", "layers")

_T, _W, _J = POOLS.c, WORKERS.c, MANAGED_JOBS.c
_LIVING = Prepared(select(_T.doc).where(_T.ended_at.is_(None)).order_by(_T.name))
_BY_NAME = Prepared(select(_T.doc).where(_T.ended_at.is_(None), _T.name == bindparam("wanted")))

_ADD = Prepared(insert(WORKERS).values({
    each: bindparam(each) for each in ("id", "pool_id", "number", "state")
} | {"claim": None, "condemned": False}))  # fmt: skip
_MOVE = Prepared(update(WORKERS).where(_W.id == bindparam("held_id")).values(state=bindparam("state")))
_REMOVE = Prepared(delete(WORKERS).where(_W.id == bindparam("held_id")))

_FREE = (_W.state == WorkerState.READY.value, _W.claim.is_(None), _W.condemned == false())
_CLAIMED_BY = Prepared(select(_W.id).where(_W.claim == bindparam("held_key")))
_HOLDER = Prepared(select(_W.claim).where(_W.id == bindparam("held_id")))
#: Rows that somebody else is claiming in this moment are passed over.
_FIRST_FREE = Prepared(
    select(_W.id)
    .where(_W.pool_id == bindparam("pool"), *_FREE)
    .order_by(_W.number)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_CLAIM = Prepared(update(WORKERS).where(_W.id == bindparam("held_id"), *_FREE).values(claim=bindparam("held_key")))
_OF_KEY = Prepared(
    select(_W.pool_id, _W.state, _W.condemned).where(_W.claim == bindparam("held_key")).with_for_update()
)  # fmt: skip
_GIVE_BACK = Prepared(update(WORKERS).where(_W.claim == bindparam("held_key")).values(claim=None))
_CONDEMN = Prepared(update(WORKERS).where(_W.claim == bindparam("held_key")).values(condemned=true()))
_ALL_FREE = Prepared(select(_W.pool_id, func.count()).where(*_FREE).group_by(_W.pool_id))
_CLAIMS = Prepared(select(_W.id, _W.claim).where(_W.pool_id == bindparam("pool"), _W.claim.is_not(None)))
_CONDEMNED = Prepared(select(_W.id).where(_W.pool_id == bindparam("pool"), _W.condemned == true()))
_LEFT = Prepared(
    select(_J.stage, func.count()).where(_J.pool_id == bindparam("pool"), _J.ended_at.is_(None)).group_by(_J.stage)
)
_STRAY_CLAIMS = Prepared(
    select(_W.claim)
    .select_from(WORKERS.outerjoin(MANAGED_JOBS, and_(_J.job_key == _W.claim, _J.stage != Stage.DONE.value)))
    .where(_W.claim.is_not(None), _J.id.is_(None))
)
_STRAY_CLUSTERS = Prepared(
    select(CLUSTERS.c.id)
    .select_from(CLUSTERS.outerjoin(WORKERS, _W.id == CLUSTERS.c.id))
    .where(ALIVE, CLUSTERS.c.owner.startswith(OWNED), _W.id.is_(None))
)
_WAITING = (Stage.WAITING.value, Stage.BACKOFF.value, Stage.PLACING.value)


class SqlPools(LeasedRows[Pool]):
    """See `core.ports.PoolRows`."""

    noun = "pool"

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        super().__init__(database, POOLS, Document(Pool, SEALED, sealer), EVENTS, ORDERS)

    def columns(self, entity: Pool) -> Mapping[str, object]:
        return {
            "name": entity.name,
            "stage": entity.stage.value,
            "created_at": entity.created_at,
            "ended_at": entity.ended_at,
        }

    def label(self, entity: Pool) -> str:
        return entity.name

    def status(self, entity: Pool) -> str:
        return entity.status.value

    async def beside(self, tx: Transaction, before: Pool | None, after: Pool, now: float) -> None:
        """The rows of its workers, as far as they are the pool's to write."""
        known = {} if before is None else {each.cluster_id: each.state for each in before.workers}
        for worker in after.workers:
            state = worker.state.value
            if worker.cluster_id not in known:
                await tx.change(_ADD, id=worker.cluster_id, pool_id=after.id, number=worker.number, state=state)
            elif known.pop(worker.cluster_id) is not worker.state:
                await tx.change(_MOVE, held_id=worker.cluster_id, state=state)
        for gone in known:
            await tx.change(_REMOVE, held_id=gone)

    async def open(self, step: Step[Pool], now: float) -> tuple[Pool, bool]:
        """Record a pool, unless one of its name has not ended."""
        return await self._open(step, now, _BY_NAME, wanted=step.entity.name[:LONGEST_NAME])

    async def by_name(self, name: str) -> Pool | None:
        """The pool of this name that has not ended."""
        return await self._one(_BY_NAME, wanted=name[:LONGEST_NAME])

    async def living(self) -> list[Pool]:
        """Those that have not ended, by name."""
        return await self._many(_LIVING)

    # --- claims --------------------------------------------------------------------------------------------------

    async def take(self, pool_id: str, key: str) -> str | None:
        """The worker that the key has or, if it has none, one that it has from now on."""

        async def work() -> str | None:
            async with self._db.write() as tx:
                known: str | None = await tx.scalar(_CLAIMED_BY, held_key=key)
                if known is not None:
                    return known
                found: str | None = await tx.scalar(_FIRST_FREE, pool=pool_id)
                if found is None or await tx.change(_CLAIM, held_id=found, held_key=key) != 1:
                    return None
            return found

        return await settle(work)

    async def claimed_by(self, key: str) -> str | None:
        """The worker that a key has."""
        async with self._db.read() as tx:
            found: str | None = await tx.scalar(_CLAIMED_BY, held_key=key)
        return found

    async def holder(self, worker: str) -> str | None:
        """The key that has a worker."""
        async with self._db.read() as tx:
            found: str | None = await tx.scalar(_HOLDER, held_id=worker)
        return found

    async def give_back(self, key: str) -> str | None:
        """Give up a claim; the id of the pool if the worker is to go."""
        async with self._db.write() as tx:
            row = await tx.first(_OF_KEY, held_key=key)
            if row is None:
                return None
            await tx.change(_GIVE_BACK, held_key=key)
        pool_id, state, condemned = row
        return None if state == WorkerState.READY.value and not condemned else str(pool_id)

    async def condemn(self, key: str) -> str | None:
        """Say that a worker must not be used any more; the id of its pool."""
        async with self._db.write() as tx:
            row = await tx.first(_OF_KEY, held_key=key)
            if row is None:
                return None
            await tx.change(_CONDEMN, held_key=key)
        return str(row[0])

    async def free(self) -> Mapping[str, int]:
        """How many workers can be claimed now, by pool."""
        async with self._db.read() as tx:
            return {str(pool): int(count) for pool, count in await tx.all(_ALL_FREE)}

    async def claims(self, pool_id: str) -> Mapping[str, str]:
        """Workers that somebody has, each with the key."""
        async with self._db.read() as tx:
            return {str(worker): str(key) for worker, key in await tx.all(_CLAIMS, pool=pool_id)}

    async def situation(self, pool_id: str) -> Standing:
        """All that is on record beside a pool."""
        async with self._db.read() as tx:
            claims = {str(worker): str(key) for worker, key in await tx.all(_CLAIMS, pool=pool_id)}
            condemned = frozenset(str(worker) for (worker,) in await tx.all(_CONDEMNED, pool=pool_id))
            left = {str(stage): int(count) for stage, count in await tx.all(_LEFT, pool=pool_id)}
        return Standing(claims, condemned, sum(left.get(stage, 0) for stage in _WAITING), sum(left.values()))

    async def stray_claims(self) -> list[str]:
        """Keys of claims that belong to no job's attempt of now."""
        async with self._db.read() as tx:
            return [str(key) for (key,) in await tx.all(_STRAY_CLAIMS)]

    async def stray_clusters(self) -> list[str]:
        """Ids of living clusters that were some pool's and that it does not know any more."""
        async with self._db.read() as tx:
            return [str(id) for (id,) in await tx.all(_STRAY_CLUSTERS)]
