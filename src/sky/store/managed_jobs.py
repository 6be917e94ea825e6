"""Rows of managed jobs; each has a number that people know it by, counted up and never given twice."""

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, or_, select, update

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.managed_events import EVENTS, ORDERS
from sky.core.model.managed_jobs import OWNED, WATCHING, ManagedJob, Stage
from sky.core.model.statuses import ManagedJobStatus
from sky.core.policy.admission import UnderWay, Waiting
from sky.core.policy.budgets import max_cost
from sky.core.ports import JobQuery, Listed
from sky.kit.frozen import replace
from sky.store.database import Database, Transaction, settle
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import ALIVE, CLUSTERS, JOBS, LETTERS, MANAGED_JOBS, MANAGED_WAITS, VALUES
from sky.store.sealing import Sealer
from sky.store.statements import Among, Prepared

#: Fields that hold what a user says, secrets among it.
SEALED = ("task_configs", "layers")
#: The value that counts them.
_COUNTER = "managed-jobs"
#: The value that counts members of parents; their numbers are below zero.
_MEMBER_COUNTER = "managed-members"

_T = MANAGED_JOBS.c
_DOCS = select(_T.doc)
_BY_NUMBER = Prepared(_DOCS.where(_T.number == bindparam("wanted")))
_OF_REQUEST = Prepared(_DOCS.where(_T.request_id == bindparam("wanted")).order_by(_T.number))
_COUNTED = Prepared(select(VALUES.c.value).where(VALUES.c.key == bindparam("counter")).with_for_update())
_COUNT = Prepared(update(VALUES).where(VALUES.c.key == bindparam("counter")).values(value=bindparam("last")))
_BEGIN_COUNT = Prepared(insert(VALUES).values(key=bindparam("counter"), value=bindparam("last")))
_OF_PARENT = Prepared(_DOCS.where(_T.parent_id == bindparam("wanted"), _T.number < 0).order_by(_T.number.desc()))
_ATTACHED = Prepared(
    select(_T.id).where(_T.parent_id == bindparam("wanted"), _T.number > 0, _T.ended_at.is_(None)).order_by(_T.number)
)
_W = MANAGED_WAITS.c
_LEADING = Prepared(select(_T.id).where(_T.stage == Stage.LEADING.value))
_WAIT = Prepared(insert(MANAGED_WAITS).values(waiter_id=bindparam("waiter"), for_id=bindparam("wanted")))
_WAIT_NO_MORE = Prepared(delete(MANAGED_WAITS).where(_W.waiter_id == bindparam("waiter")))
_WAITS_OVER = Prepared(
    select(_W.waiter_id)
    .distinct()
    .select_from(MANAGED_WAITS.outerjoin(MANAGED_JOBS, _T.id == _W.for_id))
    .where(or_(_T.id.is_(None), *(_T.status == each.value for each in ManagedJobStatus if each.is_terminal())))
    .limit(bindparam("most"))
)
_WAITING = Prepared(
    select(_T.id, _T.user_name, _T.workspace)
    .where(_T.stage == Stage.WAITING.value, _T.pool_id.is_(None))
    .order_by(_T.turn, _T.number)
    .limit(bindparam("most"))
)
#: Stages in which one waits for a worker of its pool.
_FOR_WORKERS = (_T.pool_id == bindparam("pool"), or_(_T.stage == Stage.WAITING.value, _T.stage == Stage.BACKOFF.value))
_WAITING_IN = Prepared(
    select(_T.id, _T.user_name, _T.workspace).where(*_FOR_WORKERS).order_by(_T.turn, _T.number).limit(bindparam("most"))
)
_PLACING_IN = Prepared(
    select(func.count()).where(_T.pool_id == bindparam("pool"), _T.stage == Stage.PLACING.value)
)  # fmt: skip
_BEFORE = Prepared(
    select(func.count()).where(_T.stage == Stage.WAITING.value, _T.pool_id.is_(None), _T.turn < bindparam("turn"))
)
_BEFORE_IN = Prepared(select(func.count()).where(*_FOR_WORKERS, _T.turn < bindparam("turn")))
_BEGUN = and_(*(_T.stage != each.value for each in (Stage.WAITING, Stage.DONE, Stage.HELD, Stage.LEADING)))
_UNDER_WAY = Prepared(
    select(_T.stage, _T.user_name, _T.workspace, func.count())
    .where(_BEGUN)
    .group_by(_T.stage, _T.user_name, _T.workspace)
)
_MOVED = Prepared(
    select(_T.id)
    .select_from(
        MANAGED_JOBS.outerjoin(CLUSTERS, CLUSTERS.c.id == _T.cluster_id).outerjoin(
            JOBS, JOBS.c.request_id == _T.job_key
        )
    )
    .where(
        or_(*(_T.stage == each.value for each in WATCHING)),
        or_(
            func.coalesce(CLUSTERS.c.phase, "") != _T.seen_phase,
            func.coalesce(JOBS.c.version, -1) != _T.seen_version,
        ),
        # One that has not read its last letter yet looks anyway when it does.
        ~select(LETTERS.c.id).where(LETTERS.c.entity == "managed_job", LETTERS.c.entity_id == _T.id).exists(),
    )
    .limit(bindparam("most"))
)
_SILENT = Prepared(select(_T.id).where(Among(_T.id, "ids"), _T.notifies.is_(False)))
_ON_CLUSTERS = select(_T.id, _T.cluster_id).where(
    or_(_T.stage == Stage.RUNNING.value, _T.stage == Stage.CANCELLING.value), _T.cluster_id.is_not(None)
)
_LOGGED, _LOGGED_OF = Prepared(_ON_CLUSTERS), Prepared(_ON_CLUSTERS.where(Among(_T.id, "ids")))
_LIMITED = Prepared(select(_T.doc).where(_T.max_cost.is_not(None), _T.ended_at.is_(None)))
_STRAY = Prepared(
    select(CLUSTERS.c.id, CLUSTERS.c.owner).select_from(
        CLUSTERS.outerjoin(MANAGED_JOBS, _T.id == func.substr(CLUSTERS.c.owner, len(OWNED) + 1))
    ).where(
        ALIVE,
        CLUSTERS.c.owner.startswith(OWNED),
        or_(
            _T.id.is_(None),
            _T.stage == Stage.DONE.value,
            and_(_T.cluster_id.is_not(None), _T.cluster_id != CLUSTERS.c.id),
        ),
    )
)  # fmt: skip
_LAUNCHING = (Stage.PLACING.value, Stage.LAUNCHING.value)


class SqlManagedJobs(LeasedRows[ManagedJob]):
    """See `core.ports.ManagedJobRows`."""

    noun = "managed_job"

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        super().__init__(database, MANAGED_JOBS, Document(ManagedJob, SEALED, sealer), EVENTS, ORDERS)

    def columns(self, entity: ManagedJob) -> dict[str, object]:
        belongs = entity.member or entity.attached
        return {
            "number": entity.number,
            "key": entity.key,
            "request_id": entity.request_id,
            "name": entity.name,
            "user_name": entity.user,
            "workspace": entity.workspace,
            "status": entity.status.value,
            "stage": entity.stage.value,
            "turn": entity.turn,
            "cluster_id": entity.cluster_id,
            "job_key": entity.job_key,
            "seen_phase": entity.seen_phase,
            "seen_version": entity.seen_version,
            "created_at": entity.created_at,
            "ended_at": entity.ended_at,
            "max_cost": max_cost(entity.task_configs),
            "parent_id": belongs.parent_id if belongs is not None else None,
            "pool_id": entity.pool_id,
            "notifies": entity.notifies,
        }

    def label(self, entity: ManagedJob) -> str:
        return str(entity.number)

    async def beside(self, tx: Transaction, before: ManagedJob | None, after: ManagedJob, now: float) -> None:
        """For whom it waits is kept apart, so that it is found when one of these has ended."""
        waited = before.after if before is not None and before.stage is Stage.HELD else ()
        waits = after.after if after.stage is Stage.HELD else ()
        if waited == waits:
            return
        if waited:
            await tx.change(_WAIT_NO_MORE, waiter=after.id)
        for id in dict.fromkeys(each.id for each in waits):
            await tx.change(_WAIT, waiter=after.id, wanted=id)

    def status(self, entity: ManagedJob) -> str:
        return entity.status.value

    async def open(self, steps: Sequence[Step[ManagedJob]], now: float) -> list[ManagedJob]:
        """Record the jobs of one request, all or none, and give them their numbers; those on record already if any.

        Members are behind their parents, and come without them.
        """
        request_id = steps[0].entity.request_id
        written: list[tuple[ManagedJob, str]] = []

        async def work() -> list[ManagedJob]:
            written.clear()
            async with self._db.write() as tx:
                known = await tx.all(_OF_REQUEST, wanted=request_id)
                if known:
                    found = [self._document.load(doc) for (doc,) in known]
                    return [each for each in found if each.member is None]
                opened: dict[str, ManagedJob] = {}
                members = sum(step.entity.member is not None for step in steps)
                number = await _counted(tx, _COUNTER, len(steps) - members)
                of_members = await _counted(tx, _MEMBER_COUNTER, members) if members else 0
                for step in steps:
                    entity = step.entity
                    if entity.member is None:
                        entity, number = replace(entity, number=number), number + 1
                        opened[entity.id] = entity
                    else:
                        known_by = replace(entity.member, number=opened[entity.member.parent_id].number)
                        entity, of_members = replace(entity, number=-of_members, member=known_by), of_members + 1
                    written.append((entity, await self._insert(tx, replace(step, entity=entity), now)))
                return list(opened.values())

        jobs = await settle(work)
        for job, doc in written:
            self.remember(job, doc)
        return jobs

    async def by_number(self, number: int) -> ManagedJob | None:
        """The job that people know by this number."""
        return await self._one(_BY_NUMBER, wanted=number)

    async def of_request(self, request_id: str) -> list[ManagedJob]:
        """The jobs that a request opened, in the order of their numbers."""
        return await self._many(_OF_REQUEST, wanted=request_id)

    async def of_parent(self, id: str) -> list[ManagedJob]:
        """The members of a parent, in their order."""
        return await self._many(_OF_PARENT, wanted=id)

    async def attached(self, id: str) -> list[str]:
        """Ids of those that were launched into a group and have not ended."""
        async with self._db.read() as tx:
            return [each for (each,) in await tx.all(_ATTACHED, wanted=id)]

    async def leading(self) -> list[str]:
        """Ids of parents that have not ended."""
        async with self._db.read() as tx:
            return [id for (id,) in await tx.all(_LEADING)]

    async def waits_over(self, most: int) -> list[str]:
        """Ids of those that wait for a job that has ended, or that is not on record any more."""
        async with self._db.read() as tx:
            return [id for (id,) in await tx.all(_WAITS_OVER, most=most)]

    async def listed(self, query: JobQuery) -> Listed:
        """Jobs, newest first, with how many there are."""
        where = _conditions(query)
        found = _DOCS.where(*where).order_by(_T.number.desc())
        if query.limit is not None:
            found = found.limit(query.limit)
        counted = select(_T.status, func.count()).where(*where).group_by(_T.status)
        async with self._db.read() as tx:
            rows = await tx.all(found)
            counts = {str(status): int(count) for status, count in await tx.all(counted)}
        return Listed([self._document.load(doc) for (doc,) in rows], counts)

    async def waiting(self, most: int) -> list[Waiting]:
        """Those that wait for clusters of their own, in the order of their turn."""
        async with self._db.read() as tx:
            return [Waiting(*row) for row in await tx.all(_WAITING, most=most)]

    async def waiting_in(self, pool_id: str, most: int) -> list[Waiting]:
        """Those that wait for a worker of a pool, for the first time or again, in the order of their turn."""
        async with self._db.read() as tx:
            return [Waiting(*row) for row in await tx.all(_WAITING_IN, pool=pool_id, most=most)]

    async def placing_in(self, pool_id: str) -> int:
        """How many were told that it is their turn in a pool, and have no worker yet."""
        async with self._db.read() as tx:
            return int(await tx.scalar(_PLACING_IN, pool=pool_id))

    async def before(self, turn: float, pool_id: str | None = None) -> int:
        """How many wait whose turn is earlier: for clusters of their own, or for a worker of a pool."""
        async with self._db.read() as tx:
            if pool_id is not None:
                return int(await tx.scalar(_BEFORE_IN, turn=turn, pool=pool_id))
            return int(await tx.scalar(_BEFORE, turn=turn))

    async def under_way(self) -> UnderWay:
        """What has begun and not ended."""
        async with self._db.read() as tx:
            rows = await tx.all(_UNDER_WAY)
        users: Counter[str] = Counter()
        workspaces: Counter[str] = Counter()
        for _, user, workspace, count in rows:
            users[user] += count
            workspaces[workspace] += count
        return UnderWay(sum(row[3] for row in rows if row[0] in _LAUNCHING), users, workspaces)

    async def moved(self, most: int) -> list[str]:
        """Ids of those whose cluster, or job there, is not as it was when it was looked at last."""
        async with self._db.read() as tx:
            return [id for (id,) in await tx.all(_MOVED, most=most)]

    async def logged(self, ids: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Ids of those, of all or among these, that may have a job on a cluster, each with that cluster's."""
        async with self._db.read() as tx:
            rows = await tx.all(_LOGGED) if ids is None else await tx.all(_LOGGED_OF, ids=list(ids))
        return [(id, cluster) for id, cluster in rows]

    async def silent(self, ids: Collection[str]) -> set[str]:
        """Those among them of which it is known that they name nobody who is to be told of their changes."""
        async with self._db.read() as tx:
            return {id for (id,) in await tx.all(_SILENT, ids=list(ids))}

    async def limited(self) -> list[ManagedJob]:
        """Those that have not ended and may cost only so much."""
        return await self._many(_LIMITED)

    async def stray_clusters(self) -> list[tuple[str, str]]:
        """Living clusters that were some managed job's and are not needed by it any more, each with the job's id."""
        async with self._db.read() as tx:
            return [(id, owner.removeprefix(OWNED)) for id, owner in await tx.all(_STRAY)]


async def _counted(tx: Transaction, counter: str, count: int) -> int:
    """The first of `count` numbers that nobody else gets."""
    last = await tx.scalar(_COUNTED, counter=counter)
    if last is None:
        await tx.change(_BEGIN_COUNT, counter=counter, last=str(count))
        return 1
    await tx.change(_COUNT, counter=counter, last=str(int(last) + count))
    return int(last) + 1


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [_T.stage != Stage.LEADING.value if query.with_clusters else _T.number > 0]
    if query.numbers is not None:
        where.append(_T.number.in_(query.numbers))
    if query.users is not None:
        where.append(_T.user_name.in_(query.users))
    if query.workspaces is not None:
        where.append(_T.workspace.in_(query.workspaces))
    if query.statuses is not None:
        where.append(_T.status.in_(query.statuses))
    if query.unfinished:
        where.append(_T.ended_at.is_(None))
    if query.pool is not None:
        where.append(_T.pool_id == query.pool)
    if query.name is not None:
        where.append(_T.name == query.name)
    if query.after is not None:
        where.append(_T.created_at >= query.after)
    if query.before is not None:
        where.append(_T.created_at <= query.before)
    return where
