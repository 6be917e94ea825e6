"""The event log, read back; it is written by every commit in `leases`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from sqlalchemy import bindparam, func, or_, select

from sky.core.model.events import Entry
from sky.store.database import Database
from sky.store.schema import STORIES
from sky.store.statements import Among, Prepared

_T = STORIES.c
_COLUMNS = [_T[each.name] for each in fields(Entry)]
_READ = Prepared(
    select(*_COLUMNS)
    .where(
        _T.entity == bindparam("noun"),
        or_(_T.entity_id == bindparam("wanted"), _T.name == bindparam("wanted")),
        _T.seq > bindparam("later"),
    )
    .order_by(_T.seq)
    .limit(bindparam("most"))
)
_NEWEST = (
    select(func.max(_T.seq))
    .where(_T.entity == bindparam("noun"), Among(_T.entity_id, "ids"), _T.text != "")
    .group_by(_T.entity_id)
)
_LAST = Prepared(select(*_COLUMNS).where(_T.seq.in_(_NEWEST)))


class SqlStories:
    """See `core.ports.Stories`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def read(self, entity: str, id_or_name: str, *, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Lines after a sequence number, oldest first."""
        async with self._db.read() as tx:
            rows = await tx.all(_READ, noun=entity, wanted=id_or_name, later=after, most=limit)
        return [Entry(*row) for row in rows]

    async def last_of_each(self, entity: str, ids: Sequence[str]) -> Mapping[str, Entry]:
        """The newest line with words of each entity."""
        async with self._db.read() as tx:
            rows = await tx.all(_LAST, noun=entity, ids=list(ids))
        return {entry.entity_id: entry for entry in (Entry(*row) for row in rows)}
