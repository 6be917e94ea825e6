"""Whose request is worked on next, where there are more than are worked on at a time.

`requests` takes a turn before it carries a request out. What lasts (launches, starts) waits in a lane of its own, so
that what is short never waits behind it. Within the lane whoever has the fewest under way goes first, and nobody has
all of it: so many launches of one user do not hold up the first one of another. One begins at a time, since to plan it
takes milliseconds in one go: between two of them, calls are answered and whoever came meanwhile is looked at.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sky.core.model.requests import LASTING


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests that last are worked on at a time, how many of one user, and how many may be on record."""

    at_once: int = 2000
    per_user: int = 1600
    on_record: int = 20_000


def limits_of(section: Mapping[str, object]) -> Limits:
    """What `api_server` in the configuration says; `per_user` is four fifths of all, unless it is said."""
    usual = Limits()
    at_once = _number(section.get("launches_at_once"), usual.at_once)
    return Limits(
        at_once,
        min(at_once, _number(section.get("launches_per_user"), max(1, at_once * 4 // 5))),
        _number(section.get("launches_on_record"), usual.on_record),
    )


def _number(said: object, usual: int) -> int:
    return int(said) if isinstance(said, int | float) and said >= 1 else usual


class Turns:
    """See the module. `limits` are asked each time, so that a changed configuration counts at once."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        self._busy: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        #: Whether the next one is given its turn in the next round of the event loop.
        self._giving = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, name: str, user: str, wait: Callable[[], None]) -> AsyncIterator[None]:
        """Held while a request is worked on; `wait` is called if that cannot begin at once."""
        if name not in LASTING:
            yield
            return
        await self._begin(user, wait)
        try:
            yield
        finally:
            self._end(user)

    async def _begin(self, user: str, wait: Callable[[], None]) -> None:
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(bell)
        self._give()
        if bell.done():
            return
        limits, ahead = self._limits(), len(self._waiting.get(user, ()))
        if self._busy.total() + self.waiting > limits.at_once or self._busy[user] + ahead > limits.per_user:
            wait()
        try:
            await bell
        except asyncio.CancelledError:
            if bell.done() and not bell.cancelled():
                # Given in the very moment in which it was called off.
                self._end(user)
            else:
                self._forget(user, bell)
            raise

    def _end(self, user: str) -> None:
        self._busy[user] -= 1
        if not self._busy[user]:
            del self._busy[user]
        self._give()

    def _give(self) -> None:
        """Give a free turn to a user with the fewest; of equals to whom has waited longer since the last."""
        limits = self._limits()
        while not self._giving and self._busy.total() < limits.at_once:
            free = [user for user in self._waiting if self._busy[user] < limits.per_user]
            if not free:
                return
            user = min(free, key=lambda each: self._busy[each])
            bell = self._waiting[user].popleft()
            self._waiting.move_to_end(user)
            if not self._waiting[user]:
                del self._waiting[user]
            # One that was called off just now is still in the queue.
            if not bell.cancelled():
                self._busy[user] += 1
                bell.set_result(None)
                self._giving = True
                asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._giving = False
        self._give()

    def _forget(self, user: str, bell: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(user)
        if waiting is not None and bell in waiting:
            waiting.remove(bell)
            if not waiting:
                del self._waiting[user]
