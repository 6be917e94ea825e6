"""A bell that many coroutines may wait for: how the agent waits without polling.

Everything runs on one loop, so a caller that looks at the state and then waits, with no `await` between, misses
nothing.
"""

from __future__ import annotations

import asyncio
from typing import Optional, Set, Tuple


class Signal:
    """Wakes all who wait now; whoever comes later waits for the next firing."""

    def __init__(self) -> None:
        self._waiters: Set[asyncio.Future[bool]] = set()

    def fire(self) -> None:
        """Wake everyone who waits."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    async def wait(self, seconds: Optional[float] = None) -> bool:
        """Wait for the next firing, at most `seconds`; True if it fired."""
        return await wait_any((self,), seconds)

    def _enter(self, waiter: asyncio.Future[bool]) -> None:
        self._waiters.add(waiter)

    def _leave(self, waiter: asyncio.Future[bool]) -> None:
        self._waiters.discard(waiter)


async def wait_any(signals: Tuple[Signal, ...], seconds: Optional[float] = None) -> bool:
    """Wait until one of the signals fires, at most `seconds`; True if one did."""
    if seconds is not None and seconds <= 0:
        return False
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()
    for signal in signals:
        signal._enter(waiter)
    timer = loop.call_later(seconds, _give_up, waiter) if seconds is not None else None
    try:
        return await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for signal in signals:
            signal._leave(waiter)


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
