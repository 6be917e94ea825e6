"""The one loop, the same for every noun: claim → load → step → commit → act, and the outcome is the next event.

`plane` runs one `Driver` per noun. A driver never holds a store transaction while it acts; what it is about to do is
on record before it does it, so that whoever claims the row after a crash goes on from there.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from sky.core.lifecycle.machine import BrokenRule, Step, Table, UnexpectedEvent
from sky.core.ports import Claim, LeaseLost, Rows, StandingOrder
from sky.engine.rounds import Pace
from sky.kit.clock import Clock
from sky.kit.current import REQUEST
from sky.kit.frozen import replace
from sky.kit.signals import Signal, Signals
from sky.kit.tracing import TRACING, span

log = logging.getLogger(__name__)

E = TypeVar("E")

#: The span that a row's work belongs to; empty for work that nobody waits for.
TraceOf = Callable[[object], Awaitable[str]]

#: A lease holds this long without being renewed, in seconds; each third of that all that are held are renewed together.
#: With the look for rows that nobody notifies, what a dead server held is taken over within 15.
LEASE_S = 12.0
#: Seconds after which whoever waits for an act looks up unasked. Letters are looked for when leases are renewed.
_LOOK_UP_S = 60.0
#: Without a wake-up, rows that became due are looked for this often, in seconds: where wake-ups do not all arrive, and
#: where they do. What becomes due by itself meanwhile is known beforehand.
POLL_S, _CALM_S = 1.0, 5.0
#: So much later than a row is due it is looked for, lest it be missed by a rounding.
_A_LITTLE_S = 0.001
#: Rows that are claimed at a time. On SQLite each is driven to its first wait in one go, so calls wait for all of them.
_BATCH = 8
#: Times that a letter, or what came of an order, is read which no rule accepts, once per lease, before it is set aside.
_MOST_READINGS = 3
#: How the line of a story begins that tells of such a letter.
SET_ASIDE = "set aside, since it cannot be acted upon"
#: With so many rows held, claims are so many seconds apart: they come in numbers then, and one claim takes several.
_MANY, _APART_S = 32, 0.01
#: Steps of a noun in one round of the event loop: between rounds calls are answered.
_STEPS = 16
#: Pause after a claim that failed.
_AFTER_TROUBLE_S = 5.0


class Noun(Protocol[E]):
    """What a driver needs to know of its noun."""

    name: str
    rows: Rows[E]
    table: Table[E]

    def id_of(self, entity: E) -> str: ...

    def due_at(self, entity: E, now: float) -> float | None:
        """When to look again unasked."""
        ...

    def due_event(self) -> object | None:
        """The event that says that it is time to look; None if this noun has none."""
        ...

    async def glance(self, entity: E, order: object) -> object | None:
        """The outcome of an order that only reads what is on record, where it can be told at once; else None.

        Such an order has no effect that would have to be on record before.
        """
        ...

    async def act(self, entity: E, key: str, order: object) -> object:
        """Carry out an order; the outcome, good or bad, is an event. Repeating with the same key is harmless."""
        ...

    def crashed(self, order: object, error: Exception) -> object:
        """The event for an order whose handling raised what nobody foresaw."""
        ...

    def before_order(self, entity: E, order: object) -> object | None:
        """An event to record before an order is acted on for the first time under this claim; None for nothing."""
        ...

    def put_down(self, entity: E) -> object | None:
        """An event to record when the driver stops in good order in the middle of the work; None for nothing."""
        ...

    def committed(self, before: E, after: E) -> None:
        """Called after each commit; may notify, must not wait."""
        ...


class Driver(Generic[E]):
    """Drives all rows of one noun, up to `concurrency` at a time."""

    def __init__(
        self,
        noun: Noun[E],
        clock: Clock,
        signals: Signals,
        *,
        holder: str,
        concurrency: int,
        trace_of: TraceOf | None = None,
    ) -> None:
        """`trace_of` finds the span that a row's work is part of, where there is one."""
        self._noun = noun
        self._trace_of = trace_of
        self._clock = clock
        self._signals = signals
        self._holder = holder
        self._concurrency = concurrency
        #: The rows that are driven now, by their ids.
        self._running: dict[str, asyncio.Task[None]] = {}
        #: The tokens that they are held with, and who renews their leases. Those that turned out to be lost.
        self._tokens: dict[str, str] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._lost: set[str] = set()
        self._count = 0
        self._pace = Pace(_STEPS)
        #: How often letters could not be read, by their numbers.
        self._misread: dict[int, int] = {}
        #: How often what came of orders could not be read, by their keys.
        self._misdone: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The noun's name."""
        return self._noun.name

    @property
    def held(self) -> int:
        """Rows that are driven now."""
        return len(self._running)

    async def run(self) -> None:
        """Claim and drive until cancelled; then let go of what is held, unfinished orders stay on record."""
        try:
            with self._signals.watch(f"work:{self._noun.name}") as wake:
                while True:
                    try:
                        pause = await self._take()
                    except Exception:  # a full disk, say: the rows are safe, and the loop must outlive it
                        log.exception("%s: nothing can be claimed just now", self._noun.name)
                        await self._clock.sleep(_AFTER_TROUBLE_S)
                        continue
                    if len(self._running) >= _MANY:
                        await self._clock.sleep(_APART_S)
                    await wake.changed(pause)
        finally:
            left = list(self._running.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.gather(self._keeper, return_exceptions=True)

    async def _take(self) -> float:
        """Drive what is due; seconds after which to look again, unless woken."""
        room = self._concurrency - len(self._running)
        if room <= 0:
            # A full house waits for a place: `_ended` rings the bell.
            return POLL_S
        left = await self._noun.rows.due_in(self._clock.now(), _CALM_S if self._signals.hears_all else POLL_S)
        if left > 0:
            return left + _A_LITTLE_S
        self._count += 1
        token = f"{self._holder}-{self._count}"
        claims = await self._noun.rows.claim(
            self._clock.now(), LEASE_S, token, min(room, _BATCH), but_not=self._running
        )
        for claim in claims:
            id = self._noun.id_of(claim.entity)
            task = asyncio.create_task(self._drive(claim), name=f"{self._noun.name} {id}")
            self._running[id], self._tokens[id] = task, token
            task.add_done_callback(partial(self._ended, id))
        if claims and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._hold_on(), name=f"leases of {self._noun.name}")
        return 0.0 if claims and len(self._running) < self._concurrency else POLL_S

    def _ended(self, id: str, task: asyncio.Task[None]) -> None:
        del self._running[id], self._tokens[id]
        self._lost.discard(id)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: driving failed; its lease will pass on", task.get_name(), exc_info=error)
        self._signals.ring(f"work:{self._noun.name}")

    async def _hold_on(self) -> None:
        """Renew all leases together, for as long as there are any; wake those that are lost or have letters."""
        noun = self._noun
        while True:
            await self._clock.sleep(LEASE_S / 3)
            held = dict(self._tokens)
            if not held:
                return
            try:
                kept = await noun.rows.renew(held, self._clock.now(), LEASE_S)
            except Exception:  # whatever it is, nobody may work on who is not sure to be the only one
                log.exception("%s: leases cannot be renewed", noun.name)
                kept = {}
            # One that was let go meanwhile, and perhaps taken again, is not lost.
            for id in [id for id, token in held.items() if self._tokens.get(id) == token]:
                if id not in kept:
                    self._lost.add(id)
                if kept.get(id, True):
                    self._signals.ring(f"letter:{noun.name}:{id}")

    async def _drive(self, claim: Claim[E]) -> None:
        noun = self._noun
        # The task is this row's alone, so it need not be set back.
        REQUEST.set(getattr(claim.entity, "request_id", None) or noun.id_of(claim.entity))
        try:
            if not claim.letters and not claim.orders:
                event = noun.due_event()
                if event is not None:
                    claim = await self._apply(claim, event)
            while claim.letters or claim.orders:
                if claim.letters:
                    claim = await self._heed(claim)
                else:
                    claim = await self._carry_out(claim)
            if claim.expires:
                # There was nothing to do; a commit after which there is nothing has let go of the row by itself.
                await noun.rows.release(claim)
            TRACING.at_rest(noun.id_of(claim.entity))
        except LeaseLost as lost:
            log.info("lease lost: %s", lost)
        except asyncio.CancelledError:
            await self._put_down(claim)
            await noun.rows.release(claim)
            raise

    async def _put_down(self, claim: Claim[E]) -> None:
        """Record that the work stops in good order; the row may have moved on since `claim`, under the same lease."""
        entity = await self._noun.rows.get(self._noun.id_of(claim.entity))
        event = None if entity is None else self._noun.put_down(entity)
        if entity is not None and event is not None:
            with contextlib.suppress(LeaseLost):
                await self._apply(replace(claim, entity=entity), event)

    async def _heed(self, claim: Claim[E]) -> Claim[E]:
        """Read the first letter. One that no rule accepts is set aside in the end, so that it holds up no other."""
        letter = claim.letters[0]
        try:
            step = self._noun.table.step(claim.entity, letter.event, self._clock.now())
        except Exception as error:  # a rule may break on what nobody foresaw; the row must not stand still for it
            tries = self._misread[letter.id] = self._misread.get(letter.id, 0) + 1
            if tries < _MOST_READINGS:
                raise
            del self._misread[letter.id]
            step = Step(claim.entity, None, _set_aside(letter.event, error))
            log.exception(
                "%s %s: the letter %d is set aside after %d readings; `sky events` keeps it: %r",
                self._noun.name, self._noun.id_of(claim.entity), letter.id, tries, letter.event,
            )  # fmt: skip
        step, event = await self._looked(claim, step, letter.event)
        return await self._record(claim, step, event, letters=(letter.id,))

    async def _apply(self, claim: Claim[E], event: object) -> Claim[E]:
        step = self._noun.table.step(claim.entity, event, self._clock.now())
        return await self._record(claim, *await self._looked(claim, step, event))

    async def _looked(self, claim: Claim[E], step: Step[E], event: object) -> tuple[Step[E], object]:
        """Where all that follows is a look at what is on record: with what follows from that, as one step.

        Two steps that both have something to tell stay two.
        """
        if step.orders is None or len(step.orders) != 1:
            return step, event
        seen = await self._glance(step.entity, step.orders[0])
        if seen is None:
            return step, event
        try:
            found = self._noun.table.step(step.entity, seen, self._clock.now())
        except Exception:  # noqa: BLE001 - it comes again as the outcome of the order, which is given up in the end
            return step, event
        if step.text and found.text:
            return step, event
        both = replace(found, text=step.text or found.text, orders=() if found.orders is None else found.orders)
        return both, event if step.text else seen

    async def _glance(self, entity: E, order: object) -> object | None:
        try:
            return await self._noun.glance(entity, order)
        except Exception:  # the order will be carried out like any other, and what hinders it is an event then
            log.exception("%s: no glance at what is on record", self._noun.name)
            return None

    async def _record(
        self, claim: Claim[E], step: Step[E], event: object, *, letters: tuple[int, ...] = (), done: str | None = None
    ) -> Claim[E]:
        noun = self._noun
        await self._pace.turn()
        now = self._clock.now()
        parent = await self._parent(claim.entity)
        with span(f"{noun.name} {type(event).__name__}", parent=parent) as made:
            after = await noun.rows.commit(
                claim, step, event, now=now, due_at=noun.due_at(step.entity, now), letters=letters, done=done
            )
            if made is not None:
                made.note(**{f"sky.{noun.name}": noun.id_of(after.entity)}, orders=len(step.orders or ()))
        noun.committed(claim.entity, after.entity)
        return after

    async def _carry_out(self, claim: Claim[E]) -> Claim[E]:
        """Act on the first standing order; letters that arrive meanwhile are heeded at once and may call it off."""
        noun, order = self._noun, claim.orders[0]
        opening = noun.before_order(claim.entity, order.order)
        if opening is not None:
            claim = await self._apply(claim, opening)
            if order not in claim.orders:
                return claim
        if (seen := await self._glance(claim.entity, order.order)) is not None:
            return await self._conclude(claim, order, seen)
        with self._signals.watch(f"letter:{noun.name}:{noun.id_of(claim.entity)}") as mail:
            act = asyncio.create_task(self._act(claim.entity, order.key, order.order))
            act.add_done_callback(mail.wake)
            try:
                claim, standing = await self._attend(claim, order.key, act, mail)
                if not standing:
                    return claim
                return await self._conclude(claim, order, act.result())
            finally:
                await self._call_off(act)

    async def _conclude(self, claim: Claim[E], order: StandingOrder, event: object) -> Claim[E]:
        """Record what came of an order. If no rule accepts that, the order is not carried out for ever: in the end it
        counts as one that broke, and where that cannot be read either, it is set aside.
        """
        try:
            step = self._noun.table.step(claim.entity, event, self._clock.now())
        except Exception as error:  # as with letters: a rule may break on what nobody foresaw
            tries = self._misdone[order.key] = self._misdone.get(order.key, 0) + 1
            if tries < _MOST_READINGS:
                raise
            del self._misdone[order.key]
            step = self._instead(claim.entity, order.order, event, error)
            log.exception(
                "%s %s: the order %s is set aside, after %d times: %r",
                self._noun.name, self._noun.id_of(claim.entity), order.key, tries, event,
            )  # fmt: skip
        return await self._record(claim, *await self._looked(claim, step, event), done=order.key)

    def _instead(self, entity: E, order: object, event: object, error: Exception) -> Step[E]:
        """What follows from an order that is given up: what its noun says of one that broke, or nothing."""
        told = f"{type(order).__name__}: {_set_aside(event, error)}"
        try:
            # In our words alone: the error may have anything in its text.
            step = self._noun.table.step(entity, self._noun.crashed(order, RuntimeError(told)), self._clock.now())
        except Exception:  # nothing else is known to follow: the entity stays as it is, and whoever asks is told
            log.exception("%s %s: nothing follows from %s", self._noun.name, self._noun.id_of(entity), told)
            return Step(entity, None, told)
        return replace(step, text=f"{told}; {step.text}" if step.text else told)

    async def _call_off(self, act: "asyncio.Task[object]") -> None:
        """Wait for the end of what is called off, which may take its time; the row is held for as long."""
        act.cancel()
        while not act.done():
            await asyncio.wait((act,))
        if not act.cancelled():
            act.exception()  # looked at, so that nobody warns of it

    async def _attend(
        self, claim: Claim[E], key: str, act: "asyncio.Task[object]", mail: Signal
    ) -> tuple[Claim[E], bool]:
        """Wait for the act while reading letters; whether the order still stands."""
        noun, id = self._noun, self._noun.id_of(claim.entity)
        while True:
            rung = mail.taken() if act.done() else await mail.changed(_LOOK_UP_S)
            if id in self._lost:
                raise LeaseLost(f"{noun.name} {id}")
            if rung or not act.done():
                claim = await noun.rows.reload(claim)
            while claim.letters:
                claim = await self._heed(claim)
                if all(standing.key != key for standing in claim.orders):
                    return claim, False
            if act.done():
                return claim, True

    async def _act(self, entity: E, key: str, order: object) -> object:
        try:
            name = f"{self._noun.name} {type(order).__name__}"
            with span(name, parent=await self._parent(entity)) as made:
                if made is not None:
                    made.note(**_about(self._noun.name, self._noun.id_of(entity), entity))
                await self._pace.turn()
                return await self._noun.act(entity, key, order)
        except Exception as error:
            log.exception("%s: %s failed in an unforeseen way", self._noun.name, type(order).__name__)
            return self._noun.crashed(order, error)

    async def _parent(self, entity: E) -> str:
        """The span that work on this row belongs to; empty where none is recorded."""
        if not TRACING.on or self._trace_of is None:
            return ""
        return TRACING.awaited(self._noun.id_of(entity)) or await self._trace_of(entity)


def _about(noun: str, id: str, entity: object) -> dict[str, str]:
    """What a span says of its row: whose names are shown anyway, and nothing that was said to a task."""
    named = {"sky.user": getattr(entity, "user", ""), "sky.name": getattr(entity, "name", "") or ""}
    return {f"sky.{noun}": id, **named}


def _set_aside(event: object, error: Exception) -> str:
    """The line of the story. What else breaks may have anything in its text; that stays in the log."""
    why = str(error) if isinstance(error, UnexpectedEvent | BrokenRule) else f"{type(error).__name__}, see the log"
    return f"{SET_ASIDE}: {type(event).__name__}: {why}"
