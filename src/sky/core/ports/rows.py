"""Leased rows, the same for every noun: claimed by one driver at a time, written only by who still holds them.

The nouns' own questions are in `store` and its neighbours. Adapter: `store.leases`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sky.core.lifecycle.machine import Step

E = TypeVar("E")


class LeaseLost(Exception):
    """The row was committed by somebody else since it was claimed; whatever was decided on it is void."""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event posted to an entity from outside its own loop, in order of arrival."""

    id: int
    event: object


@dataclass(frozen=True, slots=True)
class StandingOrder:
    """An order on record whose outcome is not; `key` is the same at every repeat."""

    key: str
    order: object


@dataclass(frozen=True, slots=True)
class Claim(Generic[E]):
    """A row held under a lease: nobody else is given it until `expires` (by the clock of who claimed it).

    After a commit that leaves neither orders nor letters it is held no more; `expires` is 0 then.
    """

    entity: E
    token: str
    expires: float
    orders: tuple[StandingOrder, ...] = ()
    letters: tuple[Letter, ...] = ()


class Rows(Protocol[E]):
    """Leased rows of one noun.

    `now` is always the caller's clock. Where several servers share a store, leases and due times are kept by the clock
    of the store: what callers say is only measured against their own `now`, so their clocks may differ.
    """

    async def get(self, id: str) -> E | None: ...

    async def claim(
        self, now: float, lease_s: float, token: str, limit: int, *, but_not: Collection[str] = ()
    ) -> list[Claim[E]]:
        """Rows that are due, have letters or standing orders, and that nobody holds.

        `but_not` are those that the caller is busy with: after a jump of the clock their leases seem to have run out.
        """
        ...

    async def due_in(self, now: float, within: float) -> float:
        """Seconds until the next row is due and nobody's, if nothing is written meanwhile; at most `within`.

        Not above 0 if one is just now; a row whose lease has run out is one also for who is busy with it.
        """
        ...

    async def reload(self, claim: Claim[E]) -> Claim[E]:
        """The same claim with the letters that have arrived since."""
        ...

    async def renew(self, held: Mapping[str, str], now: float, lease_s: float) -> Mapping[str, bool]:
        """Hold on to rows, given by id with the token of their claim, until `lease_s` from now.

        Those that are held still, each with whether letters wait for it; what is left out is lost.
        """
        ...

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
        """Write entity, version + 1, the event and the orders in one transaction; consume letters and the done order.

        Where no order stands and no letter waits after it, the row is let go as well.
        Guarded by token and version: raises LeaseLost if the row has moved on.
        """
        ...

    async def release(self, claim: Claim[E]) -> None:
        """Let go of the row; harmless if it is lost already."""
        ...

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int:
        """Leave a letter, under the name `once` at most once; the row becomes claimable. The letter's number."""
        ...

    async def post_all(self, ids: Iterable[str], event: object, now: float) -> None:
        """Leave the same letter for several rows, all or none."""
        ...

    async def heeded(self, letter: int) -> bool:
        """Whether a letter has been read, and what followed from it is on record."""
        ...

    async def standing(self, id: str) -> tuple[object, ...]:
        """Orders of the row that are given and whose outcome is not on record yet, in their order."""
        ...
