"""Wake-ups: topics with counters, so that a change between two looks is never missed.

Inside one process, unless somebody joins who carries them to others and back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable


class Signals:
    """Notify and watch topics (strings). Loop-bound: use from one event loop only."""

    def __init__(self) -> None:
        # In order of arrival, so that what happens is the same each time the same things happen.
        self._watches: defaultdict[str, dict[Signal, None]] = defaultdict(dict)
        self._outlet: Callable[[str], None] | None = None
        #: Whether every change is notified here. Where not, who waits looks more often.
        self.hears_all = True

    def notify(self, topic: str) -> None:
        """Wake every watch of the topic, here and elsewhere; remembered by those that are not waiting just now."""
        self.ring(topic)
        if self._outlet is not None:
            self._outlet(topic)

    def ring(self, topic: str) -> None:
        """The same for watches of this process alone."""
        for watch in self._watches.get(topic, ()):
            watch.set()

    def join(self, outlet: Callable[[str], None] | None) -> None:
        """Have every notified topic carried elsewhere too; None ends it."""
        self._outlet = outlet

    def heard(self, *, all_of_them: bool) -> None:
        """What is notified elsewhere arrives here from now on, or does not. What came before may have been missed."""
        self.hears_all = all_of_them
        for watches in self._watches.values():
            for watch in watches:
                watch.set()

    def watch(self, topic: str) -> "Signal":
        """A watch on the topic, from now on. Close it, or use it as a context manager."""
        signal = Signal(self, topic)
        self._watches[topic][signal] = None
        return signal

    def drop(self, signal: "Signal") -> None:
        """Forget a watch."""
        self._watches[signal.topic].pop(signal, None)
        if not self._watches[signal.topic]:
            del self._watches[signal.topic]


class Signal:
    """One watch; see `Signals.watch`."""

    def __init__(self, owner: Signals, topic: str) -> None:
        self.topic = topic
        self._owner = owner
        self._rung = False
        self._waiting: list[asyncio.Future[bool]] = []

    def set(self) -> None:
        """Remember that the topic changed."""
        self._rung = True
        for each in self._waiting:
            _settle(each, True)

    def wake(self, *_: object) -> None:
        """Have whoever waits look up, although the topic has not changed. Fit to be called back."""
        for each in self._waiting:
            _settle(each, False)

    def taken(self) -> bool:
        """Whether there was a change since the last call, without waiting for one."""
        rung, self._rung = self._rung, False
        return rung

    async def changed(self, timeout: float) -> bool:
        """Wait for a change; True if there was one since the last call, False after `timeout` seconds or a `wake`."""
        if not self._rung:
            # Thousands wait like this all the time: a timer and a future are a fraction of an event with a timeout.
            loop = asyncio.get_running_loop()
            waits: asyncio.Future[bool] = loop.create_future()
            self._waiting.append(waits)
            timer = loop.call_later(timeout, _settle, waits, False)
            try:
                if not await waits and not self._rung:
                    return False
            finally:
                timer.cancel()
                self._waiting.remove(waits)
        self._rung = False
        return True

    def close(self) -> None:
        """Stop watching."""
        self._owner.drop(self)

    def __enter__(self) -> "Signal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _settle(waits: "asyncio.Future[bool]", rung: bool) -> None:
    if not waits.done():
        waits.set_result(rung)
