"""An event loop whose clock is set by hand: time jumps to the next thing that is due, and nothing happens by chance.

`world` runs the control plane on it. There are no sockets, no threads and no signals here: whatever a program does on
this loop depends on its code and its seed alone, so that a run can be repeated byte for byte.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

#: What the clock on the wall of every world shows when it begins, in seconds since the epoch.
EPOCH = 1_800_000_000.0


class Deadlock(Exception):
    """Everybody waits for somebody else: nothing is ready, and nothing will ever be due."""


class Livelock(Exception):
    """The loop goes round and round and comes to no end."""


class SimLoop(asyncio.BaseEventLoop):
    """See the module. `time` counts seconds from 0; `steps` how often the loop has gone round, at most `most`.

    The rounds are its own: half of what a world costs would otherwise go into selectors and checks that it has no use
    for. What is due at the same time happens in the order in which it was asked for.
    """

    def __init__(self, most: int = 40_000) -> None:
        super().__init__()
        self._most = most
        self._elapsed = 0.0
        self._soon: deque[_Due] = deque()
        self._later: list[tuple[float, int, _Due]] = []
        self._asked = 0
        self.steps = 0
        #: Called before each round; whoever wants to strike at an odd moment does it from here.
        self.each_round: Callable[[int], None] | None = None

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._elapsed

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> "_Due":  # type: ignore[override]
        """In the next round."""
        due = _Due(0.0, callback, args, context)
        self._soon.append(due)
        return due

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> "_Due":  # type: ignore[override]
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> "_Due":
        """At a time of this loop's clock."""
        due = _Due(when, callback, args, context)
        self._asked += 1
        heappush(self._later, (when, self._asked, due))
        return due

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> "_Due":
        """After so many seconds."""
        return self.call_at(self._elapsed + delay, callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """Do it now: there are no threads in this world."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits it
            done.set_exception(error)
        return done

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self._most:
            raise Livelock(f"{self._most} rounds, and no end")
        if self.each_round is not None:
            self.each_round(self.steps)
        self._leap()
        soon = self._soon
        for _ in range(len(soon)):
            due = soon.popleft()
            if due.off:
                continue
            try:
                due.context.run(due.callback, *due.given)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as every loop does with what nobody awaits
                self.call_exception_handler({"message": f"in {due.callback}", "exception": error})

    def _leap(self) -> None:
        """Go to the time at which the next thing is due, unless something is ready. Raises Deadlock if nothing is."""
        later, soon = self._later, self._soon
        while later and later[0][2].off:
            heappop(later)
        if not soon:
            if not later:
                raise Deadlock("nothing is ready, and nothing will ever be due")
            self._elapsed = max(self._elapsed, later[0][0])
        while later and later[0][0] <= self._elapsed:
            soon.append(heappop(later)[2])

    def _process_events(self, event_list: object) -> None:
        """No sockets, no events."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call here."""


class _Due(asyncio.TimerHandle):
    """What is to be called: the handle that tasks and timeouts are given, with nothing in it that is not needed."""

    __slots__ = ("at", "callback", "context", "given", "off")

    def __init__(self, at: float, callback: Any, given: tuple[Any, ...], context: Context | None) -> None:
        self.at = at
        self.callback = callback
        self.given = given
        self.context = copy_context() if context is None else context
        self.off = False

    def cancel(self) -> None:
        """It is passed over when its time has come."""
        self.off, self.callback, self.given = True, None, ()

    def cancelled(self) -> bool:
        return self.off

    def when(self) -> float:
        return self.at

    def __repr__(self) -> str:
        return f"<{self.callback} at {self.at}>"


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
