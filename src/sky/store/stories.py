"""The event log, read back; it is written by every commit in `leases`."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, or_, select

from sky.core.model.events import Entry
from sky.store.database import Database
from sky.store.schema import STORIES


class SqlStories:
    """See `core.ports.Stories`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def read(self, entity: str, id_or_name: str, *, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Lines after a sequence number, oldest first."""
        t = STORIES
        query = (
            select(t)
            .where(t.c.entity == entity, or_(t.c.entity_id == id_or_name, t.c.name == id_or_name), t.c.seq > after)
            .order_by(t.c.seq)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]

    async def last_of_each(self, entity: str, ids: Sequence[str]) -> Mapping[str, Entry]:
        """The newest line with words of each entity."""
        t = STORIES
        newest = (
            select(func.max(t.c.seq)).where(t.c.entity == entity, t.c.entity_id.in_(ids), t.c.text != "")
        ).group_by(t.c.entity_id)  # fmt: skip
        with self._db.read() as connection:
            rows = connection.execute(select(t).where(t.c.seq.in_(newest))).mappings().all()
        return {row["entity_id"]: Entry(**row) for row in rows}
