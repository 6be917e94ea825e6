"""Waiting for a recorded thing to reach a state: a wake-up when there is one, a look every second all the same."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sky.kit.signals import Signals

T = TypeVar("T")

_LOOK_S = 1.0


async def until(signals: Signals, topic: str, load: Callable[[], Awaitable[T]], settled: Callable[[T], bool]) -> T:
    """Load, until `settled` holds of what was loaded; then return that."""
    with signals.watch(topic) as change:
        while True:
            found = await load()
            if settled(found):
                return found
            await change.changed(_LOOK_S)
