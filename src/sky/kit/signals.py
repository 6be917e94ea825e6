"""Wake-ups: topics with counters, so that a change between two looks is never missed.

Inside one process, unless somebody joins who carries them to others and back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Self


class Signals:
    """Notify and watch topics (strings). Loop-bound: use from one event loop only."""

    def __init__(self) -> None:
        # In order of arrival, so that what happens is the same each time the same things happen.
        self._watches: defaultdict[str, dict[Signal, None]] = defaultdict(dict)
        self._families: defaultdict[str, dict[Names, None]] = defaultdict(dict)
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
        family, _, name = topic.partition(":")
        for names in self._families.get(family, ()):
            names.note(name)

    def join(self, outlet: Callable[[str], None] | None) -> None:
        """Have every notified topic carried elsewhere too; None ends it."""
        self._outlet = outlet

    def heard(self, *, all_of_them: bool) -> None:
        """What is notified elsewhere arrives here from now on, or does not. What came before may have been missed."""
        self.hears_all = all_of_them
        for watches in self._watches.values():
            for watch in watches:
                watch.set()
        for families in self._families.values():
            for names in families:
                names.note("")

    def watch(self, topic: str) -> "Signal":
        """A watch on the topic, from now on. Close it, or use it as a context manager."""
        signal = Signal(self, topic)
        self._watches[topic][signal] = None
        return signal

    def names(self, family: str) -> "Names":
        """A watch on all topics `family:NAME`, which knows whose changed. The topic `family` alone means: anybody's."""
        names = Names(self, family)
        self._families[family][names] = None
        return names

    def drop(self, signal: "Signal") -> None:
        """Forget a watch."""
        of_its_kind = self._families if isinstance(signal, Names) else self._watches
        of_its_kind[signal.topic].pop(signal, None)  # type: ignore[call-overload]
        if not of_its_kind[signal.topic]:
            del of_its_kind[signal.topic]


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Names(Signal):
    """A watch on a family of topics; see `Signals.names`. To begin with anything may have changed."""

    def __init__(self, owner: Signals, topic: str) -> None:
        super().__init__(owner, topic)
        self._names: dict[str, None] = {}
        self._anybody = True

    def note(self, name: str) -> None:
        """Remember whose topic changed; of no name, that nobody knows."""
        if name:
            self._names[name] = None
        else:
            self._anybody = True
        self.set()

    def whose(self) -> list[str] | None:
        """The names whose topics changed since the last call, each once; None if anybody's may have."""
        found = None if self._anybody else list(self._names)
        self._names.clear()
        self._anybody = False
        return found


def _settle(waits: "asyncio.Future[bool]", rung: bool) -> None:
    if not waits.done():
        waits.set_result(rung)
