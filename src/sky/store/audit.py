"""The audit log: rows are added and read, and the oldest forgotten in time. Nothing here changes one, and nothing else
touches the table.
"""

from sqlalchemy import bindparam, delete, insert, select

from sky.core.model.audit import AuditLine
from sky.store.database import Database
from sky.store.schema import AUDIT
from sky.store.statements import Prepared

_C = AUDIT.c
#: Fields by the columns that they are in.
_COLUMNS = {"user_name" if name == "user" else name: name for name in AuditLine._fields}
_ADD = Prepared(insert(AUDIT).values({each: bindparam(each) for each in _COLUMNS if each != "seq"}))
_NEWEST = (
    select(*(_C[each] for each in _COLUMNS))
    .where(_C.seq < bindparam("below"), _C.at >= bindparam("since"))
    .order_by(_C.seq.desc())
    .limit(bindparam("most"))
)
_READ = Prepared(_NEWEST)
_READ_OF = Prepared(_NEWEST.where(_C.user_name == bindparam("wanted")))
#: Lines that are deleted at a time, so that nobody waits for long.
_BATCH = 500
_FORGET = Prepared(
    delete(AUDIT).where(
        _C.seq.in_(select(_C.seq).where(_C.at < bindparam("before")).order_by(_C.seq).limit(_BATCH).scalar_subquery())
    )
)
#: Above all numbers that either database counts to.
_ABOVE = 2**63 - 1


class SqlAudit:
    """See `core.ports.Audit`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, line: AuditLine) -> None:
        """Add a line; its number is given here."""
        told = {column: _kept(getattr(line, name)) for column, name in _COLUMNS.items() if column != "seq"}
        async with self._db.write() as tx:
            await tx.number(_ADD, **told)

    async def read(
        self, *, limit: int, before: int | None = None, user: str | None = None, since: float | None = None
    ) -> list[AuditLine]:
        """Lines, newest first."""
        asked = {"below": min(before or _ABOVE, _ABOVE), "since": since or 0.0, "most": limit}
        async with self._db.read() as tx:
            rows = await (tx.all(_READ, **asked) if user is None else tx.all(_READ_OF, wanted=user, **asked))
        return [AuditLine(*row) for row in rows]

    async def forget(self, before: float) -> int:
        """Delete a batch of lines from before a time; how many."""
        async with self._db.write() as tx:
            return await tx.change(_FORGET, before=before)


def _kept(value: object) -> object:
    """What callers send is written down whatever it is: JSON can name characters that no database takes."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
