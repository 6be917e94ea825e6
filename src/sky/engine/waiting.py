"""Waiting for a recorded thing to reach a state: a wake-up when there is one, a look now and then all the same."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sky.kit.signals import Signals

T = TypeVar("T")

#: Seconds between looks without a wake-up: first, and at most, so that thousands who wait for long cost little. Where
#: wake-ups do not all arrive, the look is what news comes by.
_LOOK_S = (1.0, 10.0)
_LOOK_DEAF_S = (0.2, 1.0)


async def until(signals: Signals, topic: str, load: Callable[[], Awaitable[T]], settled: Callable[[T], bool]) -> T:
    """Load, until `settled` holds of what was loaded; then return that."""
    pause = (_LOOK_S if signals.hears_all else _LOOK_DEAF_S)[0]
    with signals.watch(topic) as change:
        while True:
            found = await load()
            if settled(found):
                return found
            if not await change.changed(pause):
                pause = min(pause * 2, (_LOOK_S if signals.hears_all else _LOOK_DEAF_S)[1])
