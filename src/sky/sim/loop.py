"""An event loop whose clock is set by hand: time jumps to the next thing that is due, and nothing happens by chance.

`world` runs the control plane on it. There are no sockets, no threads and no signals here: whatever a program does on
this loop depends on its code and its seed alone, so that a run can be repeated byte for byte.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: What the clock on the wall of every world shows when it begins, in seconds since the epoch.
EPOCH = 1_800_000_000.0


class Deadlock(Exception):
    """Everybody waits for somebody else: nothing is ready, and nothing will ever be due."""


class Livelock(Exception):
    """The loop goes round and round and comes to no end."""


class SimLoop(asyncio.BaseEventLoop):
    """See the module. `time` counts seconds from 0; `steps` how often the loop has gone round, at most `most`."""

    def __init__(self, most: int = 40_000) -> None:
        super().__init__()
        self._most = most
        self._elapsed = 0.0
        self._selector = _Leap(self)
        self._clock_resolution = 1e-9
        self.steps = 0
        #: Called before each round; whoever wants to strike at an odd moment does it from here.
        self.each_round: Callable[[int], None] | None = None

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._elapsed

    def leap(self) -> None:
        """Go to the time at which the next thing is due. Raises Deadlock when nothing is."""
        due: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not due:
            raise Deadlock("nothing is ready, and nothing will ever be due")
        self._elapsed = max(self._elapsed, due[0].when())

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """Do it now: there are no threads in this world."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits it
            done.set_exception(error)
        return done

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self._most:
            raise Livelock(f"{self._most} rounds, and no end")
        if self.each_round is not None:
            self.each_round(self.steps)
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: object) -> None:
        """No sockets, no events."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call here."""


class _Leap:
    """Where a loop of the operating system would wait."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None or timeout > 0:
            self._loop.leap()
        return []


class SimClock:
    """See `kit.clock.Clock`: the loop's time on a wall, `skew` seconds off."""

    def __init__(self, loop: SimLoop, skew: float = 0.0) -> None:
        self._loop = loop
        self.skew = skew

    def now(self) -> float:
        """Seconds since the epoch, as this clock shows them."""
        return EPOCH + self._loop.time() + self.skew

    async def sleep(self, seconds: float) -> None:
        """Wait; a clock that is set meanwhile changes nothing about how long."""
        await asyncio.sleep(max(0.0, seconds))


def run(main: Callable[[SimLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on a loop of its own. Raises what it raises, Deadlock or Livelock."""
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
