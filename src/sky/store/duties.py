"""What one of several servers does for all: who has which duty, and until when. Read and written by `engine.duties`.

A duty is a named value, `<holder> <until>`, so no table of its own is needed; times are those of the database.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, literal, select, update

from sky.store.database import Database, settle
from sky.store.schema import VALUES
from sky.store.statements import Among, Now, Prepared

_PREFIX = "duty:"
_KEY = VALUES.c.key == bindparam("wanted")
_READ = Prepared(select(VALUES.c.value, Now()).where(_KEY))
_TIME = Prepared(select(Now()))
_SOME = Prepared(select(VALUES.c.key, VALUES.c.value).where(Among(VALUES.c.key, "keys")))
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

    async def hold(self, names: Sequence[str], holder: str, now: float, lease_s: float) -> frozenset[str]:
        """Take duties that are free, or keep them; those that are the holder's until `lease_s` from now."""
        keys = {_PREFIX + name: name for name in sorted(names)}

        async def work() -> frozenset[str]:
            mine = set()
            async with self._db.write() as tx:
                time = await tx.scalar(_TIME, now=now)
                there = {key: value for key, value in await tx.all(_SOME, keys=list(keys))}
                fresh = _told(holder, time + lease_s)
                for key, name in keys.items():
                    if (seen := there.get(key)) is None:
                        taken = await tx.change(_TAKE, key=key, value=fresh)
                    else:
                        whose, until = _heard(seen)
                        free = whose == holder or until <= time
                        taken = await tx.change(_KEEP, wanted=key, seen=seen, fresh=fresh) if free else 0
                    if taken == 1:
                        mine.add(name)
            return frozenset(mine)

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
