"""Logs of managed jobs, which outlive their clusters: copied here as they are written, read back by offset.

One file per attempt, byte for byte what the head has: so whoever writes a piece again, after a crash or at another
server's side, changes nothing. A task's log is that of its attempts one after another. The copying is run by `plane`;
`managed_jobs` has the rest kept before a cluster is ended; `managed_reads` reads.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.managed_jobs import ManagedJob
from sky.core.ports import AgentClient, Fleet, LogPiece, Store
from sky.engine.duties import Alone, Duties
from sky.engine.waiting import keep_up, until
from sky.kit.backoff import delays
from sky.kit.clock import Clock
from sky.kit.frozen import replace
from sky.kit.signals import Signals

log = logging.getLogger(__name__)

#: How long a head holds a log that has nothing new, in seconds: the most that agents do.
_HOLD_S = 60.0
#: Seconds between looks of readers at a file.
_READ_AGAIN_S = 1.0
#: Pieces of logs that are copied in a second at most, and seconds that one of them may have to wait for that. Whoever
#: follows a log has its pieces at once.
_PIECES, _SHORT_S, _LATEST_S = 250, 0.05, 30.0
#: Seconds that the rest of a log may take before its cluster is ended: of one that is well, and of one that is not.
_REST_S, _REST_OF_BROKEN_S = 30.0, 2.0
#: Bytes that are read from a file at a time.
_CHUNK = 256 * 1024


class ManagedLogs:
    """See the module. Everything is below `folder`, readable by the owner alone."""

    def __init__(
        self, folder: Path, store: Store, fleet: Fleet, clock: Clock, signals: Signals, duties: Duties | None = None
    ) -> None:
        self._folder = folder
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._signals = signals
        self._duties = duties or Alone()
        #: By job, its cluster and who copies what that says.
        self._copying: dict[str, tuple[str, asyncio.Task[None]]] = {}

    def path(self, number: int, attempt: int) -> Path:
        """Where the log of an attempt is, whether or not there is any yet."""
        return self._folder / str(int(number)) / f"{int(attempt)}.log"

    def drop(self, number: int) -> None:
        """Forget the logs of a job."""
        shutil.rmtree(self._folder / str(int(number)), ignore_errors=True)

    # --- copying -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Copy the logs of all jobs that run, until cancelled."""
        try:
            await keep_up(self._signals, "managed_logs", self._reconcile, self._clock)
        finally:
            tasks = [task for _, task in self._copying.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _reconcile(self, ids: Collection[str] | None) -> None:
        """Copy the logs of whom we should, among these jobs or all."""
        found = dict(await self._store.managed_jobs.logged(ids))
        for id in [id for id in (self._copying if ids is None else ids) if id in self._copying]:
            cluster_id, task = self._copying[id]
            if found.get(id) != cluster_id or not self._duties.listens_to(cluster_id):
                del self._copying[id]
                task.cancel()
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                if isinstance(ended, Exception):
                    log.error("%s failed", task.get_name(), exc_info=ended)
        for id, cluster_id in found.items():
            # One that has come to its end stays here until its job has moved on.
            if id not in self._copying and self._duties.listens_to(cluster_id):
                task = asyncio.create_task(self._copy(id, cluster_id), name=f"log of managed job {id}")
                self._copying[id] = cluster_id, task

    async def _copy(self, id: str, cluster_id: str) -> None:
        job = await self._store.managed_jobs.get(id)
        if job is None or job.cluster_id != cluster_id or job.job_key is None:
            return
        number = await self._numbered(job.job_key)
        # With thousands it counts what each holds on to.
        job = replace(job, task_configs={}, layers={}, uploads={})
        pauses = delays(0.2, ceiling=10.0)
        while number is not None:
            try:
                head = await self._head(cluster_id)
                if head is not None:
                    await self._follow(job, number, head)
                return
            except (AgentUnreachable, AgentRefused, OSError):
                # What hinders it is others' business: cluster and job are looked at by those who drive them.
                await self._clock.sleep(next(pauses))

    async def _head(self, cluster_id: str) -> AgentClient | None:
        """The head of a cluster; None of one that is gone."""
        cluster = await self._store.clusters.get(cluster_id)
        return await self._fleet.head(cluster) if cluster is not None and cluster.alive else None

    async def _numbered(self, job_key: str) -> int | None:
        """The number of the job on the cluster once it has one there; None if it never will."""

        async def load() -> Job | None:
            return await self._store.jobs.by_request(job_key)

        def known(job: Job | None) -> bool:
            return job is not None and (job.job_id is not None or job.phase is JobPhase.DONE)

        job = await load()
        if job is not None and not known(job):
            job = await until(self._signals, f"job:{job.id}", load, known)
        return job.job_id if job is not None else None

    async def _follow(self, job: ManagedJob, number: int, head: AgentClient) -> None:
        with self._signals.watch(f"managed_log_wanted:{job.number}") as wanted:
            while True:
                piece = await self._piece(job, number, head, _HOLD_S)
                if piece.ended:
                    return
                # With thousands that print all the time, many lines travel together.
                pause = min(_LATEST_S, len(self._copying) / _PIECES)
                if piece.data and pause >= _SHORT_S:
                    await wanted.changed(pause)

    async def _piece(self, job: ManagedJob, number: int, head: AgentClient, hold: float) -> LogPiece:
        path = self.path(job.number, job.attempt)
        at = size(path)
        piece = await head.read_log(number, offset=at, tail=None, wait=hold, which="run", rank=None)
        if piece.data:
            _write(path, at, piece.data)
            self._signals.ring(f"managed_log:{job.number}")
        return piece

    async def finish(self, job: ManagedJob, cluster: Cluster | None) -> None:
        """Keep what the head still has of the log before its cluster is ended; then the attempt's log is whole."""
        there = await self._store.jobs.by_request(job.job_key) if job.job_key else None
        end = _end_of(self.path(job.number, job.attempt))
        if end.exists():
            return
        if cluster is not None and there is not None and there.job_id is not None and cluster.alive:
            patience = _REST_S if cluster.phase is Phase.UP else _REST_OF_BROKEN_S
            try:
                async with asyncio.timeout(patience):
                    await self._rest(job, there.job_id, cluster)
            except (TimeoutError, AgentUnreachable, AgentRefused, OSError) as error:
                log.info("managed job %d: the end of its log could not be kept: %s", job.number, error)
        if end.parent.exists() or there is not None:
            _write(end, 0, b"")
        self._signals.ring(f"managed_log:{job.number}")

    async def _rest(self, job: ManagedJob, number: int, cluster: Cluster) -> None:
        head = await self._fleet.head(cluster)
        while True:
            piece = await self._piece(job, number, head, 0.0)
            if piece.ended or not piece.data:
                return

    # --- reading -------------------------------------------------------------------------------------------------

    async def read(
        self, id: str, at: int, *, follow: bool, tail: int = 0, offset: int | None = None
    ) -> AsyncIterator[LogPiece]:
        """Pieces of a task's log, over all of its attempts; with `follow`, until the task has ended."""
        job = await self._store.managed_jobs.get(id)
        if job is None:
            return
        files = self._files(job, at)
        position = offset if offset is not None else _tail(files, tail) if tail else 0
        wanted = f"managed_log_wanted:{job.number}"
        with (
            self._signals.watch(f"managed_log:{job.number}") as grown,
            self._signals.watch(f"managed_job:{id}") as moved,
        ):
            while True:
                # Asked before the files are read: what is read then is all there will be.
                job = await self._store.managed_jobs.get(id)
                over = job is None or self._whole(job, at)
                files = self._files(job, at) if job is not None else files
                for data in _chunks(files, position):
                    position += len(data)
                    yield LogPiece(data, position, ended=False)
                if over or not follow:
                    # Whoever goes on behind the end of this log learns where that is.
                    yield LogPiece(b"", min(position, sum(map(size, files))), ended=True)
                    return
                self._signals.notify(wanted)
                await _either(grown.changed(_READ_AGAIN_S), moved.changed(_READ_AGAIN_S))

    def _files(self, job: ManagedJob, at: int) -> list[Path]:
        return [self.path(job.number, attempt) for attempt in job.tasks[at].attempts]

    def _whole(self, job: ManagedJob, at: int) -> bool:
        """Whether the task has ended and its log is kept to its end."""
        task = job.tasks[at]
        if not task.status.is_terminal():
            return False
        done = job.ended_at is not None or job.at > at or not task.attempts
        return done or _end_of(self.path(job.number, task.attempts[-1])).exists()


async def _either(*waits: object) -> None:
    tasks = [asyncio.ensure_future(each) for each in waits]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def size(path: Path) -> int:
    """The length of a file in bytes, 0 when it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _end_of(path: Path) -> Path:
    return path.with_suffix(".end")


def _write(path: Path, at: int, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, at)
            view, at = view[written:], at + written
    finally:
        os.close(handle)


def _chunks(files: Sequence[Path], position: int) -> "list[bytes]":
    """What is there from a byte on, of all files one after another; a piece of it at a time."""
    found: list[bytes] = []
    begin = 0
    for path in files:
        length = size(path)
        start = max(0, position - begin)
        if start < length:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(_CHUNK)
            found.append(data)
            if start + len(data) < length:
                break
        begin += length
    return found


def _tail(files: Sequence[Path], lines: int) -> int:
    """Where the last lines begin."""
    begins, total = [], 0
    for path in files:
        begins.append(total)
        total += size(path)
    wanted = lines
    for path, begin in reversed(list(zip(files, begins, strict=True))):
        length = size(path)
        for start, data in _blocks_from_end(path, length):
            stop = len(data)
            if start + stop == total - begin and data.endswith(b"\n") and wanted == lines:
                stop -= 1  # the line end at the very end begins no line
            while wanted and (found := data.rfind(b"\n", 0, stop)) >= 0:
                wanted, stop = wanted - 1, found
                if not wanted:
                    return begin + start + found + 1
    return 0


def _blocks_from_end(path: Path, length: int) -> "list[tuple[int, bytes]]":
    blocks: list[tuple[int, bytes]] = []
    if not length:
        return blocks
    with path.open("rb") as file:
        end = length
        # A log of which nobody wants more than some lines: a bound on what is held of it.
        while end > 0 and len(blocks) < 64:
            start = max(0, end - _CHUNK)
            file.seek(start)
            blocks.append((start, file.read(end - start)))
            end = start
    return blocks
