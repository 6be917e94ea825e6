"""Rows of managed jobs; each has a number that people know it by, counted up and never given twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, or_, select, update

from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.managed_events import EVENTS, ORDERS
from sky.core.model.managed_jobs import OWNED, WATCHING, ManagedJob, Stage
from sky.core.policy.admission import UnderWay, Waiting
from sky.core.policy.budgets import max_cost
from sky.core.ports import JobQuery, Listed
from sky.store.database import Database, Transaction, settle
from sky.store.documents import Document
from sky.store.leases import LeasedRows
from sky.store.schema import CLUSTERS, JOBS, LETTERS, MANAGED_JOBS, VALUES
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

#: Fields that hold what a user says, secrets among it.
SEALED = ("task_configs", "layers")
#: The value that counts them.
_COUNTER = "managed-jobs"

_T = MANAGED_JOBS.c
_DOCS = select(_T.doc)
_BY_NUMBER = Prepared(_DOCS.where(_T.number == bindparam("wanted")))
_OF_REQUEST = Prepared(_DOCS.where(_T.request_id == bindparam("wanted")).order_by(_T.number))
_COUNTED = Prepared(select(VALUES.c.value).where(VALUES.c.key == _COUNTER).with_for_update())
_COUNT = Prepared(update(VALUES).where(VALUES.c.key == _COUNTER).values(value=bindparam("last")))
_BEGIN_COUNT = Prepared(insert(VALUES).values(key=_COUNTER, value=bindparam("last")))
_WAITING = Prepared(
    select(_T.id, _T.user_name, _T.workspace)
    .where(_T.stage == Stage.WAITING.value)
    .order_by(_T.turn, _T.number)
    .limit(bindparam("most"))
)
_BEFORE = Prepared(
    select(func.count()).where(_T.stage == Stage.WAITING.value, _T.turn < bindparam("turn"))
)  # fmt: skip
_BEGUN = and_(_T.stage != Stage.WAITING.value, _T.stage != Stage.DONE.value)
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
_LOGGED = Prepared(
    select(_T.id, _T.cluster_id).where(
        or_(_T.stage == Stage.RUNNING.value, _T.stage == Stage.CANCELLING.value), _T.cluster_id.is_not(None)
    )
)
_LIMITED = Prepared(select(_T.doc).where(_T.max_cost.is_not(None), _T.ended_at.is_(None)))
_STRAY = Prepared(
    select(CLUSTERS.c.id, CLUSTERS.c.owner).select_from(
        CLUSTERS.outerjoin(MANAGED_JOBS, _T.id == func.substr(CLUSTERS.c.owner, len(OWNED) + 1))
    ).where(
        CLUSTERS.c.living,
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
        }

    def label(self, entity: ManagedJob) -> str:
        return str(entity.number)

    def status(self, entity: ManagedJob) -> str:
        return entity.status.value

    async def open(self, steps: Sequence[Step[ManagedJob]], now: float) -> list[ManagedJob]:
        """Record the jobs of one request, all or none, and give them their numbers; those on record already if any."""
        request_id = steps[0].entity.request_id

        async def work() -> list[ManagedJob]:
            async with self._db.write() as tx:
                known = await tx.all(_OF_REQUEST, wanted=request_id)
                if known:
                    return [self._document.load(doc) for (doc,) in known]
                first = await _counted(tx, len(steps))
                opened = []
                for number, step in enumerate(steps, first):
                    entity = replace(step.entity, number=number)
                    await self._insert(tx, replace(step, entity=entity), now)
                    opened.append(entity)
                return opened

        return await settle(work)

    async def by_number(self, number: int) -> ManagedJob | None:
        """The job that people know by this number."""
        return await self._one(_BY_NUMBER, wanted=number)

    async def of_request(self, request_id: str) -> list[ManagedJob]:
        """The jobs that a request opened, in the order of their numbers."""
        return await self._many(_OF_REQUEST, wanted=request_id)

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
        """Those that wait, in the order of their turn."""
        async with self._db.read() as tx:
            return [Waiting(*row) for row in await tx.all(_WAITING, most=most)]

    async def before(self, turn: float) -> int:
        """How many wait whose turn is earlier."""
        async with self._db.read() as tx:
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

    async def logged(self) -> list[tuple[str, str]]:
        """Ids of those that may have a job on a cluster, each with that cluster's."""
        async with self._db.read() as tx:
            return [(id, cluster) for id, cluster in await tx.all(_LOGGED)]

    async def limited(self) -> list[ManagedJob]:
        """Those that have not ended and may cost only so much."""
        return await self._many(_LIMITED)

    async def stray_clusters(self) -> list[tuple[str, str]]:
        """Living clusters that were some managed job's and are not needed by it any more, each with the job's id."""
        async with self._db.read() as tx:
            return [(id, owner.removeprefix(OWNED)) for id, owner in await tx.all(_STRAY)]


async def _counted(tx: Transaction, count: int) -> int:
    """The first of `count` numbers that nobody else gets."""
    last = await tx.scalar(_COUNTED)
    if last is None:
        await tx.change(_BEGIN_COUNT, last=str(count))
        return 1
    await tx.change(_COUNT, last=str(int(last) + count))
    return int(last) + 1


def _conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
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
    if query.name is not None:
        where.append(_T.name == query.name)
    if query.after is not None:
        where.append(_T.created_at >= query.after)
    if query.before is not None:
        where.append(_T.created_at <= query.before)
    return where
