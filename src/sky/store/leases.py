"""Claim and commit, the same for every noun: a row is held under a lease and written only by who still holds it.

The nouns' repositories (`clusters`, `jobs`, `requests`) inherit from `LeasedRows` and add their own questions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Table, delete, insert, select, update

from sky.core.lifecycle.machine import Step
from sky.core.ports import Claim, LeaseLost, Letter, StandingOrder
from sky.store.database import Database
from sky.store.documents import Document, Tagged
from sky.store.schema import LETTERS, ORDERS, STORIES

E = TypeVar("E", bound=Any)


class LeasedRows(Generic[E]):
    """Rows of one noun. Sub-classes name the noun and say which columns an entity fills."""

    noun: str

    def __init__(
        self, database: Database, table: Table, document: Document[E], events: Iterable[type], orders: Iterable[type]
    ) -> None:
        self._db = database
        self._table = table
        self._document = document
        self._events = Tagged(events)
        self._orders = Tagged(orders)

    def columns(self, entity: E) -> Mapping[str, object]:
        """The searched columns of an entity."""
        raise NotImplementedError

    def label(self, entity: E) -> str:
        """The name under which the entity's story is found by people."""
        raise NotImplementedError

    def status(self, entity: E) -> str:
        """The status that the story shows."""
        raise NotImplementedError

    # --- reading -------------------------------------------------------------------------------------------------

    async def get(self, id: str) -> E | None:
        """The entity of this id."""
        return self._one(self._table.c.id == id)

    def _one(self, *where: Any, newest: bool = False) -> E | None:
        query = select(self._table.c.doc).where(*where).limit(1)
        if newest:
            query = query.order_by(self._table.c.created_at.desc())
        with self._db.read() as connection:
            doc = connection.execute(query).scalar()
        return None if doc is None else self._document.load(doc)

    def _many(self, *where: Any, limit: int | None = None) -> list[E]:
        query = select(self._table.c.doc).where(*where).order_by(self._table.c.created_at.desc()).limit(limit)
        with self._db.read() as connection:
            docs = connection.execute(query).scalars().all()
        return [self._document.load(doc) for doc in docs]

    # --- opening -------------------------------------------------------------------------------------------------

    def _insert(self, connection: Connection, step: Step[E], now: float) -> None:
        entity = step.entity
        connection.execute(
            insert(self._table).values(
                id=entity.id,
                version=entity.version,
                doc=self._document.dump(entity),
                due_at=now,
                lease_until=0,
                **self.columns(entity),
            )
        )
        self._give(connection, entity, step.orders or ())
        self._tell(connection, entity, now, "Opened", "", step.text)

    # --- leases --------------------------------------------------------------------------------------------------

    async def claim(self, now: float, lease_s: float, token: str, limit: int) -> list[Claim[E]]:
        """Up to `limit` rows that are due and that nobody holds, oldest first."""
        t = self._table
        with self._db.write() as connection:
            ids = connection.execute(
                select(t.c.id).where(t.c.due_at <= now, t.c.lease_until <= now).order_by(t.c.due_at).limit(limit)
            ).scalars().all()  # fmt: skip
            if not ids:
                return []
            connection.execute(update(t).where(t.c.id.in_(ids)).values(token=token, lease_until=now + lease_s))
            return [self._load(connection, id, token) for id in ids]

    async def reload(self, claim: Claim[E]) -> Claim[E]:
        """The claim as it stands now, with letters that came meanwhile."""
        with self._db.read() as connection:
            return self._load(connection, claim.entity.id, claim.token)

    async def renew(self, claim: Claim[E], expires: float) -> Claim[E]:
        """Hold on until `expires`."""
        t = self._table
        with self._db.write() as connection:
            held = connection.execute(
                update(t).where(t.c.id == claim.entity.id, t.c.token == claim.token).values(lease_until=expires)
            )
            if held.rowcount != 1:
                raise LeaseLost(f"{self.noun} {claim.entity.id}")
        return replace(claim, expires=expires)

    async def release(self, claim: Claim[E]) -> None:
        """Let go; what became due meanwhile can be claimed at once."""
        t = self._table
        with self._db.write() as connection:
            connection.execute(
                update(t).where(t.c.id == claim.entity.id, t.c.token == claim.token).values(lease_until=0, token=None)
            )

    async def commit(
        self,
        claim: Claim[E],
        step: Step[E],
        event: object,
        *,
        now: float,
        due_at: float | None,
        letters: Iterable[int] = (),
        done: str | None = None,
    ) -> Claim[E]:
        """Write the step, in one transaction, if the claim still stands."""
        t = self._table
        before = claim.entity
        after = replace(step.entity, version=before.version + 1)
        with self._db.write() as connection:
            written = connection.execute(
                update(t)
                .where(t.c.id == before.id, t.c.token == claim.token, t.c.version == before.version)
                .values(version=after.version, doc=self._document.dump(after), **self.columns(after))
            )
            if written.rowcount != 1:
                raise LeaseLost(f"{self.noun} {before.id} at version {before.version}")
            if read := list(letters):
                connection.execute(delete(LETTERS).where(LETTERS.c.id.in_(read)))
            if step.orders is not None:
                self._forget_orders(connection, after.id)
                self._give(connection, after, step.orders)
            elif done is not None:
                connection.execute(delete(ORDERS).where(ORDERS.c.key == done))
            if step.text or self.status(before) != self.status(after):
                self._tell(connection, after, now, type(event).__name__, self.status(before), step.text)
            current = self._load(connection, after.id, claim.token)
            due = now if current.letters or current.orders else due_at
            connection.execute(update(t).where(t.c.id == after.id).values(due_at=due))
        return current

    async def post(self, id: str, event: object, now: float) -> None:
        """Leave a letter and make the row due."""
        t = self._table
        with self._db.write() as connection:
            connection.execute(
                insert(LETTERS).values(
                    entity=self.noun, entity_id=id, posted_at=now, doc=self._events.dump(event)
                )
            )  # fmt: skip
            connection.execute(update(t).where(t.c.id == id).values(due_at=now))

    def break_leases(self) -> None:
        """Let go of every row. Only for a store that one process owns alone, before it starts to work."""
        with self._db.write() as connection:
            connection.execute(update(self._table).values(lease_until=0, token=None))

    # --- parts ---------------------------------------------------------------------------------------------------

    def _load(self, connection: Connection, id: str, token: str) -> Claim[E]:
        t = self._table
        row = connection.execute(select(t.c.doc, t.c.lease_until).where(t.c.id == id, t.c.token == token)).first()
        if row is None:
            raise LeaseLost(f"{self.noun} {id}")
        letters = connection.execute(
            select(LETTERS.c.id, LETTERS.c.doc)
            .where(LETTERS.c.entity == self.noun, LETTERS.c.entity_id == id)
            .order_by(LETTERS.c.id)
        ).all()
        orders = connection.execute(
            select(ORDERS.c.key, ORDERS.c.doc)
            .where(ORDERS.c.entity == self.noun, ORDERS.c.entity_id == id)
            .order_by(ORDERS.c.position)
        ).all()
        return Claim(
            self._document.load(row.doc),
            token,
            row.lease_until,
            tuple(StandingOrder(key, self._orders.load(doc)) for key, doc in orders),
            tuple(Letter(number, self._events.load(doc)) for number, doc in letters),
        )

    def _give(self, connection: Connection, entity: E, orders: Sequence[object]) -> None:
        for position, order in enumerate(orders):
            connection.execute(
                insert(ORDERS).values(
                    key=f"{self.noun}:{entity.id}:{entity.version}:{position}",
                    entity=self.noun,
                    entity_id=entity.id,
                    position=position,
                    doc=self._orders.dump(order),
                )
            )

    def _forget_orders(self, connection: Connection, id: str) -> None:
        connection.execute(delete(ORDERS).where(ORDERS.c.entity == self.noun, ORDERS.c.entity_id == id))

    def _tell(self, connection: Connection, entity: E, now: float, kind: str, before: str, text: str) -> None:
        connection.execute(
            insert(STORIES).values(
                time=now,
                entity=self.noun,
                entity_id=entity.id,
                name=self.label(entity),
                kind=kind,
                before=before,
                after=self.status(entity),
                text=text,
            )
        )
