"""What places answered when machines were asked for; written by the engine, read when a run is planned.

Rows are only added and, when old, deleted, so several servers on one database cannot spoil each other's count.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select

from sky.core.model.catalog import Market
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.store.database import Database
from sky.store.schema import OUTCOMES
from sky.store.statements import Prepared

#: The most that is read back; older ones weigh next to nothing.
_MOST = 20_000
#: Seconds after which an outcome is deleted.
_KEPT_S = 30 * 86400.0

_C = OUTCOMES.c
_ADD = Prepared(insert(OUTCOMES).values({name: bindparam(name) for name in Outcome._fields}))
_FORGET = Prepared(delete(OUTCOMES).where(_C.at < bindparam("before")))
_SINCE = Prepared(
    select(*(_C[name] for name in Outcome._fields))
    .where(_C.at >= bindparam("since"))
    .order_by(_C.seq.desc())
    .limit(_MOST)
)


class SqlOutcomes:
    """See `core.ports.Outcomes`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._added = 0

    @property
    def revision(self) -> int:
        """Grows with every outcome that this process added."""
        return self._added

    async def add(self, outcome: Outcome) -> None:
        """Record one, and forget those that are too old to matter."""
        async with self._db.write() as tx:
            given = {**outcome._asdict(), "market": outcome.market.value, "kind": outcome.kind.value}
            await tx.number(_ADD, **given)
            await tx.change(_FORGET, before=outcome.at - _KEPT_S)
        self._added += 1

    async def since(self, at: float) -> Sequence[Outcome]:
        """Those from a time on, oldest first."""
        async with self._db.read() as tx:
            rows = await tx.all(_SINCE, since=at)
        drawn = (Outcome(*row) for row in reversed(rows))
        return [each._replace(market=Market(each.market), kind=OutcomeKind(each.kind)) for each in drawn]
