"""What the repositories of this room ask of a database; `sqlite` and `postgres` have the two there are.

A block's body awaits nothing but the transaction's own methods: on SQLite these never let another coroutine run, so
the block is one step there; on PostgreSQL it holds one of few connections.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from sqlalchemy import ClauseElement

from sky.store.statements import Prepared

T = TypeVar("T")

#: One that is built for the occasion is compiled each time: a third of a millisecond, so for rare ones only.
Statement = Prepared | ClauseElement

#: How often a write that met another one's row is tried again.
_TRIES = 10


class Conflict(Exception):
    """A row of this key was written by somebody else in this very moment; nothing of the transaction is on record."""


class Transaction(Protocol):
    """Statements run in it. `values` are the statement's parameters by name."""

    async def all(self, statement: Statement, **values: Any) -> Sequence[Sequence[Any]]:
        """Every row."""
        ...

    async def first(self, statement: Statement, **values: Any) -> Sequence[Any] | None:
        """The first row."""
        ...

    async def scalar(self, statement: Statement, **values: Any) -> Any:
        """The first column of the first row; None where there is no row."""
        ...

    async def change(self, statement: Statement, **values: Any) -> int:
        """How many rows were written. Raises Conflict."""
        ...

    async def number(self, statement: Statement, **values: Any) -> int:
        """Insert one row whose key the database counts up; its key. Raises Conflict."""
        ...


class Database(Protocol):
    """Transactions on one connection each. Entering and leaving may raise ServerTemporarilyUnavailableError."""

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """Committed at the end of the block; nothing of it is on record if the block raises."""
        ...

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """For questions. Each statement sees what was committed before it, and perhaps not the same as the last."""
        ...


async def settle(work: Callable[[], Awaitable[T]]) -> T:
    """Do a write anew when it met another one's row: the second time it sees that row."""
    for _ in range(_TRIES):
        try:
            return await work()
        except Conflict:
            continue
    return await work()
