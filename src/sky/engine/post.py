"""Leaves letters for rows and wakes whoever drives them; used by request handlers, the watchers and the sweep."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sky.kit.clock import Clock
from sky.kit.signals import Signals
from sky.kit.tracing import TRACING

#: Letters of one transaction: each holds up whoever writes.
_TOGETHER = 50


class Mailbox(Protocol):
    """Rows that take letters."""

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int: ...

    async def post_all(self, ids: Iterable[str], event: object, now: float) -> None: ...


class Post:
    """Posting to any noun: on record first, then a wake-up."""

    def __init__(self, clock: Clock, signals: Signals) -> None:
        self._clock = clock
        self._signals = signals

    async def send(self, noun: str, rows: Mailbox, id: str, event: object, *, once: str | None = None) -> int:
        """Leave `event` for the row `id`; the letter's number. Under the name `once` it is left only once."""
        TRACING.hand_over(id)
        number = await rows.post(id, event, self._clock.now(), once=once)
        self._signals.notify(f"letter:{noun}:{id}")
        self._signals.notify(f"work:{noun}")
        return number

    async def send_all(self, noun: str, rows: Mailbox, ids: Sequence[str], event: object) -> None:
        """Leave the same for several rows, some at a time."""
        for first in range(0, len(ids), _TOGETHER):
            some = ids[first : first + _TOGETHER]
            for id in some:
                TRACING.hand_over(id)
            await rows.post_all(some, event, self._clock.now())
            for id in some:
                self._signals.notify(f"letter:{noun}:{id}")
            self._signals.notify(f"work:{noun}")
