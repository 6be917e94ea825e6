"""The ledger: lines are written by `clusters` in the transaction of the commit they follow from, and read here.

Lines are never deleted: what was paid is history. `settle` alone changes a line that has ended, for the times that a
provider itself remembers.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, case, insert, or_, select, update

from sky.core.model.catalog import Market
from sky.core.model.ledger import Billed, Booking, Entry, Line, Question, Settlement
from sky.store.database import Database, Transaction
from sky.store.schema import LEDGER
from sky.store.statements import Among, Prepared

_C = LEDGER.c
_COLUMNS = [_C.number, *(_C[name] for name in Entry._fields)]
_ADD = Prepared(insert(LEDGER).values({name: bindparam(name) for name in Entry._fields}))
_END = Prepared(
    update(LEDGER)
    .where(
        _C.cluster_id == bindparam("of_cluster"),
        _C.kind == bindparam("of_kind"),
        _C.resource == bindparam("of_resource"),
        _C.ended.is_(None),
    )
    # A clock that was set back must not make a line that ends before it began.
    .values(ended=case((_C.began > bindparam("at"), _C.began), else_=bindparam("at")), reason=bindparam("why"))
)
_SET = Prepared(
    update(LEDGER)
    .where(_C.number == bindparam("of_number"), _C.ended.is_not(None))
    .values(began=bindparam("from_"), ended=bindparam("until"))
)
_OF = Prepared(select(*_COLUMNS).where(Among(_C.cluster_id, "ids")).order_by(_C.number))
_OF_ORIGIN = Prepared(select(*_COLUMNS).where(_C.origin == bindparam("wanted")).order_by(_C.number))
_KNOWN = Prepared(
    select(_C.number).where(
        _C.cluster_id == bindparam("of_cluster"), _C.resource == bindparam("of_resource"), _C.began == bindparam("at")
    )
)
#: The most lines that one question is answered with, the newest.
MOST = 10_000


async def book(tx: Transaction, booking: Booking) -> None:
    """Write what a commit does to the ledger, in its own transaction."""
    for each in booking.ended:
        await tx.change(
            _END, of_cluster=each.cluster_id, of_kind=each.kind.value, of_resource=each.resource, at=each.ended,
            why=each.reason,
        )  # fmt: skip
    for entry in booking.begun:
        await _add(tx, entry)


async def _add(tx: Transaction, entry: Entry) -> None:
    await tx.number(_ADD, **{**entry._asdict(), "kind": entry.kind.value, "market": entry.market.value})


class SqlLedger:
    """See `core.ports.LedgerRows`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def lines(self, asked: Question) -> Sequence[Line]:
        """Lines of this kind, oldest first."""
        wanted: list[Any] = []
        if not asked.ended:
            wanted.append(_C.ended.is_(None))
        if asked.since is not None:
            wanted.append(or_(_C.ended.is_(None), _C.ended > asked.since))
        if asked.cluster is not None:
            wanted.append(or_(_C.cluster_name == asked.cluster, _C.cluster_id == asked.cluster))
        if asked.owner is not None:
            wanted.append(_C.owner == asked.owner)
        if asked.cloud is not None:
            wanted.append(_C.cloud == asked.cloud)
        query = select(*_COLUMNS).where(*wanted).order_by(_C.number.desc()).limit(MOST)
        async with self._db.read() as tx:
            rows = await tx.all(query)
        return [_line(row) for row in reversed(rows)]

    async def of_clusters(self, ids: Iterable[str]) -> Sequence[Line]:
        """All lines of these clusters, oldest first."""
        async with self._db.read() as tx:
            rows = await tx.all(_OF, ids=sorted(ids))
        return [_line(row) for row in rows]

    async def of_origin(self, origin: str) -> Sequence[Line]:
        """All lines of what was made for one thing, oldest first."""
        async with self._db.read() as tx:
            rows = await tx.all(_OF_ORIGIN, wanted=origin)
        return [_line(row) for row in rows]

    async def book(self, booking: Booking) -> None:
        """Begin and end lines that follow from no commit; may be repeated."""
        async with self._db.write() as tx:
            new = [each for each in booking.begun if await _unknown(tx, each)]
            await book(tx, Booking(booking.ended, tuple(new)))

    async def settle(self, settlement: Settlement) -> None:
        """Bring lines that have ended in line with what a provider remembers; may be repeated."""
        async with self._db.write() as tx:
            for number, began, ended in settlement.corrected:
                await tx.change(_SET, of_number=number, from_=began, until=ended)
            for entry in settlement.missing:
                # Whoever settles may do so twice, and two servers at once.
                if await _unknown(tx, entry):
                    await _add(tx, entry)


async def _unknown(tx: Transaction, entry: Entry) -> bool:
    known = dict(of_cluster=entry.cluster_id, of_resource=entry.resource, at=entry.began)
    return await tx.first(_KNOWN, **known) is None


def _line(row: Sequence[Any]) -> Line:
    number, *fields = row
    entry = Entry(*fields)
    return Line(number, entry._replace(kind=Billed(entry.kind), market=Market(entry.market)))
