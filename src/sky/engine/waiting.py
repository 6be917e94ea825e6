"""Waiting for a recorded thing to reach a state: a wake-up when there is one, a look now and then all the same."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sky.kit.signals import Signals

T = TypeVar("T")

#: Seconds between looks without a wake-up: first, and at most, so that thousands who wait for long cost little.
_LOOK_S = (1.0, 10.0)


async def until(signals: Signals, topic: str, load: Callable[[], Awaitable[T]], settled: Callable[[T], bool]) -> T:
    """Load, until `settled` holds of what was loaded; then return that."""
    pause, most = _LOOK_S
    with signals.watch(topic) as change:
        while True:
            found = await load()
            if settled(found):
                return found
            if not await change.changed(pause):
                pause = min(pause * 2, most)
