"""What those ask of the records who look after a server: counts, times, rows without secrets. Used by `records`."""

import json
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sqlalchemy import bindparam, func, select

from sky.core.model.vitals import Counts, Spent
from sky.store.database import Database, Transaction
from sky.store.schema import ALIVE, CLUSTERS, JOBS, LETTERS, MANAGED_JOBS, ORDERS, POOLS, REQUESTS, STORIES
from sky.store.statements import Now, Prepared

_TABLES = {"cluster": CLUSTERS, "job": JOBS, "request": REQUESTS, "managed_job": MANAGED_JOBS, "pool": POOLS}
_DUE = {
    noun: Prepared(select(func.count()).where(table.c.due_at <= Now(), table.c.lease_until <= Now()))
    for noun, table in _TABLES.items()
}
_PHASES = Prepared(select(CLUSTERS.c.phase, func.count()).where(ALIVE).group_by(CLUSTERS.c.phase))
_WAITING = {name: Prepared(select(func.count()).select_from(table)) for name, table in (("l", LETTERS), ("o", ORDERS))}
_NEWEST = {
    noun: Prepared(select(table.c.doc).order_by(table.c.created_at.desc()).limit(bindparam("most")))
    for noun, table in _TABLES.items()
}
_LINES = Prepared(select(*STORIES.c).order_by(STORIES.c.seq.desc()).limit(bindparam("most")))
#: Fields that hold what users say; they leave the records as the names that are in them. `envs` count as secrets.
_SAID = ("task_config", "resources_config", "layers", "body", "command", "result", "task_configs", "tasks")


async def counts(database: Database, now: float) -> Counts:
    """How much there is of everything."""
    async with database.read() as tx:
        due = {noun: int(await tx.scalar(statement, now=now)) for noun, statement in _DUE.items()}
        phases = {str(phase): int(count) for phase, count in await tx.all(_PHASES)}
        return Counts(due, phases, int(await tx.scalar(_WAITING["l"])), int(await tx.scalar(_WAITING["o"])))


async def rows(database: Database, most: int) -> dict[str, list[dict[str, object]]]:
    """The newest rows of every noun and lines of their stories, without anything that a user said."""
    async with database.read() as tx:
        found = {f"{noun}s": [_bare(doc) for (doc,) in await tx.all(each, most=most)] for noun, each in _NEWEST.items()}
        names = [column.name for column in STORIES.c]
        found["stories"] = [dict(zip(names, line, strict=True)) for line in await tx.all(_LINES, most=most)]
    return found


def _bare(doc: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(doc)
    return {name: "<left out>" if name in _SAID and each else each for name, each in value.items()}


class Timed:
    """A database that knows how long its transactions took."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes = _Sum()
        self._reads = _Sum()

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """See `store.database.Database`."""
        return _Timed(self._database.write(), self._writes)

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """See `store.database.Database`."""
        return _Timed(self._database.read(), self._reads)

    def spent(self) -> tuple[Spent, Spent]:
        """Of reads, and of writes."""
        return self._reads.told(), self._writes.told()


class _Sum:
    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    def told(self) -> Spent:
        return Spent(self.count, self.seconds)


class _Timed:
    """One transaction, timed from the wish for it to its end."""

    __slots__ = ("_begun", "_block", "_sum")

    def __init__(self, block: AbstractAsyncContextManager[Transaction], into: _Sum) -> None:
        self._block = block
        self._sum = into

    def __aenter__(self) -> Coroutine[Any, Any, Transaction]:
        self._begun = time.perf_counter()
        return self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, failed: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._block.__aexit__(kind, failed, trace)
        finally:
            self._sum.count += 1
            self._sum.seconds += time.perf_counter() - self._begun
