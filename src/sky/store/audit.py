"""The audit log: rows are added and read. Nothing here changes or deletes one, and nothing else touches the table."""

from sqlalchemy import insert, select

from sky.core.model.audit import AuditLine
from sky.store.database import Database
from sky.store.schema import AUDIT


class SqlAudit:
    """See `core.ports.Audit`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, line: AuditLine) -> None:
        """Add a line; its number is given here."""
        told = line._asdict()
        told.pop("seq")
        with self._db.write() as connection:
            connection.execute(insert(AUDIT).values(user_name=told.pop("user"), **told))

    async def read(
        self, *, limit: int, before: int | None = None, user: str | None = None, since: float | None = None
    ) -> list[AuditLine]:
        """Lines, newest first."""
        c = AUDIT.c
        found = select(AUDIT).order_by(c.seq.desc()).limit(limit)
        if before is not None:
            found = found.where(c.seq < before)
        if user is not None:
            found = found.where(c.user_name == user)
        if since is not None:
            found = found.where(c.at >= since)
        with self._db.read() as connection:
            rows = [dict(row) for row in connection.execute(found).mappings().all()]
        return [AuditLine(user=row.pop("user_name"), **row) for row in rows]
