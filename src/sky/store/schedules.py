"""Schedules. Written by calls of their users and by `engine.schedules`, each against the version that it read."""

import logging

from sqlalchemy import bindparam, delete, func, insert, select, update

from sky.core.model.schedules import Schedule
from sky.kit.frozen import replace
from sky.store.database import Conflict, Database
from sky.store.documents import Document
from sky.store.schema import SCHEDULES
from sky.store.sealing import Sealer
from sky.store.statements import Prepared

log = logging.getLogger(__name__)

_T = SCHEDULES.c
_GET = Prepared(select(_T.doc).where(_T.id == bindparam("wanted")))
_ALL = Prepared(select(_T.doc).order_by(_T.name, _T.id))
_DUE = Prepared(
    select(_T.doc).where(_T.next_at <= bindparam("at")).order_by(_T.next_at).limit(bindparam("most"))
)  # fmt: skip
_NEXT = Prepared(select(func.min(_T.next_at)))
_ADD = Prepared(insert(SCHEDULES))
_CHANGE = Prepared(
    update(SCHEDULES)
    .where(_T.id == bindparam("wanted"), _T.version == bindparam("seen"))
    .values(next_at=bindparam("next_at"), version=bindparam("version"), doc=bindparam("doc"))
)
_REMOVE = Prepared(delete(SCHEDULES).where(_T.id == bindparam("wanted")))
_RESEAL = Prepared(
    update(SCHEDULES)
    .where(_T.id == bindparam("wanted"), _T.version == bindparam("seen"))
    .values(doc=bindparam("doc"))
)  # fmt: skip


class SqlSchedules:
    """See `core.ports.ScheduleRows`."""

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        self._db = database
        self._document = Document(Schedule, ("body",), sealer)

    async def add(self, schedule: Schedule) -> bool:
        """Record one; False if its user has one of this name there."""
        try:
            async with self._db.write() as tx:
                await tx.change(
                    _ADD, id=schedule.id, name=schedule.name, user_name=schedule.user, workspace=schedule.workspace,
                    next_at=schedule.next_at, version=schedule.version, doc=self._document.dump(schedule),
                )  # fmt: skip
        except Conflict:
            return False
        return True

    async def get(self, id: str) -> Schedule | None:
        """One by its id."""
        async with self._db.read() as tx:
            doc = await tx.scalar(_GET, wanted=id)
        return None if doc is None else self._document.load(doc)

    async def all(self) -> list[Schedule]:
        """By name."""
        async with self._db.read() as tx:
            return [self._document.load(doc) for (doc,) in await tx.all(_ALL)]

    async def due(self, now: float, most: int) -> list[Schedule]:
        """Those that are to be looked at."""
        async with self._db.read() as tx:
            return [self._document.load(doc) for (doc,) in await tx.all(_DUE, at=now, most=most)]

    async def next_at(self) -> float | None:
        """When the next one is to be looked at."""
        async with self._db.read() as tx:
            found = await tx.scalar(_NEXT)
        return None if found is None else float(found)

    async def change(self, seen: Schedule, after: Schedule) -> Schedule | None:
        """Write what became of one that is on record as it was seen; None if somebody else was first."""
        fresh = replace(after, version=seen.version + 1)
        async with self._db.write() as tx:
            done = await tx.change(
                _CHANGE, wanted=seen.id, seen=seen.version, next_at=fresh.next_at, version=fresh.version,
                doc=self._document.dump(fresh),
            )  # fmt: skip
        return fresh if done == 1 else None

    async def remove(self, id: str) -> bool:
        """Forget one; whether it was there."""
        async with self._db.write() as tx:
            return await tx.change(_REMOVE, wanted=id) == 1

    async def reseal(self) -> int:
        """Write anew what is not sealed with the key in use; how many. See `store.records`."""
        changed = 0
        async with self._db.read() as tx:
            docs = [doc for (doc,) in await tx.all(_ALL)]
        for doc in docs:
            try:
                if not self._document.stale(doc):
                    continue
                one = self._document.load(doc)
            except ValueError:
                log.exception("a schedule cannot be read, and is left as it is")
                continue
            async with self._db.write() as tx:
                changed += await tx.change(
                    _RESEAL, wanted=one.id, seen=one.version, doc=self._document.dump(one)
                )  # fmt: skip
        return changed
