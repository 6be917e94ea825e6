"""Launches managed jobs at the times of their schedules. Run by `plane`; `core.policy.schedules` decides.

A decision is written before anything is launched, and the launch is a request whose id follows from schedule and time:
so a crash in between, or another server, leads to the very same request, which is taken once.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Protocol

from sky.core.errors import SkyError
from sky.core.model.requests import Request
from sky.core.model.schedules import Schedule
from sky.core.policy import schedules as policy
from sky.core.ports import Store
from sky.engine.duties import Alone, Duties
from sky.kit.clock import Clock
from sky.kit.cron import Cron
from sky.kit.frozen import replace
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: Seconds between looks without a wake-up; schedules that are looked at in one round.
_LOOK_S, _MOST = 5.0, 200


class Submit(Protocol):
    """See `ControlPlane.submit`."""

    async def __call__(
        self,
        name: str,
        body: Mapping[str, object],
        *,
        user: str,
        request_id: str | None,
        workspace: str,
        reach: str,
    ) -> Request: ...


class Schedules:
    """The loop."""

    def __init__(
        self, store: Store, clock: Clock, signals: Signals, submit: Submit, duties: Duties | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._signals = signals
        self._submit = submit
        self._duties = duties or Alone()

    async def run(self) -> None:
        """Until cancelled."""
        with self._signals.watch("schedules") as change:
            while True:
                wait = _LOOK_S
                try:
                    if self._duties.has("schedules"):
                        wait = await self.once()
                except Exception:  # a full disk, say: there is another round
                    log.exception("schedules cannot be looked at just now")
                await change.changed(wait)

    async def once(self) -> float:
        """Look at those that are due; seconds until the next look."""
        rows = self._store.schedules
        for schedule in await rows.due(self._clock.now(), _MOST):
            await self._look(schedule)
        ahead = await rows.next_at()
        return _LOOK_S if ahead is None else min(_LOOK_S, max(0.05, ahead - self._clock.now()))

    async def _look(self, schedule: Schedule) -> None:
        rows, now = self._store.schedules, self._clock.now()
        user = await self._store.users.get(schedule.user)
        if user is not None and user.disabled:
            said = f"paused: {schedule.user} is shut out"
            await rows.change(schedule, replace(schedule, paused=True, next_at=None, said=said))
            return
        if schedule.launching is None:
            cron = Cron(schedule.cron, schedule.zone)
            after = policy.tick(schedule, now, await self._busy(schedule), cron.latest, cron.following)
            if after.launching is not None:
                after = replace(after, last_request=request_id_of(schedule, after.launching))
            written = await rows.change(schedule, after)
            if written is None:
                return
            schedule = written
        if schedule.launching is not None:
            await self._launch(schedule)

    async def _launch(self, schedule: Schedule) -> None:
        assert schedule.launching is not None
        said = ""
        try:
            await self._submit(
                "jobs/launch",
                schedule.body,
                user=schedule.user,
                request_id=request_id_of(schedule, schedule.launching),
                workspace=schedule.workspace,
                reach=schedule.reach,
            )
        except SkyError as error:
            said = f"not launched: {str(error)[:300]}"
            log.warning("schedule %s of %s: %s", schedule.name, schedule.user, said)
        done = replace(schedule, launching=None, said=said or schedule.said)
        await self._store.schedules.change(schedule, replace(done, next_at=policy.look_at(done, self._clock.now())))

    async def _busy(self, schedule: Schedule) -> bool:
        """Whether what it launched last has not ended."""
        if schedule.last_request is None:
            return False
        request = await self._store.requests.get(schedule.last_request)
        if request is not None and not request.status.is_terminal():
            return True
        jobs = await self._store.managed_jobs.of_request(schedule.last_request)
        return any(job.ended_at is None for job in jobs)


def request_id_of(schedule: Schedule, at: float) -> str:
    """The id of the request that launches for a time: always the same, and nobody else's."""
    text = hashlib.sha256(f"schedule:{schedule.id}:{at:.3f}".encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-a{text[17:20]}-{text[20:32]}"
