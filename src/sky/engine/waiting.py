"""Waiting for recorded things to change: a wake-up when there is one, a look now and then all the same."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from sky.kit.clock import Clock
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Called with the names of whom to look at; None for everybody.
Look = Callable[[Collection[str] | None], Awaitable[None]]

#: Seconds between looks at everybody.
_ALL_S = 5.0
#: Looks take a fiftieth of our time at most, however many there are to look at; but what was slow once, as a machine is
#: that was suspended in the midst of it, is not left alone for longer than these seconds.
_TIMES, _MOST_S = 50.0, 30.0
#: Seconds that changes wait for one another at most.
_TOGETHER_S = 0.2

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


def apart(least: float, spent: float) -> float:
    """Seconds until what took `spent` seconds is done again: `least`, or more where it would take much of our time."""
    return max(least, min(_TIMES * spent, _MOST_S))


async def keep_up(signals: Signals, family: str, look: Look, clock: Clock) -> None:
    """Look at those whose topics (`family:NAME`) change, soon, and now and then at everybody; until cancelled."""
    loop = asyncio.get_running_loop()
    all_at = loop.time()
    with signals.names(family) as news:
        while True:
            begun = loop.time()
            whose = news.whose()
            if begun >= all_at:
                whose = None
            try:
                await look(whose)
            except Exception:  # a full disk, say: the next look may do better, and none may be the last
                log.exception("%s: cannot look just now", family)
                # Whom it was to be at is known no more.
                all_at = 0.0
                await clock.sleep(_ALL_S)
                continue
            ended = loop.time()
            spent = ended - begun
            if whose is None:
                all_at = ended + apart(_ALL_S, spent)
            await news.changed(max(0.0, all_at - ended))
            # What comes alone is looked at where it comes; of many that come at once, most wait for one look.
            await clock.sleep(max(0.0, ended + min(_TOGETHER_S, apart(0.0, spent)) - loop.time()))
