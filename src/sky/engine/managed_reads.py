"""Questions about managed jobs, answered from what is on record; asked by the server's routes through `plane`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from sky.core.errors import NotSupportedError
from sky.core.model.events import Entry
from sky.core.model.managed_jobs import ManagedJob, Stage
from sky.core.policy.admission import Waiting, why_no_worker, why_waiting
from sky.core.policy.job_groups import waits
from sky.core.ports import JobQuery, Listed, LogPiece, Store
from sky.engine.admission import Admission
from sky.engine.managed_logs import ManagedLogs
from sky.engine.waiting import until
from sky.kit.clock import Clock
from sky.kit.frozen import replace
from sky.kit.signals import Signals

#: Lines of a story that are told, the newest.
_MOST_LINES = 10_000
#: Of all members of a parent together.
_MOST_OF_MEMBERS = 50_000
#: Members of which it is found out why they are as they are.
_MOST_TOLD = 100


class ManagedReads:
    """See the module."""

    def __init__(
        self, store: Store, clock: Clock, signals: Signals, admission: Admission, logs: ManagedLogs | None
    ) -> None:
        self._store = store
        self._signals = signals
        self._clock = clock
        self._admission = admission
        self._logs = logs

    async def listed(self, query: JobQuery) -> Listed:
        """Jobs, newest first, and how many there are by status."""
        return await self._store.managed_jobs.listed(query)

    async def get(self, id: str) -> ManagedJob | None:
        """A job by its own id."""
        return await self._store.managed_jobs.get(id)

    async def by_number(self, number: int) -> ManagedJob | None:
        """The job that people know by this number."""
        return await self._store.managed_jobs.by_number(number)

    async def story(self, job: ManagedJob) -> list[Entry]:
        """Everything that was decided about it, oldest first; of a very long story the newest."""
        lines: deque[Entry] = deque(maxlen=_MOST_LINES)
        while page := await self._store.stories.read("managed_job", job.id, after=lines[-1].seq if lines else 0):
            lines.extend(page)
        if job.group is None:
            return list(lines)
        told = list(lines)
        for member, task in zip(job.group.members, job.tasks, strict=True):
            page = await self._store.stories.read(
                "managed_job", member.id, limit=_MOST_OF_MEMBERS // len(job.tasks) + 1
            )
            told += [replace(each, text=f"{task.name}: {each.text or each.after}") for each in page]
        return sorted(told, key=lambda each: each.seq)

    async def why(self, job: ManagedJob) -> str:
        """Why it is as it is, in words."""
        rows = self._store.managed_jobs
        if job.pool_id is not None and job.stage in (Stage.WAITING, Stage.BACKOFF):
            pool = await self._store.pools.get(job.pool_id)
            busy = len(await self._store.pools.claims(job.pool_id))
            return why_no_worker(
                job.pool or "", 0 if pool is None else pool.ready, busy, await rows.before(job.turn, job.pool_id)
            )
        if job.stage is Stage.WAITING:
            one = Waiting(job.id, job.user, job.workspace)
            before = await rows.before(job.turn)
            return why_waiting(one, before, await rows.under_way(), self._admission.bounds())
        if job.stage is Stage.HELD and job.after:
            found = [await self._store.managed_jobs.get(each.id) for each in job.after]
            return waits(job.after, [None if each is None else each.status for each in found]).words or job.reason or ""
        if job.stage is Stage.BACKOFF and job.wake_at is not None:
            return f"{job.reason}; tried again in {max(0.0, job.wake_at - self._clock.now()):.0f} s"
        last = (await self._store.stories.last_of_each("managed_job", [job.id])).get(job.id)
        return job.reason or (last.text if last is not None else "")

    async def why_tasks(self, job: ManagedJob) -> list[str]:
        """Why each task is as it is, in words: of tasks that are jobs of their own each by itself."""
        if job.group is None:
            why = await self.why(job)
            return [why if at == job.at else task.reason or "" for at, task in enumerate(job.tasks)]
        members = await self._store.managed_jobs.of_parent(job.id)
        known = {each.id: await self.why(each) for each in members[:_MOST_TOLD]}
        return [
            known.get(each.id) or task.reason or "" for each, task in zip(job.group.members, job.tasks, strict=True)
        ]

    async def wait(self, job: ManagedJob, at: int | None, timeout: float) -> ManagedJob:
        """The job once it, or its task at a position, has ended; or as it is after `timeout` seconds."""

        async def load() -> ManagedJob:
            return await self._store.managed_jobs.get(job.id) or job

        def over(now: ManagedJob) -> bool:
            return (now.status if at is None else now.tasks[at].status).is_terminal()

        try:
            async with asyncio.timeout(timeout):
                return await until(self._signals, f"managed_job:{job.id}", load, over)
        except TimeoutError:
            return await load()

    async def log(
        self, job: ManagedJob, at: int, *, follow: bool, tail: int = 0, offset: int | None = None
    ) -> AsyncIterator[LogPiece]:
        """Pieces of a task's log; the last has `ended`. Raises NotSupportedError where none is kept."""
        if self._logs is None:
            raise NotSupportedError("This server keeps no logs of managed jobs.")
        if job.group is not None:
            member = await self._store.managed_jobs.get(job.group.members[at].id)
            if member is None:
                yield LogPiece(b"", 0, ended=True)
                return
            job, at = member, 0
        async for piece in self._logs.read(job.id, at, follow=follow, tail=tail, offset=offset):
            yield piece
