"""Claim and commit, the same for every noun: a row is held under a lease and written only by who still holds it.

The nouns' repositories (`clusters`, `jobs`, `requests`) inherit from `LeasedRows` and add their own questions.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from sky.core.lifecycle.machine import Step
from sky.core.ports import Claim, LeaseLost, Letter, StandingOrder
from sky.store.database import Database
from sky.store.documents import Document, Tagged
from sky.store.schema import LETTERS, ORDERS, STORIES, VALUES
from sky.store.statements import Prepared

log = logging.getLogger(__name__)

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
        self._sql = _Sql(table, self.noun)

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
        with self._db.read() as connection:
            row = self._sql.get.run(connection, id=id).first()
        return None if row is None else self._document.load(row[0])

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
        self._sql.insert.run(
            connection,
            id=entity.id,
            version=entity.version,
            doc=self._document.dump(entity),
            due_at=now,
            token=None,
            lease_until=0,
            **self.columns(entity),
        )
        self._give(connection, entity, step.orders or ())
        self._tell(connection, entity, now, "Opened", "", step.text)

    # --- leases --------------------------------------------------------------------------------------------------

    async def claim(
        self, now: float, lease_s: float, token: str, limit: int, *, but_not: Collection[str] = ()
    ) -> list[Claim[E]]:
        """Up to `limit` rows that are due and that nobody holds, oldest first.

        A row that cannot be read is left under its lease, so that it is tried again later and holds up no other.
        """
        most = limit + len(but_not)
        with self._db.read() as connection:
            if not any(row[0] not in but_not for row in self._sql.due.run(connection, now=now, most=most).all()):
                return []
        claims = []
        with self._db.write() as connection:
            due = [row[0] for row in self._sql.due.run(connection, now=now, most=most).all()]
            for id in [id for id in due if id not in but_not][:limit]:
                self._sql.hold.run(connection, id=id, token=token, until=now + lease_s)
                try:
                    claims.append(self._load(connection, id, token))
                except (ValueError, KeyError):
                    log.exception("%s %s cannot be read; looked at again in %g s", self.noun, id, lease_s)
        return claims

    async def reload(self, claim: Claim[E]) -> Claim[E]:
        """The claim with the letters that came meanwhile. What else may have changed only a commit can tell."""
        with self._db.read() as connection:
            return replace(claim, letters=self._letters(connection, claim.entity.id))

    async def renew(self, claim: Claim[E], expires: float) -> Claim[E]:
        """Hold on until `expires`."""
        with self._db.write() as connection:
            held = self._sql.renew.run(connection, id=claim.entity.id, held_token=claim.token, until=expires)
            if held.rowcount != 1:
                raise LeaseLost(f"{self.noun} {claim.entity.id}")
        return replace(claim, expires=expires)

    async def release(self, claim: Claim[E]) -> None:
        """Let go; what became due meanwhile can be claimed at once."""
        with self._db.write() as connection:
            self._sql.release.run(connection, id=claim.entity.id, held_token=claim.token)

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
        before, sql = claim.entity, self._sql
        after = replace(step.entity, version=before.version + 1)
        with self._db.write() as connection:
            written = sql.write.run(
                connection,
                held_id=before.id,
                held_token=claim.token,
                held_version=before.version,
                version=after.version,
                doc=self._document.dump(after),
                due_at=now,
                **self.columns(after),
            )
            if written.rowcount != 1:
                raise LeaseLost(f"{self.noun} {before.id} at version {before.version}")
            for number in letters:
                sql.read_letter.run(connection, number=number)
            orders = self._keep_orders(connection, claim, after, step, done)
            if step.text or self.status(before) != self.status(after):
                self._tell(connection, after, now, type(event).__name__, self.status(before), step.text)
            waiting = self._letters(connection, after.id)
            if not waiting and not orders:
                sql.rest.run(connection, id=after.id, due=due_at)
        return replace(claim, entity=after, orders=orders, letters=waiting)

    def _keep_orders(
        self, connection: Connection, claim: Claim[E], after: E, step: Step[E], done: str | None
    ) -> tuple[StandingOrder, ...]:
        """Orders that stand after the step: those of the claim but for the done one, or the new ones in their place."""
        if step.orders is not None:
            if claim.orders:
                self._sql.forget_orders.run(connection, id=after.id)
            return self._give(connection, after, step.orders)
        if done is not None:
            self._sql.order_done.run(connection, order_key=done)
        return tuple(standing for standing in claim.orders if standing.key != done)

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int:
        """Leave a letter and make the row due; its number.

        With `once`, the letter and the value `<id> <number>` under that name are written together or, if the name is
        taken, not at all: whoever repeats the call gets the number of the first letter.
        """
        with self._db.write() as connection:
            if once is not None:
                known = connection.execute(select(VALUES.c.value).where(VALUES.c.key == once)).scalar()
                if known is not None:
                    return int(known.split()[1])
            written = self._sql.post.run(
                connection, entity=self.noun, entity_id=id, posted_at=now, doc=self._events.dump(event)
            )  # fmt: skip
            number = int(written.lastrowid)
            if once is not None:
                connection.execute(insert(VALUES).values(key=once, value=f"{id} {number}"))
            self._sql.rest.run(connection, id=id, due=now)
        return number

    async def heeded(self, letter: int) -> bool:
        """Whether a letter has been read, and what followed from it is on record."""
        with self._db.read() as connection:
            return connection.execute(select(LETTERS.c.id).where(LETTERS.c.id == letter)).first() is None

    def break_leases(self) -> None:
        """Let go of every row. Only for a store that one process owns alone, before it starts to work."""
        with self._db.write() as connection:
            connection.execute(update(self._table).values(lease_until=0, token=None))

    # --- parts ---------------------------------------------------------------------------------------------------

    def _load(self, connection: Connection, id: str, token: str) -> Claim[E]:
        row = self._sql.held.run(connection, id=id, held_token=token).first()
        if row is None:
            raise LeaseLost(f"{self.noun} {id}")
        orders = self._sql.orders.run(connection, id=id).all()
        return Claim(
            self._document.load(row[0]),
            token,
            row[1],
            tuple(StandingOrder(key, self._orders.load(doc)) for key, doc in orders),
            self._letters(connection, id),
        )

    def _letters(self, connection: Connection, id: str) -> tuple[Letter, ...]:
        rows = self._sql.letters.run(connection, id=id).all()
        return tuple(Letter(number, self._events.load(doc)) for number, doc in rows)

    def _give(self, connection: Connection, entity: E, orders: Sequence[object]) -> tuple[StandingOrder, ...]:
        given = []
        for position, order in enumerate(orders):
            key = f"{self.noun}:{entity.id}:{entity.version}:{position}"
            self._sql.give.run(
                connection,
                key=key,
                entity=self.noun,
                entity_id=entity.id,
                position=position,
                doc=self._orders.dump(order),
            )
            given.append(StandingOrder(key, order))
        return tuple(given)

    def _tell(self, connection: Connection, entity: E, now: float, kind: str, before: str, text: str) -> None:
        self._sql.tell.run(
            connection,
            time=now,
            entity=self.noun,
            entity_id=entity.id,
            name=self.label(entity),
            kind=kind,
            before=before,
            after=self.status(entity),
            text=text,
        )


class _Sql:
    """The statements of one noun's table, built once."""

    def __init__(self, table: Table, noun: str) -> None:
        t, id, held = table, table.c.id == bindparam("id"), table.c.token == bindparam("held_token")
        mine = (LETTERS.c.entity == noun, LETTERS.c.entity_id == bindparam("id"))
        ours = (ORDERS.c.entity == noun, ORDERS.c.entity_id == bindparam("id"))
        claimable = (t.c.due_at <= bindparam("now"), t.c.lease_until <= bindparam("now"))
        guarded = (t.c.id == bindparam("held_id"), held, t.c.version == bindparam("held_version"))
        written = {column.name for column in t.c} - {"id", "token", "lease_until"}
        self.get = Prepared(select(t.c.doc).where(id))
        self.held = Prepared(select(t.c.doc, t.c.lease_until).where(id, held))
        self.due = Prepared(select(t.c.id).where(*claimable).order_by(t.c.due_at).limit(bindparam("most")))
        self.hold = Prepared(update(t).where(id).values(token=bindparam("token"), lease_until=bindparam("until")))
        self.renew = Prepared(update(t).where(id, held).values(lease_until=bindparam("until")))
        self.release = Prepared(update(t).where(id, held).values(lease_until=0, token=None))
        self.write = Prepared(update(t).where(*guarded).values({name: bindparam(name) for name in written}))
        self.rest = Prepared(update(t).where(id).values(due_at=bindparam("due")))
        self.insert = Prepared(insert(t))
        self.letters = Prepared(select(LETTERS.c.id, LETTERS.c.doc).where(*mine).order_by(LETTERS.c.id))
        self.post = Prepared(insert(LETTERS).values({c.name: bindparam(c.name) for c in LETTERS.c if c.name != "id"}))
        self.read_letter = Prepared(delete(LETTERS).where(LETTERS.c.id == bindparam("number")))
        self.orders = Prepared(select(ORDERS.c.key, ORDERS.c.doc).where(*ours).order_by(ORDERS.c.position))
        self.give = Prepared(insert(ORDERS))
        self.order_done = Prepared(delete(ORDERS).where(ORDERS.c.key == bindparam("order_key")))
        self.forget_orders = Prepared(delete(ORDERS).where(*ours))
        self.tell = Prepared(insert(STORIES).values({c.name: bindparam(c.name) for c in STORIES.c if c.name != "seq"}))
