"""Wakes managed jobs, and pools, when their clusters or their jobs there move on. Run by `plane`."""

import asyncio
import logging

from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import managed_events as events
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.managed_jobs import OWNED, Stage
from sky.core.model.pools import OWNED as POOL
from sky.core.model.statuses import JobStatus
from sky.core.policy import pacing
from sky.engine.desk import Desk
from sky.engine.duties import Alone, Duties
from sky.engine.managed_jobs import KEY
from sky.engine.pools import Calls
from sky.engine.waiting import apart

log = logging.getLogger(__name__)

#: Seconds between looks for jobs whose wake-up was lost, at least, and how many are found at a time.
_NET_S, _MOST_FOUND = 10.0, 1000


class Nudges:
    """Wakes managed jobs when their clusters, or their jobs there, move on.

    Commits tell of it at once; what was missed, by a crash say, is found by comparing rows with what was last seen.
    """

    def __init__(self, desk: Desk, duties: Duties | None = None) -> None:
        self._desk = desk
        self._duties = duties or Alone()
        self._moved: dict[str, None] = {}
        self._calls = Calls(desk)

    def cluster(self, before: Cluster, after: Cluster) -> None:
        """A cluster was committed. What only brings it up is not looked at, but at its end."""
        moved = before.phase is not after.phase and after.phase is not Phase.BOOTSTRAPPING
        if after.owner is None or not (moved or (after.ever_up and before.instances != after.instances)):
            return
        if after.owner.startswith(OWNED):
            self.put(after.owner.removeprefix(OWNED))
        elif after.owner.startswith(POOL):
            self._calls.cluster(after)
            self._desk.signals.ring("managed_jobs:moved")

    def job(self, before: Job, after: Job) -> None:
        """A job on a cluster was committed: of interest is that it runs, and that it is over."""
        if after.status is not JobStatus.RUNNING and after.phase is not JobPhase.DONE:
            return
        if (before.status, before.phase, before.start_at) == (after.status, after.phase, after.start_at):
            return
        if after.request_id.startswith(KEY):
            self.put(after.request_id.removeprefix(KEY).partition(":")[0])
        elif after.request_id.startswith(POOL):
            self._calls.job(after)
            self._desk.signals.ring("managed_jobs:moved")

    def put(self, id: str) -> None:
        """What is of interest to this managed job has changed."""
        self._moved[id] = None
        self._desk.signals.ring("managed_jobs:moved")

    async def run(self) -> None:
        """Until cancelled."""
        clock = self._desk.clock
        loop = asyncio.get_running_loop()
        next_net = loop.time()
        with self._desk.signals.watch("managed_jobs:moved") as change:
            while True:
                try:
                    await self._post()
                    if (begun := loop.time()) >= next_net:
                        next_net = begun + _NET_S
                        await self.net()
                        next_net = begun + apart(_NET_S, loop.time() - begun)
                except Exception:  # a full disk, say: the next round may do better, and none may be the last
                    log.exception("managed jobs cannot be woken just now")
                    await clock.sleep(1.0)
                await change.changed(max(0.0, next_net - loop.time()))

    async def _post(self) -> None:
        moved, self._moved = self._moved, {}
        rows = self._desk.store.managed_jobs
        await self._desk.post.send_all("managed_job", rows, list(moved), events.Changed())
        await self._calls.post()

    async def net(self) -> None:
        """Find those whose wake-up was lost, and clusters that no managed job needs any more."""
        if not self._duties.has("sweep"):
            return
        await self._calls.net()
        store = self._desk.store
        found = await store.managed_jobs.moved(_MOST_FOUND)
        await self._desk.post.send_all("managed_job", store.managed_jobs, found, events.Changed())
        for cluster_id, id in await store.managed_jobs.stray_clusters():
            owner, cluster = await store.managed_jobs.get(id), await store.clusters.get(cluster_id)
            if cluster is None or cluster.phase is Phase.TERMINATING:
                continue
            living = owner is not None and owner.stage is not Stage.DONE
            if owner is not None and living and cluster_id in pacing.awaited(owner.pace, owner.at, owner.attempt):
                continue
            if owner is not None and owner.kept:
                await self._desk.tell(cluster, cluster_life.Released())
                continue
            log.warning("ending cluster %s: the managed job that had it does not need it any more", cluster.name)
            await self._desk.tell(cluster, cluster_life.DownAsked())
