"""How far the event log of each head was heard, written down for many heads at once.

`watch` reads on from there. What was heard is handed on first and written down here after that, so a crash means that
some of it is heard again, which everybody who is told of it has to bear anyway.
"""

import logging

from sky.core.model.clusters import Cluster
from sky.core.ports import Store
from sky.kit.clock import Clock
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: Seconds that a position waits for others, so that thousands of heads that have news take one transaction, and
#: between looks where there are none.
_TOGETHER_S, _LOOK_S = 1.0, 60.0


class Positions:
    """By cluster, up to which event its head was heard; another head begins anew."""

    def __init__(self, store: Store, clock: Clock, signals: Signals) -> None:
        self._store = store
        self._clock = clock
        self._signals = signals
        self._fresh: dict[str, str] = {}

    async def of(self, cluster: Cluster) -> int:
        """Where to read on."""
        key = _key(cluster)
        return position_of(self._fresh.get(key) or await self._store.get_value(key), cluster.heads)

    def heard(self, cluster: Cluster, position: int) -> None:
        """Everything up to this event was handed on."""
        self._fresh[_key(cluster)] = f"{position}@{cluster.heads}" if cluster.heads else str(position)
        self._signals.ring("positions")

    async def run(self) -> None:
        """Write down what was heard, until cancelled."""
        with self._signals.watch("positions") as news:
            while True:
                await self._clock.sleep(_TOGETHER_S)
                try:
                    await self.write()
                except Exception:  # a full disk, say: it is kept, and there is another round
                    log.exception("how far heads were heard cannot be written down just now")
                if not self._fresh:
                    await news.changed(_LOOK_S)

    async def write(self) -> None:
        """Write it down now."""
        fresh, self._fresh = self._fresh, {}
        try:
            if fresh:
                await self._store.set_values(fresh)
        except BaseException:
            self._fresh = {**fresh, **self._fresh}
            raise


def position_of(kept: str | None, heads: int) -> int:
    """How far a head was listened to; another one, after so many were replaced, has a record that begins anew."""
    position, _, of = (kept or "0").partition("@")
    return int(position) if int(of or 0) == heads else 0


def _key(cluster: Cluster) -> str:
    return f"heard:{cluster.id}"
