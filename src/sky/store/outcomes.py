"""What places answered when machines were asked for; written by the engine, read when a run is planned.

Rows are only added and, when old, deleted, so several servers on one database cannot spoil each other's count.
"""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from sky.core.model.catalog import Market
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.store.database import Database
from sky.store.schema import OUTCOMES

#: The most that is read back; older ones weigh next to nothing.
_MOST = 20_000
#: Seconds after which an outcome is deleted.
_KEPT_S = 30 * 86400.0


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
        with self._db.write() as connection:
            connection.execute(insert(OUTCOMES).values(**outcome._asdict()))
            connection.execute(delete(OUTCOMES).where(OUTCOMES.c.at < outcome.at - _KEPT_S))
        self._added += 1

    async def since(self, at: float) -> Sequence[Outcome]:
        """Those from a time on, oldest first."""
        c = OUTCOMES.c
        newest = select(*(c[name] for name in Outcome._fields)).where(c.at >= at).order_by(c.seq.desc()).limit(_MOST)
        with self._db.read() as connection:
            rows = connection.execute(newest).mappings().all()
        return [
            Outcome(**{**row, "market": Market(row["market"]), "kind": OutcomeKind(row["kind"])})
            for row in reversed(rows)
        ]
