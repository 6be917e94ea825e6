"""Claim and commit, the same for every noun: a row is held under a lease and written only by who still holds it.

The nouns' repositories (`clusters`, `jobs`, `requests`) inherit from `LeasedRows` and add their own questions.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Table, bindparam, case, delete, func, insert, select, update

from sky.core.lifecycle.machine import Step
from sky.core.ports import Claim, LeaseLost, Letter, StandingOrder
from sky.kit.frozen import replace
from sky.store.database import Database, Transaction, settle
from sky.store.documents import Document, Tagged
from sky.store.schema import LETTERS, ORDERS, STORIES, VALUES
from sky.store.statements import Among, At, Now, Prepared

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Any)

#: Characters of a name that people give, as far as it is searched by; longer ones are of nothing that exists.
LONGEST_NAME = 256
#: Rows that are looked at in one question when all are.
_PAGE = 200
#: Rows of a noun that are remembered as they were written.
_WRITTEN = 300


class LeasedRows(Generic[E]):
    """Rows of one noun. Sub-classes name the noun and say which columns an entity fills."""

    noun: str
    #: What is claimed before what is due for longer.
    first: ColumnElement[Any] | None = None

    def __init__(
        self, database: Database, table: Table, document: Document[E], events: Iterable[type], orders: Iterable[type]
    ) -> None:
        self._db = database
        self._table = table
        self._document = document
        self._events = Tagged(events)
        self._orders = Tagged(orders)
        self._sql = _statements(table, self.noun, self.first)
        #: Rows as this process wrote them last, the newest: while they say the same, it is known what that is.
        self._written: dict[str, tuple[str, E]] = {}

    def columns(self, entity: E) -> Mapping[str, object]:
        """The searched columns of an entity."""
        raise NotImplementedError

    def label(self, entity: E) -> str:
        """The name under which the entity's story is found by people."""
        raise NotImplementedError

    def status(self, entity: E) -> str:
        """The status that the story shows."""
        raise NotImplementedError

    async def beside(self, tx: Transaction, before: E | None, after: E, now: float) -> None:
        """What else is written in the transaction of each commit, and of the first record (`before` is None)."""

    # --- reading -------------------------------------------------------------------------------------------------

    async def get(self, id: str) -> E | None:
        """The entity of this id."""
        async with self._db.read() as tx:
            doc = await tx.scalar(self._sql.get, id=id)
        return None if doc is None else self._known(id, doc)

    def _known(self, id: str, doc: str) -> E:
        """What a row says. Raises ValueError for one that cannot be read."""
        written = self._written.get(id)
        return written[1] if written is not None and written[0] == doc else self._document.load(doc)

    def remember(self, entity: E, doc: str) -> None:
        """Called with what is on record since just now, and its text."""
        self._written.pop(entity.id, None)
        self._written[entity.id] = doc, entity
        if len(self._written) > _WRITTEN:
            del self._written[next(iter(self._written))]

    async def _one(self, statement: Prepared, **values: object) -> E | None:
        async with self._db.read() as tx:
            doc = await tx.scalar(statement, **values)
        return None if doc is None else self._document.load(doc)

    async def _many(self, statement: Prepared, **values: object) -> list[E]:
        async with self._db.read() as tx:
            rows = await tx.all(statement, **values)
        return [self._document.load(row[0]) for row in rows]

    def loaded(self, documents: Iterable[str]) -> Iterator[E]:
        """Entities from their documents; what cannot be read is left out."""
        for text in documents:
            try:
                yield self._document.load(text)
            except ValueError:
                log.exception("a %s cannot be read", self.noun)

    async def reseal(self) -> int:
        """Write anew what is not sealed with the key in use; how many rows. See `store.records`."""
        after, changed = "", 0
        while True:
            async with self._db.read() as tx:
                page = await tx.all(self._sql.page, later=after, most=_PAGE)
            for id, version, doc in page:
                changed += await self._resealed(id, version, doc)
            if len(page) < _PAGE:
                return changed
            after = page[-1][0]

    async def _resealed(self, id: str, version: int, doc: str) -> bool:
        try:
            if not self._document.stale(doc):
                return False
            fresh = self._document.dump(self._document.load(doc))
        except ValueError:
            log.exception("%s %s cannot be read, and is left as it is", self.noun, id)
            return False
        async with self._db.write() as tx:
            return await tx.change(self._sql.rewrite, held_id=id, held_version=version, doc=fresh) == 1

    # --- opening -------------------------------------------------------------------------------------------------

    async def _open(self, step: Step[E], now: float, known: Prepared, **values: object) -> tuple[E, bool]:
        """Record an entity unless `known` finds one, also one that is recorded elsewhere in this very moment."""

        async def work() -> tuple[E, str | None]:
            async with self._db.write() as tx:
                there = await tx.scalar(known, **values)
                if there is not None:
                    return self._document.load(there), None
                doc = await self._insert(tx, step, now)
            return step.entity, doc

        found, doc = await settle(work)
        if doc is not None:
            self.remember(found, doc)
        return found, doc is not None

    async def _insert(self, tx: Transaction, step: Step[E], now: float) -> str:
        """The row's text."""
        entity = step.entity
        doc = self._document.dump(entity)
        await tx.change(
            # Whoever opens a row and orders nothing wakes it when it is time: it need not be looked at before.
            self._sql.insert if step.orders else self._sql.insert_at_rest,
            id=entity.id,
            version=entity.version,
            doc=doc,
            now=now,
            **self.columns(entity),
        )
        await self._give(tx, entity, step.orders or ())
        await self._tell(tx, entity, now, "Opened", "", step.text)
        await self.beside(tx, None, entity, now)
        return doc

    # --- leases --------------------------------------------------------------------------------------------------

    async def due_in(self, now: float, within: float) -> float:
        """Seconds until the next row is due and nobody's, at most `within`; not above 0 if one is just now."""
        async with self._db.read() as tx:
            left = await tx.scalar(self._sql.due_in, now=now, horizon=now + within)
        return within if left is None else min(within, left)

    async def claim(
        self, now: float, lease_s: float, token: str, limit: int, *, but_not: Collection[str] = ()
    ) -> list[Claim[E]]:
        """Up to `limit` rows that are due and that nobody holds, oldest first.

        A row that cannot be read is left under its lease, so that it is tried again later and holds up no other.
        """
        busy, sql = frozenset(but_not), self._sql
        most = limit + len(busy)
        async with self._db.write() as tx:
            # Rows that another server is claiming or committing just now are passed over; see `_Sql`.
            due = [id for (id,) in await tx.all(sql.due_free, now=now, most=most) if id not in busy][:limit]
            if not due:
                return []
            await tx.change(sql.hold, ids=due, token=token, until=now + lease_s, now=now)
            docs = {id: doc for id, doc in await tx.all(sql.docs, ids=due)}
            orders, letters = await self._texts(tx, sql.all_orders, due), await self._texts(tx, sql.all_letters, due)
        claims = []
        for id in due:
            try:
                claims.append(
                    Claim(
                        self._known(id, docs[id]),
                        token,
                        now + lease_s,
                        tuple(StandingOrder(key, self._orders.load(doc)) for key, doc in orders[id]),
                        tuple(Letter(number, self._events.load(doc)) for number, doc in letters[id]),
                    )
                )
            except (ValueError, KeyError):
                log.exception("%s %s cannot be read; looked at again in %g s", self.noun, id, lease_s)
        return claims

    async def _texts(self, tx: Transaction, statement: Prepared, ids: list[str]) -> Mapping[str, list[tuple[Any, str]]]:
        found: defaultdict[str, list[tuple[Any, str]]] = defaultdict(list)
        for id, key, doc in await tx.all(statement, ids=ids):
            found[id].append((key, doc))
        return found

    async def reload(self, claim: Claim[E]) -> Claim[E]:
        """The claim with the letters that came meanwhile. What else may have changed only a commit can tell."""
        async with self._db.read() as tx:
            letters = await self._letters(tx, claim.entity.id)
        return claim if letters == claim.letters else replace(claim, letters=letters)

    async def renew(self, held: Mapping[str, str], now: float, lease_s: float) -> dict[str, bool]:
        """Hold on to rows, by id and token, for `lease_s` from now; those still held, and whether they have letters."""
        # Tokens are their holder's alone: no pair of an id and another row's token is somebody else's.
        ids, tokens = list(held), list(set(held.values()))
        async with self._db.write() as tx:
            # In the order of their ids, as `post_all` locks them.
            kept = [id for (id,) in await tx.all(self._sql.held, ids=ids, tokens=tokens)]
            await tx.change(self._sql.renew, ids=kept, until=now + lease_s, now=now)
            lettered = {id for (id,) in await tx.all(self._sql.lettered, ids=kept)}
        return {id: id in lettered for id in kept}

    async def release(self, claim: Claim[E]) -> None:
        """Let go; what became due meanwhile can be claimed at once."""
        async with self._db.write() as tx:
            await tx.change(self._sql.release, id=claim.entity.id, held_token=claim.token)

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
        held = {"held_id": before.id, "held_token": claim.token, "held_version": before.version}
        read = frozenset(letters)
        async with self._db.write() as tx:
            # First of all the row is locked: who posts a letter to it is either seen below or waits.
            if await tx.first(sql.mine, **held) is None:
                raise LeaseLost(f"{self.noun} {before.id} at version {before.version}")
            waiting = tuple(each for each in await self._letters(tx, after.id) if each.id not in read)
            for number in read:
                await tx.change(sql.read_letter, number=number)
            orders = await self._keep_orders(tx, claim, after, step, done)
            rests = not waiting and not orders
            # Every index on a column that is written is written as well, so only those are that say something new. A
            # row with work left is due since before it was claimed, and stays so.
            known, columns = self.columns(before), self.columns(after)
            fresh = {name: value for name, value in columns.items() if known[name] != value}
            doc = self._document.dump(after)
            await tx.change(
                sql.write(tuple(fresh), rests=rests),
                **held, **fresh, version=after.version, doc=doc, due=due_at, now=now,
            )  # fmt: skip
            await self.beside(tx, before, after, now)
            if step.text or self.status(before) != self.status(after):
                await self._tell(tx, after, now, type(event).__name__, self.status(before), step.text)
        self.remember(after, doc)
        return replace(
            claim, entity=after, orders=orders, letters=waiting, expires=0.0 if rests else claim.expires
        )  # fmt: skip

    async def _keep_orders(
        self, tx: Transaction, claim: Claim[E], after: E, step: Step[E], done: str | None
    ) -> tuple[StandingOrder, ...]:
        """Orders that stand after the step: those of the claim but for the done one, or the new ones in their place."""
        if step.orders is not None:
            if claim.orders:
                await tx.change(self._sql.forget_orders, id=after.id)
            return await self._give(tx, after, step.orders)
        if done is not None:
            await tx.change(self._sql.order_done, order_key=done)
        return tuple(standing for standing in claim.orders if standing.key != done)

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int:
        """Leave a letter and make the row due; its number.

        With `once`, the letter and the value `<id> <number>` under that name are written together or, if the name is
        taken, not at all: whoever repeats the call gets the number of the first letter.
        """

        async def work() -> int:
            async with self._db.write() as tx:
                if once is not None:
                    known = await tx.scalar(_KNOWN, once=once)
                    if known is not None:
                        return int(known.split()[1])
                number = await self._leave(tx, id, self._events.dump(event), now)
                if once is not None:
                    await tx.change(_NOTE, key=once, value=f"{id} {number}")
            return number

        return await settle(work)

    async def post_all(self, ids: Iterable[str], event: object, now: float) -> None:
        """Leave the same letter for several rows, all or none."""
        doc, in_order = self._events.dump(event), sorted(ids)

        async def work() -> None:
            async with self._db.write() as tx:
                # Whoever locks several rows does so in the order of their ids: no two wait for each other.
                for id in in_order:
                    await self._leave(tx, id, doc, now)

        await settle(work)

    async def _leave(self, tx: Transaction, id: str, doc: str, now: float) -> int:
        # First of all, since it locks the row: letters to it are then numbered in the order they come in.
        await tx.change(self._sql.rest, id=id, due=now, now=now)
        return await tx.number(self._sql.post, entity=self.noun, entity_id=id, posted_at=now, doc=doc)

    async def heeded(self, letter: int) -> bool:
        """Whether a letter has been read, and what followed from it is on record."""
        async with self._db.read() as tx:
            return await tx.first(_LETTER, number=letter) is None

    async def standing(self, id: str) -> tuple[object, ...]:
        """Orders of the row that are given and whose outcome is not on record yet, in their order."""
        async with self._db.read() as tx:
            return tuple(self._orders.load(doc) for _, doc in (await self._texts(tx, self._sql.all_orders, [id]))[id])

    async def break_leases(self) -> None:
        """Let go of every row. Only for a store that one process owns alone, before it starts to work."""
        async with self._db.write() as tx:
            await tx.change(self._sql.break_leases)

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _letters(self, tx: Transaction, id: str) -> tuple[Letter, ...]:
        rows = await tx.all(self._sql.letters, id=id)
        return tuple(Letter(number, self._events.load(doc)) for number, doc in rows)

    async def _give(self, tx: Transaction, entity: E, orders: Sequence[object]) -> tuple[StandingOrder, ...]:
        given = []
        for position, order in enumerate(orders):
            key = f"{self.noun}:{entity.id}:{entity.version}:{position}"
            await tx.change(
                self._sql.give,
                key=key,
                entity=self.noun,
                entity_id=entity.id,
                position=position,
                doc=self._orders.dump(order),
            )
            given.append(StandingOrder(key, order))
        return tuple(given)

    async def _tell(self, tx: Transaction, entity: E, now: float, kind: str, before: str, text: str) -> None:
        await tx.number(
            self._sql.tell,
            time=now,
            entity=self.noun,
            entity_id=entity.id,
            name=self.label(entity)[:LONGEST_NAME],
            kind=kind,
            before=before,
            after=self.status(entity),
            text=text,
        )


_KNOWN = Prepared(select(VALUES.c.value).where(VALUES.c.key == bindparam("once")))
_NOTE = Prepared(insert(VALUES))
_LETTER = Prepared(select(LETTERS.c.id).where(LETTERS.c.id == bindparam("number")))


class _Sql:
    """The statements of one noun's table, built once.

    `due_free` locks what it finds and passes over what others have locked; on SQLite, where one writes at a time, the
    lock is the transaction itself.
    """

    def __init__(self, table: Table, noun: str, first: ColumnElement[Any] | None) -> None:
        t, id, held = table, table.c.id == bindparam("id"), table.c.token == bindparam("held_token")
        mine, ours = LETTERS.c.entity == noun, ORDERS.c.entity == noun
        due = select(t.c.id).where(t.c.due_at <= Now(), t.c.lease_until <= Now())
        due = due.order_by(*() if first is None else (first,), t.c.due_at).limit(bindparam("most"))
        guarded = (t.c.id == bindparam("held_id"), held, t.c.version == bindparam("held_version"))
        open_names = {column.name for column in t.c} - {"token", "lease_until", "due_at"}
        filled: dict[str, Any] = {name: bindparam(name) for name in open_names}
        self._table, self._guarded, self._writes = t, guarded, dict[tuple[tuple[str, ...], bool], Prepared]()
        self.get = Prepared(select(t.c.doc).where(id))
        self.docs = Prepared(select(t.c.id, t.c.doc).where(Among(t.c.id, "ids")))
        self.page = Prepared(
            select(t.c.id, t.c.version, t.c.doc)
            .where(t.c.id > bindparam("later"))
            .order_by(t.c.id)
            .limit(bindparam("most"))
        )
        self.rewrite = Prepared(update(t).where(guarded[0], guarded[2]).values(doc=bindparam("doc")))
        # Whatever is due and held becomes free when its lease runs out.
        free_at = case((t.c.lease_until > t.c.due_at, t.c.lease_until), else_=t.c.due_at)
        self.due_in = Prepared(select(func.min(free_at) - Now()).where(t.c.due_at <= At("horizon")))
        self.due_free = Prepared(due.with_for_update(skip_locked=True))
        self.hold = Prepared(
            update(t).where(Among(t.c.id, "ids")).values(token=bindparam("token"), lease_until=At("until"))
        )
        self.held = Prepared(
            select(t.c.id).where(Among(t.c.id, "ids"), Among(t.c.token, "tokens")).order_by(t.c.id).with_for_update()
        )
        self.renew = Prepared(update(t).where(Among(t.c.id, "ids")).values(lease_until=At("until")))
        self.release = Prepared(update(t).where(id, held).values(lease_until=0, token=None))
        self.break_leases = Prepared(update(t).values(lease_until=0, token=None))
        self.mine = Prepared(select(t.c.version).where(*guarded).with_for_update())
        self.rest = Prepared(update(t).where(id).values(due_at=At("due")))
        self.insert = Prepared(insert(t).values(due_at=Now(), token=None, lease_until=0, **filled))
        self.insert_at_rest = Prepared(insert(t).values(due_at=None, token=None, lease_until=0, **filled))
        of_one = LETTERS.c.entity_id == bindparam("id")
        self.letters = Prepared(select(LETTERS.c.id, LETTERS.c.doc).where(mine, of_one).order_by(LETTERS.c.id))
        self.all_letters = Prepared(
            select(LETTERS.c.entity_id, LETTERS.c.id, LETTERS.c.doc)
            .where(mine, Among(LETTERS.c.entity_id, "ids"))
            .order_by(LETTERS.c.id)
        )
        self.all_orders = Prepared(
            select(ORDERS.c.entity_id, ORDERS.c.key, ORDERS.c.doc)
            .where(ours, Among(ORDERS.c.entity_id, "ids"))
            .order_by(ORDERS.c.position)
        )
        self.lettered = Prepared(select(LETTERS.c.entity_id).where(mine, Among(LETTERS.c.entity_id, "ids")))
        self.post = Prepared(insert(LETTERS).values({c.name: bindparam(c.name) for c in LETTERS.c if c.name != "id"}))
        self.read_letter = Prepared(delete(LETTERS).where(LETTERS.c.id == bindparam("number")))
        self.give = Prepared(insert(ORDERS))
        self.order_done = Prepared(delete(ORDERS).where(ORDERS.c.key == bindparam("order_key")))
        self.forget_orders = Prepared(delete(ORDERS).where(ours, ORDERS.c.entity_id == bindparam("id")))
        self.tell = Prepared(insert(STORIES).values({c.name: bindparam(c.name) for c in STORIES.c if c.name != "seq"}))

    def write(self, names: tuple[str, ...], *, rests: bool) -> Prepared:
        """Another version, with these columns; with `rests` the row is let go and due at the time `due`."""
        found = self._writes.get((names, rests))
        if found is None:
            given: dict[str, Any] = {name: bindparam(name) for name in ("version", "doc", *names)}
            freed: dict[str, Any] = {"due_at": At("due"), "lease_until": 0, "token": None} if rests else {}
            made = update(self._table).where(*self._guarded).values(**given, **freed)
            found = self._writes[names, rests] = Prepared(made)
        return found


@cache
def _statements(table: Table, noun: str, first: ColumnElement[Any] | None) -> _Sql:
    """Of one noun, for every store of this process: to compile them takes longer than to open a store."""
    return _Sql(table, noun, first)
