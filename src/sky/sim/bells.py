"""Wake-ups between the servers of a world, as a database carries them: late by a moment, and at times not at all.

Each server tries the line now and then, as `store.bells` does; until it has found out, it waits for news that do not
come. `server` joins and parts, `faults` makes it deaf.
"""

from sky.kit.signals import Signals
from sky.sim.loop import SimLoop

#: Seconds that a wake-up takes, between trials of the line, and before one that failed is tried again.
_LATE_S, _TRIAL_S, _AGAIN_S = 0.003, 15.0, 5.0


class Bells:
    """See the module."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._deaf_until = 0.0
        self._joined: dict[Signals, None] = {}

    def join(self, signals: Signals) -> None:
        """Carry what a server notifies to the others, and theirs to it."""
        self._joined[signals] = None
        signals.join(lambda topic: self._carry(signals, topic))
        signals.heard(all_of_them=False)
        self._loop.call_later(_LATE_S, self._try_out, signals)

    def part(self, signals: Signals) -> None:
        """The server is gone."""
        signals.join(None)
        self._joined.pop(signals, None)

    def deafen(self, seconds: float) -> None:
        """Nothing is carried for so long."""
        self._deaf_until = self._loop.time() + seconds

    @property
    def _deaf(self) -> bool:
        return self._loop.time() < self._deaf_until

    def _carry(self, sender: Signals, topic: str) -> None:
        if not self._deaf:
            for each in self._joined:
                if each is not sender:
                    self._loop.call_later(_LATE_S, each.ring, topic)

    def _try_out(self, signals: Signals) -> None:
        if signals in self._joined:
            if signals.hears_all is self._deaf:
                signals.heard(all_of_them=not self._deaf)
            self._loop.call_later(_AGAIN_S if self._deaf else _TRIAL_S, self._try_out, signals)
