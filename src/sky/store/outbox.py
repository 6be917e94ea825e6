"""The outbox: parcels are put in with the mark of how far the stories were read, and stay until they are delivered.

Both are one transaction, so a crash neither loses news nor packs it twice. What was delivered stays for a day, so that
a story that is read again is known.
"""

import logging
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, func, insert, select, update

from sky.core.model.events import Entry
from sky.core.model.notifications import Parcel
from sky.kit.frozen import replace
from sky.store.database import Database, settle
from sky.store.documents import Document
from sky.store.schema import OUTBOX, STORIES, VALUES
from sky.store.sealing import Sealer
from sky.store.statements import Among, Prepared

log = logging.getLogger(__name__)

#: The value that says how far the stories of managed jobs were read.
_MARK = "notified"
_O, _S = OUTBOX.c, STORIES.c
_COLUMNS = (_S.seq, _S.time, _S.entity, _S.entity_id, _S.name, _S.kind, _S.before, _S.after, _S.text)
_READ_MARK = Prepared(select(VALUES.c.value).where(VALUES.c.key == _MARK))
_NEWEST = Prepared(select(func.max(_S.seq)))
_CHANGES = Prepared(
    select(*_COLUMNS)
    .where(_S.seq > bindparam("later"), _S.entity == "managed_job", _S.before != _S.after)
    .order_by(_S.seq)
    .limit(bindparam("most"))
)
_FORGET_MARK = Prepared(delete(VALUES).where(VALUES.c.key == _MARK))
_SET_MARK = Prepared(insert(VALUES).values(key=_MARK, value=bindparam("value")))
_KNOWN = Prepared(select(_O.id).where(Among(_O.id, "ids")))
_ADD = Prepared(insert(OUTBOX))
_DUE = Prepared(
    select(_O.doc).where(_O.next_at <= bindparam("at")).order_by(_O.next_at, _O.id).limit(bindparam("most"))
)  # fmt: skip
_CHANGE = Prepared(
    update(OUTBOX)
    .where(_O.id == bindparam("wanted"))
    .values(next_at=bindparam("next_at"), tries=bindparam("tries"), doc=bindparam("doc"))
)
_FORGET = Prepared(delete(OUTBOX).where(_O.next_at.is_(None), _O.at < bindparam("before")))
_ALL = Prepared(select(_O.doc).where(_O.next_at.is_not(None)))


class SqlOutbox:
    """See `core.ports.Outbox`."""

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        self._db = database
        self._document = Document(Parcel, ("sink",), sealer)

    async def mark(self) -> int:
        """Up to which line the stories were read; the newest, where nobody read any before."""
        async with self._db.read() as tx:
            found = await tx.scalar(_READ_MARK)
            newest = await tx.scalar(_NEWEST) if found is None else None
        if found is not None:
            return int(found)
        await self.put([], int(newest or 0))
        return int(newest or 0)

    async def changes(self, after: int, most: int) -> list[Entry]:
        """Lines of managed jobs that tell of another status, oldest first."""
        async with self._db.read() as tx:
            return [Entry(*row) for row in await tx.all(_CHANGES, later=after, most=most)]

    async def put(self, parcels: Sequence[Parcel], mark: int | None = None) -> None:
        """Keep parcels that are not known yet; `mark` is how far the stories were read for them."""

        async def work() -> None:
            async with self._db.write() as tx:
                known = {id for (id,) in await tx.all(_KNOWN, ids=[each.id for each in parcels])} if parcels else set()
                for each in parcels:
                    if each.id not in known:
                        doc = self._document.dump(each)
                        await tx.change(_ADD, id=each.id, at=each.at, next_at=each.next_at, tries=each.tries, doc=doc)
                if mark is not None:
                    await tx.change(_FORGET_MARK)
                    await tx.change(_SET_MARK, value=str(mark))

        await settle(work)

    async def due(self, now: float, most: int) -> list[Parcel]:
        """Those that are to be sent now."""
        async with self._db.read() as tx:
            return [self._document.load(doc) for (doc,) in await tx.all(_DUE, at=now, most=most)]

    async def settle(self, parcel: Parcel, next_at: float | None, tries: int, said: str) -> None:
        """What became of a try: delivered or given up (`next_at` None), or to be tried again."""
        # Of what goes nowhere any more no secret is kept.
        kept = replace(parcel, next_at=next_at, tries=tries, said=said, sink=parcel.sink if next_at is not None else {})
        async with self._db.write() as tx:
            await tx.change(_CHANGE, wanted=parcel.id, next_at=next_at, tries=tries, doc=self._document.dump(kept))

    async def forget(self, before: float) -> None:
        """Delete what was delivered, or given up, of before a time."""
        async with self._db.write() as tx:
            await tx.change(_FORGET, before=before)

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
                log.exception("a notification cannot be read, and is left as it is")
                continue
            async with self._db.write() as tx:
                fresh = self._document.dump(one)
                changed += await tx.change(
                    _CHANGE, wanted=one.id, next_at=one.next_at, tries=one.tries, doc=fresh
                )  # fmt: skip
        return changed
