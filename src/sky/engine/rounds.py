"""So many steps per round of the event loop and no more: calls are answered between them, whatever is under way.

A round runs everything that is ready. Where a thousand rows become ready at once, whoever asks how things are would
wait for all of them; so `work.Driver` takes a turn before each step that takes a millisecond in one go.
"""

import asyncio
from collections import deque


class Pace:
    """See the module. Loop-bound: use from one event loop only."""

    def __init__(self, most: int) -> None:
        """At most `most` turns per round."""
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rounds = False

    async def turn(self) -> None:
        """Return when there is room; first come, first served."""
        if not self._rounds:
            self._rounds = True
            asyncio.get_running_loop().call_soon(self._round)
        if self._left and not self._waiting:
            self._left -= 1
            return
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(bell)
        await bell

    def _round(self) -> None:
        idle, self._left = self._left == self._most, self._most
        while self._left and self._waiting:
            bell = self._waiting.popleft()
            # One that waits no more is still in the queue.
            if not bell.done():
                self._left -= 1
                bell.set_result(None)
        self._rounds = not idle or self._left < self._most
        if self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
