"""Leaves letters for rows and wakes whoever drives them; used by request handlers, the watchers and the sweep."""

from typing import Protocol

from sky.kit.clock import Clock
from sky.kit.signals import Signals
from sky.kit.tracing import TRACING


class Mailbox(Protocol):
    """Rows that take letters."""

    async def post(self, id: str, event: object, now: float, *, once: str | None = None) -> int: ...


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
