"""Listens to the head of every living cluster: what its agent reports becomes letters to jobs and clusters.

One subscription per cluster, held open by the agent until there is news; after a gap everything unfinished is asked
for again, so that a missed event delays news but never loses it.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Mapping, Sequence

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as job_life
from sky.core.model.clusters import Cluster, InstanceState, Phase
from sky.core.model.jobs import NOTHING_SEEN, CheckpointSeen, FailureCause, Job, JobPhase, Seen
from sky.core.model.statuses import JobStatus
from sky.core.ports import AgentClient, Fleet, Store
from sky.engine.duties import Alone, Duties
from sky.engine.positions import Positions
from sky.engine.post import Post
from sky.engine.waiting import keep_up
from sky.kit.backoff import delays
from sky.kit.clock import Clock
from sky.kit.frozen import replace
from sky.kit.signals import Signals
from sky.kit.tracing import TRACING, Value, traceparent_of

log = logging.getLogger(__name__)

#: A degraded cluster too: its head may well live, and with it jobs that end.
_LISTENED_TO = (Phase.UP, Phase.DEGRADED, Phase.AUTOSTOPPING)
#: How long a subscription is held open by the agent, in seconds.
_HOLD_S = 50.0
#: Queues that say nothing and are looked at all the same, in a second at most, and the longest that one is not.
_CAUGHT_UP, _CATCH_UP_MOST_S = 20.0, 600.0
#: What nodes may say of a job, and nothing else.
_CAUSES, _CONCERNS = frozenset(FailureCause), ("late", "large")


class Watchers:
    """Keeps one listener per cluster that is up, of all servers together."""

    def __init__(
        self, store: Store, fleet: Fleet, post: Post, clock: Clock, signals: Signals, duties: Duties | None = None
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._post = post
        self._clock = clock
        self._signals = signals
        self._duties = duties or Alone()
        self._positions = Positions(store, clock, signals)
        self._listeners: dict[str, asyncio.Task[None]] = {}
        #: By cluster, how often its head had been replaced when its listener was started.
        self._heads: dict[str, int] = {}

    @property
    def listening(self) -> int:
        """How many clusters are listened to."""
        return len(self._listeners)

    async def run(self) -> None:
        """Start and stop listeners as clusters come and go, until cancelled."""
        writer = asyncio.create_task(self._positions.run(), name="positions of heads")
        try:
            await keep_up(self._signals, "cluster", self._reconcile, self._clock)
        finally:
            tasks = [*self._listeners.values(), writer]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._positions.write()

    async def _reconcile(self, ids: Collection[str] | None) -> None:
        """Listen to whom we should, among these clusters or all."""
        rows = self._store.clusters
        living = await (rows.living() if ids is None else rows.living_of(ids))
        wanted = {each.id: each for each in living if each.phase in _LISTENED_TO and self._duties.listens_to(each.id)}
        looked_at = [id for id in (self._listeners if ids is None else ids) if id in self._listeners]
        over = [id for id in looked_at if self._listeners[id].done() or not self._heard(wanted.get(id))]
        for id in over:
            task = self._listeners.pop(id)
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(ended, Exception):
                log.error("%s failed and is started again", task.get_name(), exc_info=ended)
        for id, cluster in wanted.items():
            if id not in self._listeners:
                self._heads[id] = cluster.heads
                # With thousands it counts what each holds on to: nothing here asks what the cluster was to be.
                slim = replace(cluster, task_config={}, resources_config={}, layers={}, candidates=(), refusals=())
                self._listeners[id] = asyncio.create_task(self._listen(slim), name=f"listener of {cluster.name}")
        if self._duties.has("sweep") and (over or ids is None):
            await self._lose_jobs(ids)

    def _heard(self, cluster: Cluster | None) -> bool:
        """Whether the listener of a cluster listens to the head that it has now."""
        return cluster is not None and self._heads.get(cluster.id) == cluster.heads

    async def _lose_jobs(self, clusters: Collection[str] | None) -> None:
        """Jobs of a cluster that was stopped or is gone have ended with it; but those in a stopped queue wait there."""
        for job in await self._store.jobs.bereft(clusters):
            cluster = await self._store.clusters.get(job.cluster_id)
            waits = job.phase is JobPhase.ON_CLUSTER and job.status is JobStatus.PENDING
            if cluster is None or not (waits and cluster.alive):
                how = cluster.phase.value.lower() if cluster else "forgotten"
                lost = job_life.ClusterLost(f"cluster {job.cluster_name} was {how}")
                await self._post.send("job", self._store.jobs, job.id, lost, once=f"lost:{job.id}")

    async def _listen(self, cluster: Cluster) -> None:
        silent = False
        pauses = delays(0.2, ceiling=10.0)
        while True:
            try:
                head = await self._fleet.head(cluster)
                await head.ping()
                await self._catch_up(head, cluster)
                silent, pauses = False, delays(0.2, ceiling=10.0)
                await self._follow(head, cluster)
            except (AgentUnreachable, AgentRefused) as error:
                if not silent:
                    # Whoever was asked has waited for the agent to be started again: now the machine is looked at.
                    event = cluster_life.AgentSilent(str(error))
                    await self._post.send("cluster", self._store.clusters, cluster.id, event)
                silent = True
                await self._lose_with_head(cluster.id)
                await self._clock.sleep(next(pauses))

    async def _lose_with_head(self, cluster_id: str) -> None:
        """The queue of a cluster is on its head: where that machine is gone, no job of it will ever be heard of."""
        cluster = await self._store.clusters.get(cluster_id)
        if cluster is None or cluster.phase is not Phase.DEGRADED:
            return
        head = cluster.head
        if head is not None and head.state is not InstanceState.TERMINATED:
            return
        lost = job_life.ClusterLost(f"the head of cluster {cluster.name} was lost: {cluster.reason}")
        for job in await self._store.jobs.of_cluster(cluster_id):
            if job.phase is not JobPhase.DONE:
                await self._post.send("job", self._store.jobs, job.id, lost, once=f"lost:{job.id}")

    async def _follow(self, head: AgentClient, cluster: Cluster) -> None:
        """Hand on events as they come, until the agent cannot be reached."""
        position = heard = await self._positions.of(cluster)
        early: set[int] = set()
        looked = self._clock.now()
        with self._signals.watch(f"submitted:{cluster.id}") as submitted:
            while True:
                events, after = await head.events(position, _HOLD_S if not early else 0.05)
                touched = {int(str(each["job_id"])) for each in events if each.get("kind") == "job"} | early
                if any(each.get("kind") == "node" for each in events):
                    # The head says that a node is lost: its provider knows what is so.
                    await self._post.send("cluster", self._store.clusters, cluster.id, cluster_life.Due())
                await self._tell_cluster(cluster, events)
                if not events and not early and not 0 <= self._clock.now() - looked < self._pause():
                    # Nothing for a while: look all the same, so that no news is lost for longer than this.
                    looked = self._clock.now()
                    await self._catch_up(head, cluster)
                if touched:
                    early = await self._hand_on(head, await head.jobs(sorted(touched)), cluster)
                if early:
                    # News of a job whose number is not on record yet: its submission is being committed just now.
                    await submitted.changed(0.05)
                position = after
                if position != heard and not early:
                    # Not before what was heard is handed on: after a crash it is to be heard again.
                    heard = position
                    self._positions.heard(cluster, position)
                    if any(each.get("kind") != "job" for each in events):
                        # What happens to the cluster itself is better not heard twice.
                        await self._positions.write()

    def _pause(self) -> float:
        """Seconds between looks at a queue that says nothing: of thousands few are looked at in a second."""
        return min(_CATCH_UP_MOST_S, len(self._listeners) / _CAUGHT_UP)

    async def _tell_cluster(self, cluster: Cluster, events: Sequence[Mapping[str, object]]) -> None:
        """Hand on what events say of the cluster itself."""
        told = [announced(each, cluster) or hook_ended(each, cluster) for each in events]
        for heard_of in [each for each in told if each is not None]:
            await self._post.send("cluster", self._store.clusters, cluster.id, heard_of)
        for each in events:
            _record_span(each, cluster)
            if _stops_itself(each, cluster):
                began = cluster_life.AutostopBegan(bool(each.get("down")))
                await self._post.send("cluster", self._store.clusters, cluster.id, began)

    async def _catch_up(self, head: AgentClient, cluster: Cluster) -> None:
        unended = {
            job.id: job.job_id
            for job in await self._store.jobs.of_cluster(cluster.id)
            if job.phase is not JobPhase.DONE and job.job_id is not None
        }
        if not unended:
            return
        records = await head.jobs(sorted(unended.values()))
        await self._hand_on(head, records, cluster)
        for id in unended.keys() - {str(record.get("key")) for record in records}:
            lost = job_life.ClusterLost("its node no longer knows the job")
            await self._post.send("job", self._store.jobs, id, lost, once=f"lost:{id}")

    async def _hand_on(self, head: AgentClient, records: Sequence[Mapping[str, object]], cluster: Cluster) -> set[int]:
        """Post what is new; numbers of jobs that cannot take news yet."""
        early = set()
        for record in records:
            job = await self._store.jobs.get(str(record.get("key")))
            if job is None or job.cluster_id != cluster.id:
                continue
            news, number = reported(record), int(str(record["job_id"]))
            if job.phase is JobPhase.DONE:
                if not news.status.is_terminal():
                    # Given up here, as undeliverable say, and there all the same: what was called over must not run.
                    await head.cancel([number])
            elif job.phase not in (JobPhase.ON_CLUSTER, JobPhase.CANCELLING):
                early.add(number)
            elif differs(job, news):
                await self._post.send("job", self._store.jobs, job.id, news)
        return early


def _record_span(event: Mapping[str, object], cluster: Cluster) -> None:
    """A span that the head has measured, handed on; after a crash it may be told twice."""
    recorder, parent = TRACING.recorder, traceparent_of(event.get("traceparent"))
    begun, end = _seconds(event.get("begun")), _seconds(event.get("end"))
    if event.get("kind") == "span" and recorder is not None and parent and begun is not None and end is not None:
        about: dict[str, Value] = {
            "sky.cluster": cluster.id,
            "sky.rank": 0,
            "sky.outcome": str(event.get("outcome"))[:40],
        }
        name, failed = f"agent {str(event.get('name'))[:40]}", bool(event.get("failed"))
        recorder.ended(name, parent, begun, max(begun, end), about, failed=failed)


def _stops_itself(event: Mapping[str, object], cluster: Cluster) -> bool:
    """Whether an event says that the cluster is stopping by itself now, and not before it was last started."""
    told = _seconds(event.get("time"))
    stale = told is not None and cluster.launched_at is not None and told < cluster.launched_at
    return event.get("kind") == "autostop" and event.get("status") == "AUTOSTOPPING" and not stale


def announced(event: Mapping[str, object], cluster: Cluster) -> cluster_life.NoticeHeard | None:
    """What an event says of a machine's end that is announced; None for one of another kind, or of an earlier life."""
    at, deadline, rank = _seconds(event.get("at")), _seconds(event.get("deadline")), event.get("rank")
    stale = at is not None and cluster.launched_at is not None and at < cluster.launched_at
    if event.get("kind") != "notice" or stale:
        return None
    ahead = deadline - at if deadline is not None and at is not None else None
    return cluster_life.NoticeHeard(rank if isinstance(rank, int) else 0, str(event.get("what"))[:40], ahead)


def hook_ended(event: Mapping[str, object], cluster: Cluster) -> cluster_life.HookEnded | None:
    """What an event says of something that was done because a machine goes; None for one of another kind."""
    at, rank, number = _seconds(event.get("at")), event.get("rank"), event.get("of_job")
    stale = at is not None and cluster.launched_at is not None and at < cluster.launched_at
    if event.get("kind") != "hook" or stale:
        return None
    whose = f"job {number}: " if isinstance(number, int) else ""
    said = f"{whose}{str(event.get('text'))[:1000]}"
    return cluster_life.HookEnded(str(event.get("status"))[:40], rank if isinstance(rank, int) else 0, said)


def reported(record: Mapping[str, object]) -> job_life.Reported:
    """The agent's record of a job as an event. Raises ValueError on a status that is not one."""
    codes = record.get("exit_codes")
    return job_life.Reported(
        status=JobStatus(str(record.get("status"))),
        start_at=_seconds(record.get("start_at")),
        end_at=_seconds(record.get("end_at")),
        exit_codes=tuple(int(code) for code in codes) if isinstance(codes, list) else (),
        reason=str(record["reason"]) if record.get("reason") else None,
        seen=_seen(facts := _mapping(record.get("facts"))),
        cause=FailureCause(str(facts["cause"])) if facts.get("cause") in _CAUSES else None,
    )


def _seen(facts: Mapping[str, object]) -> Seen:
    """What a node says that it sees, as far as it has the right shape."""
    progress, found, concerns = _seconds(facts.get("progress")), None, facts.get("concerns")
    given = _mapping(facts.get("checkpoint"))
    at, size = _seconds(given.get("at")), _seconds(given.get("bytes"))
    if at is not None and size is not None and 0 <= size < 1e18:
        found = CheckpointSeen(str(given.get("name"))[:200], at, int(size), given.get("whole") is not False)
    return Seen(
        progress=progress if progress is not None and 0 <= progress <= 1 else None,
        progress_at=_seconds(facts.get("progress_at")),
        checkpoint=found,
        concerns=tuple(each for each in _CONCERNS if isinstance(concerns, list) and each in concerns),
        noticed_at=_seconds(facts.get("noticed_at")),
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def differs(job: Job, news: job_life.Reported) -> bool:
    """Whether the news says anything that the record does not."""
    if news.seen not in (job.seen, NOTHING_SEEN):
        return True
    return (job.status, job.start_at, job.end_at) != (news.status, news.start_at, news.end_at)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
