"""Who does what only one of several servers may do: sweep, forget, ask for prices, listen to a cluster's head.

A duty is held under a lease, as a row is; who is stopped for longer than that has lost it before it goes on. Clusters
are dealt out among the servers that work, by a number drawn from both names: each finds the same dealing by itself,
and when one comes or goes only its own clusters change hands. Run by `plane`.
"""

import asyncio
import logging
import zlib
from typing import Protocol

from sky.core import ports
from sky.kit.clock import Clock
from sky.kit.ids import new_id
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: Seconds for which a duty is held without being renewed, and between renewals.
LEASE_S, BEAT_S = 12.0, 3.0
#: What is to be done by one for all.
DUTIES = ("sweep", "retention", "catalog", "budgets", "schedules", "notifications")
_WORKER = "worker:"


class Duties(Protocol):
    """What the loops ask."""

    def has(self, duty: str) -> bool:
        """Whether this server does it now."""
        ...

    def listens_to(self, cluster_id: str) -> bool:
        """Whether it is this server that listens to the cluster's head."""
        ...

    async def run(self) -> None:
        """Take part until cancelled, then give up what is held."""
        ...


class Alone:
    """The only server there is."""

    def has(self, duty: str) -> bool:
        return True

    def listens_to(self, cluster_id: str) -> bool:
        return True

    async def run(self) -> None:
        """Nobody has to be told; a loop that ended would pass for one that broke."""
        await asyncio.Event().wait()


class Among:
    """One server of several."""

    def __init__(self, duties: ports.Duties, clock: Clock, signals: Signals) -> None:
        self._duties = duties
        self._clock = clock
        self._signals = signals
        self._me = new_id(clock.now())
        self._mine: set[str] = set()
        self._crew: tuple[str, ...] = ()
        self._until = 0.0

    def has(self, duty: str) -> bool:
        return duty in self._mine and self._clock.now() < self._until

    def listens_to(self, cluster_id: str) -> bool:
        if not self._crew or self._clock.now() >= self._until:
            return False
        return max(self._crew, key=lambda worker: zlib.crc32(f"{worker}/{cluster_id}".encode())) == self._me

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self.beat()
                except Exception:  # the database may be back at the next beat; what is held runs out by itself
                    log.exception("duties: cannot be renewed just now")
                await self._clock.sleep(BEAT_S)
        finally:
            self._until = 0.0
            for name in (*sorted(self._mine), _WORKER + self._me):
                await self._duties.let_go(name, self._me)

    async def beat(self) -> None:
        """Say that this server lives, take what is free, and see who else is there."""
        now = self._clock.now()
        me = _WORKER + self._me
        self._mine = set(await self._duties.hold((me, *DUTIES), self._me, now, LEASE_S)) - {me}
        crew = tuple(name[len(_WORKER) :] for name in await self._duties.held(_WORKER, now))
        # This beat is late, as of a machine that was suspended: whoever looked meanwhile has let go of what is ours.
        lapsed = self._clock.now() >= self._until
        self._until = now + LEASE_S
        if crew != self._crew:
            # Somebody came or went; of whom was killed something is left.
            await self._duties.tidy(_WORKER, now)
            log.info("%d servers work on this database", len(crew))
        if lapsed or crew != self._crew:
            self._crew = crew
            # Listeners are dealt out anew.
            self._signals.ring("cluster")
            self._signals.ring("managed_logs")
