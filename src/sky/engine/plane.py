"""The control plane without its doors: the loops, and every question and command that a door passes in.

`server.assembly` builds one; `server.routes` speak to it. Mutations become rows and are worked on by the loops;
questions are answered from the store at once.
"""

import asyncio
import fnmatch
import logging
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path

from sky.core.errors import (
    ClusterNotUpError,
    ConcurrentWorkerExhaustedError,
    NotSupportedError,
    ServerTemporarilyUnavailableError,
)
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import requests as request_life
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.events import Entry
from sky.core.model.jobs import Job
from sky.core.model.ledger import Entry as LedgerEntry
from sky.core.model.ledger import Line, Question
from sky.core.model.offers import Offer
from sky.core.model.requests import LASTING, Request
from sky.core.model.statuses import RequestStatus
from sky.core.model.tasks import TaskSpec
from sky.core.model.workspaces import DEFAULT
from sky.core.policy.rights import Reach
from sky.core.ports import Access, KeepsMachines, LogPiece, MachineReport
from sky.engine.admission import Admission
from sky.engine.clusters import ClusterWork
from sky.engine.desk import Desk
from sky.engine.duties import Alone
from sky.engine.forgotten import Forgotten
from sky.engine.job_groups import Followers
from sky.engine.job_logs import JobLogs, Part
from sky.engine.jobs import JobWork
from sky.engine.launch import replanned
from sky.engine.managed_jobs import ManagedJobWork
from sky.engine.managed_reads import ManagedReads
from sky.engine.money import Money
from sky.engine.nudges import Nudges
from sky.engine.operations import HANDLERS
from sky.engine.parts import Parts
from sky.engine.pool_reads import PoolReads
from sky.engine.pools import PoolWork
from sky.engine.post import Post
from sky.engine.provision import Provisioner
from sky.engine.quarantine import Quarantine
from sky.engine.requests import RequestWork
from sky.engine.sweep import Sweep
from sky.engine.turns import Limits, Turns, limits_of
from sky.engine.upkeep import Upkeep
from sky.engine.waiting import until
from sky.engine.watch import Watchers
from sky.engine.work import SET_ASIDE, Driver
from sky.engine.workspaces import Workspaces
from sky.kit.ids import new_id
from sky.kit.ids import request_id as fresh_request_id
from sky.kit.tracing import CURRENT

log = logging.getLogger(__name__)

#: Rows of each noun that are driven at the same time. Most of them only wait, and a cluster that hangs must not take
#: the places of all others.
_CONCURRENCY = {"request": 20_000, "cluster": 2_000, "job": 10_000, "managed_job": 2_000, "pool": 200}
#: So many clusters are each looked at when a server starts.
_LOOKED_AT = 300
#: Seconds for which a count of open requests is good.
_COUNT_S = 1.0
#: Lines of a story that are told, of its clusters and of its jobs each.
_MOST_LINES = 10_000


class ControlPlane:
    """See the module. `start` and `stop` bound the loops; everything else may be called in between."""

    def __init__(self, parts: Parts) -> None:
        store, clock, signals = parts.store, parts.clock, parts.signals
        self.store = store
        self.clock = clock
        self.signals = signals
        self._providers = parts.providers
        self._fleet = parts.fleet
        self._talk = parts.talk
        self._post = Post(clock, signals)
        self.catalogs = parts.catalogs
        self.access = parts.access
        self.planner = parts.planner
        self._forgotten = Forgotten(store, parts.providers, clock, parts.boot)
        self._provisioner = Provisioner(
            parts.providers, store.outcomes, clock, parts.section, self._say, self._forgotten
        )
        self.users, self.audit = store.users, store.audit
        self.section, self.configuration = parts.section, parts.configuration
        self.workspaces = Workspaces(store.users, parts.section)
        self._desk = Desk(
            store,
            self._post,
            clock,
            signals,
            parts.fleet,
            parts.talk,
            parts.catalogs,
            parts.planner,
            self._provisioner,
            parts.section,
            self.workspaces,
        )
        self._closing = parts.closing
        self._retention = parts.retention
        self._care = parts.care
        self._duties = parts.duties or Alone()
        self._works = parts.works
        self._tasks: list[asyncio.Task[None]] = []
        #: Requests that had not ended when they were counted, and were taken on since.
        self._open, self._counted_at = 0, float("-inf")
        self._drivers: list[Driver[object]] = []
        self.upkeep = Upkeep(store, clock, self._tasks, self._held, parts.fleet.connections, parts.new_key)
        self._job_logs = JobLogs(store, parts.fleet, signals)
        self._managed_logs = parts.managed_logs
        self._grants = parts.grants
        self._admission = Admission(store, self._post, clock, signals, parts.section, self._duties)
        self.money = Money(self._desk, self.submit, self._duties, parts.courier)
        self.pools = PoolReads(store, signals, self._job_logs)
        self.managed = ManagedReads(store, clock, signals, self._admission, parts.managed_logs)

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the loops; what an earlier process left unfinished goes on."""
        await self.store.connect()
        if not self._works:
            return
        await self._forgotten.begin()
        self._spawn(self._duties.run(), "duties")
        holder = new_id(self.clock.now())
        nudges = Nudges(self._desk, self._duties)
        watchers = Watchers(self.store, self._fleet, self._post, self.clock, self.signals, self._duties)
        nouns = (
            RequestWork(self._desk, HANDLERS, Turns(self._limits)),
            ClusterWork(
                self.store.clusters,
                self._provisioner,
                self._fleet,
                self.clock,
                self.signals,
                self._say,
                replan=partial(replanned, self._desk),
                moved=nudges.cluster,
                crowd=lambda: watchers.listening,
            ),
            JobWork(
                self.store.jobs, self.store.clusters, self._fleet, self.clock, self.signals, self.section, nudges.job
            ),
            ManagedJobWork(self._desk, self._managed_logs, nudges.put, self._grants),
            PoolWork(self._desk),
        )
        for noun in nouns:
            driver: Driver[object] = Driver(
                noun,  # type: ignore[arg-type]
                self.clock,
                self.signals,
                holder=holder,
                concurrency=_CONCURRENCY[noun.name],
                trace_of=self._trace_of,
            )
            self._drivers.append(driver)
            self._spawn(driver.run(), f"driver of {noun.name}s")
        self._spawn(watchers.run(), "watchers")
        self._spawn(nudges.run(), "wake-ups of managed jobs")
        self._spawn(self._admission.run(), "admission of managed jobs")
        self._spawn(Followers(self._desk, self._duties).run(), "managed jobs that wait for others")
        if self._managed_logs is not None:
            self._spawn(self._managed_logs.run(), "logs of managed jobs")
        for loop, name in self.money.loops():
            self._spawn(loop, name)
        if self._retention is not None:
            self._spawn(self._retention.run(), "retention")
        if self._care is not None:
            self._spawn(self._care.run(), "care of the catalog")
        await self._look_at_all()
        sweep = Sweep(
            self.store, self._providers, self._post, self.clock, self.planner.listed, usable=self.access.usable,
            duties=self._duties, quarantine=Quarantine(self.store, self.clock, self.section),
            doubts=self._forgotten.doubts,
        )  # fmt: skip
        self._spawn(sweep.run(), "sweep")

    async def _trace_of(self, row: object) -> str:
        """The span that asked for what is done about a row, as long as that request has not ended."""
        asked = row.id if isinstance(row, Request) else getattr(row, "request_id", None)
        request = await self.store.requests.get(asked) if asked else None
        return request.trace if request is not None and not request.status.is_terminal() else ""

    def _held(self) -> Mapping[str, int]:
        return {driver.name: driver.held for driver in self._drivers}

    def _say(self, cluster: Cluster, text: str) -> None:
        """Tell whoever launches the cluster, and keep it for who asks how it came to its machines."""
        if cluster.request_id is not None and not cluster.ever_up:
            self._talk.say(cluster.request_id, f"{cluster.name}: {text}")

    async def launched_by(self, cluster_name: str) -> str | None:
        """The request that brought the newest cluster of this name up, or tried to."""
        ever = await self.store.clusters.since(0.0)
        named = [each for each in ever if each.name == cluster_name and each.request_id]
        return max(named, key=lambda each: (each.alive, each.created_at)).request_id if named else None

    async def _look_at_all(self) -> None:
        """What happened to clusters while no server ran is seen now, and not when their next look is due."""
        living = await self.store.clusters.living()
        for cluster in living:
            # Of very many that were well, the sweep sees what is gone, and their listeners what does not answer.
            leave = cluster.phase is Phase.UP and len(living) > _LOOKED_AT
            if cluster.phase in cluster_life.LOOK_AGAIN and not leave:
                await self._post.send("cluster", self.store.clusters, cluster.id, cluster_life.Due())

    async def stop(self) -> None:
        """End the loops and let go of what they hold. Orders under way stay on record for the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.upkeep.stop()
        try:
            for cluster in await self.store.clusters.living():
                await self._fleet.forget(cluster.id)
        except (OSError, RuntimeError, ServerTemporarilyUnavailableError) as error:
            log.warning("the records are out of reach at the end: %s", error)
        await self._talk.written()
        for close in self._closing:
            await close()
        await self.store.close()

    def _spawn(self, loop: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(_report_death)
        self._tasks.append(task)

    # --- requests ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        name: str,
        body: Mapping[str, object],
        *,
        user: str,
        request_id: str | None = None,
        workspace: str = DEFAULT,
        reach: str = Reach.ALL,
    ) -> Request:
        """Record a mutation once per id, and wake the loop. Raises NotSupportedError for a name nobody handles."""
        if name not in HANDLERS:
            raise NotSupportedError(f"no such request: {name!r}")
        now = self.clock.now()
        if name in LASTING:
            await self._refuse_crowd(request_id)
        drawn = Request(
            id=request_id or fresh_request_id(),
            name=name,
            user=user,
            status=RequestStatus.PENDING,
            version=0,
            created_at=now,
            body=body,
            cluster_name=str(body["cluster_name"]) if body.get("cluster_name") else None,
            workspace=workspace,
            reach=str(reach),
            trace=CURRENT.get(),
        )
        request, _ = await self.store.requests.open(drawn, now)
        self.signals.notify("work:request")
        await self.store.durable()
        return request

    def _limits(self) -> Limits:
        return limits_of(self.section("api_server"))

    async def _refuse_crowd(self, request_id: str | None) -> None:
        """Refuse what lasts where too much of it waits. One that is on record already is only told again."""
        now, most = self.clock.now(), self._limits().on_record
        if not 0 <= now - self._counted_at < _COUNT_S:
            self._counted_at, self._open = now, await self.store.requests.unended()
        if self._open >= most and not (request_id and await self.store.requests.get(request_id)):
            raise ConcurrentWorkerExhaustedError(
                f"The API server has {self._open} requests that have not ended, and takes on {most} at most "
                "(api_server.launches_on_record). Nothing was done. Ask again when some have ended, or call some off: "
                "sky api cancel"
            )
        self._open += 1

    async def find_request(self, prefix: str) -> Request:
        """The request whose id begins so. Raises ValueError if there is none, or several."""
        found = await self.store.requests.find(prefix) if prefix else []
        exact = [each for each in found if each.id == prefix]
        if len(exact or found) == 1:
            return await self._told((exact or found)[0])
        if not found:
            raise ValueError(f"Request '{prefix}' not found. `sky api status -a` lists those on record.")
        raise ValueError(f"'{prefix}' begins several request ids: {', '.join(each.id for each in found)}")

    async def wait(self, request_id: str, timeout: float) -> Request:
        """The request once it has ended, or as it is after `timeout` seconds."""
        request = await self.find_request(request_id)

        async def load() -> Request:
            return await self.store.requests.get(request.id) or request

        try:
            async with asyncio.timeout(timeout):
                ended = await until(self.signals, f"request:{request.id}", load, lambda now: now.status.is_terminal())
        except TimeoutError:
            ended = await load()
        return await self._told(ended)

    async def _told(self, request: Request) -> Request:
        if request.status.is_terminal():
            await self.store.durable()
        return request

    async def requests(self, *, finished: bool, cluster_name: str | None, limit: int | None) -> list[Request]:
        """The newest requests; only open ones unless `finished`."""
        return await self.store.requests.recent(finished=finished, cluster_name=cluster_name, limit=limit)

    async def cancel_requests(self, ids: Sequence[str] | None, *, user: str) -> list[str]:
        """Call off requests (None: all open ones of the user); ids of those that were open."""
        if ids is None:
            recent = await self.store.requests.recent(finished=False, cluster_name=None, limit=None)
            chosen = [each for each in recent if each.user == user]
        else:
            chosen = [await self.find_request(prefix) for prefix in ids]
        cancelled = []
        for request in chosen:
            if not request.status.is_terminal():
                await self._call_off(request)
                cancelled.append(request.id)
        return cancelled

    async def _call_off(self, request: Request) -> None:
        await self._post.send("request", self.store.requests, request.id, request_life.CancelAsked())
        cluster = await self.store.clusters.by_request(request.id)
        if cluster is not None and cluster.alive and not cluster.ever_up:
            # A launch that is called off before its cluster was ever up leaves no machine behind.
            await self._post.send("cluster", self.store.clusters, cluster.id, cluster_life.DownAsked())

    def progress_file(self, request_id: str) -> Path:
        """Where a request's talk for the user is appended."""
        return self._talk.path(request_id)

    async def progress(self, request_id: str) -> Path:
        """The same, with all in it that any server has said."""
        return await self._talk.here(request_id)

    # --- clusters ------------------------------------------------------------------------------------------------

    async def clusters(
        self, names: Sequence[str] | None = None, *, refresh: bool = False, managed: bool = False
    ) -> list[Cluster]:
        """Living clusters, newest first; `names` may hold shell globs. `refresh` asks the providers first.

        Those of managed jobs only where they are `managed` that are asked for, or by a plain name.
        """
        chosen = _named(await self.store.clusters.living(), names, managed=managed)
        if not refresh:
            return chosen
        await asyncio.gather(*(self._refresh(each) for each in chosen if cluster_life.LOOK_AGAIN.get(each.phase)))
        return _named(await self.store.clusters.living(), names, managed=managed)

    async def named(self, name: str) -> Cluster | None:
        """The living cluster of exactly this name."""
        return await self.store.clusters.by_name(name)

    async def _refresh(self, cluster: Cluster) -> None:
        """Have it looked at, and wait until what was seen is on record."""
        rows = self.store.clusters
        letter = await self._post.send("cluster", rows, cluster.id, cluster_life.Due())

        async def seen() -> bool:
            if not await rows.heeded(letter):
                return False
            return not any(isinstance(order, cluster_life.Observe) for order in await rows.standing(cluster.id))

        try:
            async with asyncio.timeout(30):
                await until(self.signals, f"cluster:{cluster.id}", seen, bool)
        except TimeoutError:
            log.warning("refresh of %s took too long; showing what is on record", cluster.name)

    async def stories(self, cluster_name: str) -> list[Entry]:
        """The story of a cluster, of its earlier namesakes and of their jobs, oldest first.

        Of requests about it only what they could not be told.
        """
        own = await self._story("cluster", cluster_name)
        jobs = await self._story("job", cluster_name)
        if not own:
            await self._desk.cluster(cluster_name)
        asked = [line for line in await self._story("request", cluster_name) if line.text.startswith(SET_ASIDE)]
        return sorted((*own, *jobs, *asked), key=lambda entry: entry.seq)

    async def _story(self, entity: str, name: str) -> list[Entry]:
        """All lines, page by page; of a very long story the newest."""
        lines: deque[Entry] = deque(maxlen=_MOST_LINES)
        while page := await self.store.stories.read(entity, name, after=lines[-1].seq if lines else 0):
            lines.extend(page)
        return list(lines)

    async def last_entries(self, cluster_ids: Sequence[str]) -> Mapping[str, Entry]:
        """The newest line of each cluster's story."""
        return await self.store.stories.last_of_each("cluster", cluster_ids)

    async def cost_report(self, days: int | None) -> list[Cluster]:
        """Clusters that lived within the last `days` (None or 0: ever), newest first."""
        return await self.store.clusters.since(self.clock.now() - days * 86400 if days else 0.0)

    async def ledger(self, asked: Question) -> Sequence[Line]:
        """Lines of what is billed, oldest first; of very many the newest."""
        return await self.store.ledger.lines(asked)

    async def bills(self, cluster_ids: Sequence[str]) -> Mapping[str, Sequence[LedgerEntry]]:
        """All lines of these clusters, by cluster."""
        found: dict[str, list[LedgerEntry]] = {id: [] for id in cluster_ids}
        for line in await self.store.ledger.of_clusters(cluster_ids):
            found[line.entry.cluster_id].append(line.entry)
        return found

    async def endpoints(self, cluster_name: str, port: int | None) -> Mapping[int, str]:
        """Where ports of the head can be reached. A cluster opens the ports that its task asked for."""
        cluster = await self._desk.cluster(cluster_name)
        if cluster.phase is not Phase.UP or cluster.head is None:
            raise ClusterNotUpError(
                f"Cluster '{cluster_name}' is {cluster.status}, not UP: it has no endpoints.",
                cluster_status=cluster.status.value,
            )
        asked = TaskSpec.from_config(cluster.task_config).resources[0].ports or []
        ports = sorted({number for text in asked for number in _ports(text)})
        if port is not None and port not in ports:
            raise ValueError(f"Port {port} is not open on cluster '{cluster_name}'; open: {ports or 'none'}")
        return {each: f"{cluster.head.ip}:{each}" for each in ports if port in (None, each)}

    # --- jobs ----------------------------------------------------------------------------------------------------

    async def jobs(
        self, cluster_name: str, *, skip_finished: bool = False, job_ids: Sequence[int] | None = None
    ) -> list[Job]:
        """Jobs that the cluster has taken, newest first."""
        cluster = await self._desk.cluster(cluster_name)
        jobs = [job for job in await self.store.jobs.of_cluster(cluster.id) if job.job_id is not None]
        if skip_finished:
            jobs = [job for job in jobs if not job.status.is_terminal()]
        if job_ids is not None:
            jobs = [job for job in jobs if job.job_id in job_ids]
        return sorted(jobs, key=lambda job: job.job_id or 0, reverse=True)

    async def job_outcome(self, cluster_name: str, job_id: int | None) -> Job | None:
        """A job (None: the latest) as recorded; None if there is no such job."""
        jobs = await self.jobs(cluster_name, job_ids=None if job_id is None else [job_id])
        return jobs[0] if jobs else None

    async def job_log(
        self,
        cluster_name: str,
        job_id: int | None,
        *,
        follow: bool,
        tail: int = 0,
        offset: int | None = None,
        which: str = "run",
        rank: int | None = None,
    ) -> AsyncIterator[LogPiece]:
        """Pieces of a job's log. With `follow`, until the job has ended and that is on record; else what is there."""
        job = await self.job_outcome(cluster_name, job_id)
        if job is None or job.job_id is None:
            yield LogPiece(b"", offset or 0, ended=True)
            return
        cluster = await self._desk.cluster(cluster_name)
        part = Part(follow, tail, offset, which, rank)
        async for piece in self._job_logs.read(cluster, job, part):
            yield piece

    async def job(self, id: str) -> Job | None:
        """A job by the id that it has here, whatever became of its cluster."""
        return await self.store.jobs.get(id)

    # --- places --------------------------------------------------------------------------------------------------

    async def check(self, clouds: Sequence[str] | None = None) -> list[Access]:
        """Whether each place can be used, asked now."""
        return await self.access.check(clouds)

    async def enabled(self) -> frozenset[str]:
        """Places where machines can be rented now."""
        return await self.access.enabled()

    async def offers(self) -> list[Offer]:
        """Everything on sale at this moment at places that can be asked; the catalog is another matter."""
        found, _ = await self.planner.offers()
        return found

    async def look_at_machines(self, cloud: str, pool: str | None, text: str | None) -> Sequence[MachineReport]:
        """Machines that the user named, as they are now; see `KeepsMachines`. Raises NotSupportedError."""
        return await self._keeper(cloud).look(pool, text)

    async def forget_machines(self, cloud: str, pool: str | None, *, force: bool) -> Sequence[str]:
        """Know nothing of them any more; names of pools. Raises NotSupportedError while clusters are on them."""
        return await self._keeper(cloud).forget(pool, force=force)

    def _keeper(self, cloud: str) -> KeepsMachines:
        compute = self._providers.compute(cloud)
        if not isinstance(compute, KeepsMachines):
            raise NotSupportedError(f"{cloud} has no machines that are named by the user")
        return compute


def _named(clusters: list[Cluster], names: Sequence[str] | None, *, managed: bool) -> list[Cluster]:
    shown = [each for each in clusters if managed or each.owner is None or each.name in (names or ())]
    if names is None:
        return shown
    return [each for each in shown if any(fnmatch.fnmatchcase(each.name, name) for name in names)]


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s died", task.get_name(), exc_info=error)
