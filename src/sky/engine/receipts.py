"""Receipts of managed jobs and of clusters, from the ledger and what is on record of them; asked through `plane`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sky.core.model.clusters import Cluster
from sky.core.model.ledger import Entry, Line
from sky.core.model.managed_jobs import OWNED, ManagedJob
from sky.core.model.offers import Placement
from sky.core.policy.receipts import Receipt, Run, receipt, second_best
from sky.core.ports import Store
from sky.kit.clock import Clock


class Receipted(NamedTuple):
    """A receipt with the lines that it is made of."""

    receipt: Receipt
    lines: Sequence[Line]


class Receipts:
    """See the module."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of_job(self, job: ManagedJob) -> Receipted:
        """What a managed job has cost, over all of its clusters and those of its members."""
        owners = [job.id] if job.group is None else [each.id for each in job.group.members]
        lines = [line for id in owners for line in await self._store.ledger.of_origin(f"{OWNED}{id}")]
        turns = {
            f"{OWNED}{owners[0] if job.group is None else owners[at]}:{number}": at
            for at, task in enumerate(job.tasks)
            for number in task.attempts
        }
        return await self._made(lines, turns, ran=any(task.started_at is not None for task in job.tasks))

    async def of_cluster(self, cluster: Cluster) -> Receipted:
        """What a cluster has cost."""
        lines = await self._store.ledger.of_clusters([cluster.id])
        return await self._made(lines, {}, ran=cluster.ever_up, with_recoveries=False)

    async def cluster(self, name: str) -> Cluster | None:
        """The living cluster of this name, else the newest that had it."""
        living = await self._store.clusters.by_name(name)
        if living is not None:
            return living
        ever = [each for each in await self._store.clusters.since(0.0) if each.name == name]
        return max(ever, key=lambda each: each.created_at, default=None)

    async def _made(
        self, lines: Sequence[Line], turns: Mapping[str, int], *, ran: bool, with_recoveries: bool = True
    ) -> Receipted:
        now = self._clock.now()
        entries = [line.entry for line in lines]
        runs: list[Run] = []
        for id in dict.fromkeys(entry.cluster_id for entry in entries):
            for job in await self._store.jobs.of_cluster(id):
                if job.start_at is not None:
                    task = turns.get(job.request_id, 0) if with_recoveries else None
                    runs.append(Run(id, job.start_at, job.end_at, task))
        # Of one that ran long ago it is forgotten when: no runs on record do not mean that it never ran.
        known = None if ran and not runs else runs
        return Receipted(receipt(entries, known, await self._second(entries), now), lines)

    async def _second(self, entries: Sequence[Entry]) -> Placement | None:
        for id in dict.fromkeys(entry.cluster_id for entry in entries):
            cluster = await self._store.clusters.get(id)
            if cluster is not None and cluster.planned:
                return second_best(cluster.planned, entries)
        return None
