"""Packs news of managed jobs into the outbox and sends what is there. Run by `plane`.

News are the lines of the jobs' stories, which are written with the very commits that they tell of: so none is lost, and
one that is read again is known by its number. A parcel is sent until its sink has taken it: at least once.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from sky.core.model.events import Entry
from sky.core.model.managed_jobs import ManagedJob
from sky.core.model.notifications import Parcel, Sink
from sky.core.policy import notifications as policy
from sky.core.ports import Store
from sky.engine.duties import Alone, Duties
from sky.engine.sinks import configured, of_job, parcels
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: Seconds between looks, and between clean-ups; how long what was delivered is remembered.
_LOOK_S, _TIDY_S, _KEPT_S = 1.0, 3600.0, 86400.0
#: Lines that are read at a time; parcels that are sent at a time, and side by side.
_LINES, _MOST, _AT_ONCE = 1000, 100, 8
#: Seconds for which lines of a shared database are read again: one may come to light after one with a higher number.
SHARED_LAG_S = 10.0


class Courier(Protocol):
    """Carries a parcel. Raises OSError (with words for people) where its sink did not take it."""

    async def deliver(self, sink: Sink, id: str, payload: Mapping[str, object]) -> None: ...


class Notifier:
    """The loop. `section` gives a section of the server's configuration as it is now."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        section: Callable[[str], Mapping[str, object]],
        courier: Courier,
        duties: Duties | None = None,
        lag_s: float = 0.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._section = section
        self._courier = courier
        self._duties = duties or Alone()
        self._lag_s = lag_s
        self._side_by_side = asyncio.Semaphore(_AT_ONCE)
        self._tidied = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._duties.has("notifications"):
                    await self.pack()
                    await self.send()
            except Exception:  # a full disk, say: there is another round
                log.exception("notifications cannot be sent just now")
            await self._clock.sleep(_LOOK_S)

    async def pack(self) -> None:
        """Put news of jobs into the outbox."""
        now, outbox = self._clock.now(), self._store.outbox
        mark = await outbox.mark()
        lines = await outbox.changes(mark, _LINES)
        if not lines:
            return
        everywhere = configured(self._section("notifications"))
        jobs: dict[str, ManagedJob | None] = {}
        packed: list[Parcel] = []
        silent: set[str] = (
            set() if everywhere else await self._store.managed_jobs.silent({line.entity_id for line in lines})
        )
        for line in lines:
            if line.entity_id in silent:
                continue
            if line.entity_id not in jobs:
                jobs[line.entity_id] = await self._store.managed_jobs.get(line.entity_id)
            job = jobs[line.entity_id]
            if job is not None:
                packed += self._of(job, line, everywhere, now)
        done = max((line.seq for line in lines if line.time <= now - self._lag_s), default=mark)
        if packed or done != mark:
            await outbox.put(packed, done)

    def _of(self, job: ManagedJob, line: Entry, everywhere: tuple[Sink, ...], now: float) -> list[Parcel]:
        try:
            sinks = (*everywhere, *of_job(job))
        except ValueError as error:
            log.warning("managed job %d: %s", job.known_as, error)
            sinks = everywhere
        # Due since it happened, so that they are sent in that order.
        return parcels(f"job:{line.seq}", line.after, policy.news_of(job, line), sinks, min(now, line.time))

    async def send(self) -> None:
        """Try everything that is due once: for each sink in its order, until it does not take one."""
        now = self._clock.now()
        sinks: dict[str, list[Parcel]] = {}
        for parcel in await self._store.outbox.due(now, _MOST):
            sinks.setdefault(json.dumps(parcel.sink, sort_keys=True), []).append(parcel)
        await asyncio.gather(*(self._sent_in_order(each) for each in sinks.values()))
        if now >= self._tidied + _TIDY_S:
            self._tidied = now
            await self._store.outbox.forget(now - _KEPT_S)

    async def _sent_in_order(self, parcels: Iterable[Parcel]) -> None:
        for parcel in parcels:
            if not await self._sent(parcel):
                # Who hangs would hang on each of them, and hold up everybody else's.
                return

    async def _sent(self, parcel: Parcel) -> bool:
        fields = {**parcel.sink, "command": tuple(parcel.sink["command"]), "on": tuple(parcel.sink["on"])}  # type: ignore[arg-type]
        sink = Sink(**fields)  # type: ignore[arg-type]
        async with self._side_by_side:
            try:
                await self._courier.deliver(sink, parcel.id, parcel.payload)
            except (OSError, ValueError) as error:
                next_at, tries, said = policy.after_failure(parcel, self._clock.now(), str(error)[:500])
                log.info("notification %s was not taken: %s", parcel.id, said)
                await self._store.outbox.settle(parcel, next_at, tries, said)
                return False
        await self._store.outbox.settle(parcel, None, parcel.tries + 1, "delivered")
        return True
