"""The clock as an argument: the engine and the server are given one, tests give a hand-set one."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time and waiting. All times are seconds since the epoch, as floats."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; zero or less yields once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
