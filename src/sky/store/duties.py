"""What one of several servers does for all: who has which duty, and until when. Read and written by `engine.duties`.

A duty is a named value, `<holder> <until>`, so no table of its own is needed; times are those of the database.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, literal, select, update

from sky.store.database import Database, settle
from sky.store.schema import VALUES
from sky.store.statements import Now, Prepared

_PREFIX = "duty:"
_KEY = VALUES.c.key == bindparam("wanted")
_READ = Prepared(select(VALUES.c.value, Now()).where(_KEY))
#: The time alone, for a duty that nobody ever had.
_TIME = Prepared(select(Now()))
_TAKE = Prepared(insert(VALUES))
_KEEP = Prepared(update(VALUES).where(_KEY, VALUES.c.value == bindparam("seen")).values(value=bindparam("fresh")))
_DROP = Prepared(delete(VALUES).where(_KEY, VALUES.c.value == bindparam("seen")))
_ALL = Prepared(
    select(VALUES.c.key, VALUES.c.value, Now())
    .where(VALUES.c.key >= bindparam("first"), VALUES.c.key < bindparam("first") + literal("\U0010ffff"))
    .order_by(VALUES.c.key)
)


class SqlDuties:
    """See `core.ports.Duties`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def hold(self, name: str, holder: str, now: float, lease_s: float) -> bool:
        """Take a duty that is free, or keep it; whether it is the holder's until `lease_s` from now."""
        key = _PREFIX + name

        async def work() -> bool:
            async with self._db.write() as tx:
                found = await tx.first(_READ, wanted=key, now=now)
                if found is None:
                    time = await tx.scalar(_TIME, now=now)
                    return await tx.change(_TAKE, key=key, value=_told(holder, time + lease_s)) == 1
                seen, time = found
                whose, until = _heard(seen)
                if whose != holder and until > time:
                    return False
                return await tx.change(_KEEP, wanted=key, seen=seen, fresh=_told(holder, time + lease_s)) == 1

        return await settle(work)

    async def let_go(self, name: str, holder: str) -> None:
        """Give a duty up; harmless if it is somebody else's by now."""
        key = _PREFIX + name
        async with self._db.write() as tx:
            found = await tx.first(_READ, wanted=key, now=0.0)
            if found is not None and _heard(found[0])[0] == holder:
                await tx.change(_DROP, wanted=key, seen=found[0])

    async def held(self, prefix: str, now: float) -> Sequence[str]:
        """Names of the duties that begin so and that somebody has now, in order."""
        async with self._db.read() as tx:
            rows = await tx.all(_ALL, first=_PREFIX + prefix, now=now)
        return [key[len(_PREFIX) :] for key, value, time in rows if _heard(value)[1] > time]

    async def tidy(self, prefix: str, now: float) -> None:
        """Forget duties that begin so and that nobody has any more."""
        async with self._db.write() as tx:
            for key, value, time in await tx.all(_ALL, first=_PREFIX + prefix, now=now):
                if _heard(value)[1] <= time:
                    await tx.change(_DROP, wanted=key, seen=value)


def _told(holder: str, until: float) -> str:
    return f"{holder} {until!r}"


def _heard(value: str) -> tuple[str, float]:
    holder, _, until = value.rpartition(" ")
    return holder, float(until)
