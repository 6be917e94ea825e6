"""Questions about pools, answered from what is on record; asked by the server's routes through `plane`."""

import time
from collections.abc import AsyncIterator, Mapping

from sky.core.model.pools import Pool, PoolStage, Standing, Worker
from sky.core.ports import LogPiece, Store
from sky.engine.job_logs import JobLogs, Part
from sky.kit.signals import Signals

#: How the key of a managed job's attempt begins; id and number follow.
_JOB = "managed:"
#: Seconds between looks for more of a story without a wake-up.
_LOOK_S = 5.0


class PoolReads:
    """See the module."""

    def __init__(self, store: Store, signals: Signals, logs: JobLogs) -> None:
        self._store = store
        self._signals = signals
        self._logs = logs

    async def living(self) -> list[Pool]:
        """Pools that have not ended, by name."""
        return await self._store.pools.living()

    async def by_name(self, name: str) -> Pool | None:
        """The pool of this name that has not ended."""
        return await self._store.pools.by_name(name)

    async def standing(self, pool: Pool) -> Standing:
        """Which job has which worker, and who waits."""
        return await self._store.pools.situation(pool.id)

    async def users(self, standing: Standing) -> Mapping[str, int]:
        """Numbers of the jobs that have workers, by worker."""
        found = {}
        for worker, key in standing.claims.items():
            job = await self._store.managed_jobs.get(key.removeprefix(_JOB).partition(":")[0])
            if job is not None:
                found[worker] = job.number
        return found

    async def story(self, pool: Pool, *, follow: bool, tail: int, offset: int) -> AsyncIterator[LogPiece]:
        """What was decided about it, as text from a byte on; with `follow`, until it has ended."""
        after = position = 0
        with self._signals.watch(f"pool:{pool.id}") as change:
            while True:
                # Asked before the lines are read: what is read then is all there will be.
                now = await self._store.pools.get(pool.id)
                lines = []
                while page := await self._store.stories.read("pool", pool.id, after=after):
                    after = page[-1].seq
                    lines += [line for line in page if line.text]
                for at, line in enumerate(lines):
                    data = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(line.time))}  {line.text}\n".encode()
                    position += len(data)
                    if position > offset and (not tail or at >= len(lines) - tail):
                        yield LogPiece(data[-min(len(data), position - offset) :], position, ended=False)
                tail = 0
                if not follow or now is None or now.stage is PoolStage.DONE:
                    yield LogPiece(b"", max(position, offset), ended=True)
                    return
                await change.changed(_LOOK_S)

    async def log(
        self, pool: Pool, worker: Worker, *, follow: bool, tail: int, offset: int | None
    ) -> AsyncIterator[LogPiece]:
        """The log of a worker's setup; nothing of one that needs none, or has not come so far."""
        cluster = await self._store.clusters.get(worker.cluster_id)
        job = await self._store.jobs.by_request(pool.setup_key(worker))
        if cluster is None or job is None or job.job_id is None:
            yield LogPiece(b"", offset or 0, ended=True)
            return
        async for piece in self._logs.read(cluster, job, Part(follow, tail, offset)):
            yield piece
