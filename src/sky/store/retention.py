"""Deletes what is over; called by `records` for `engine.retention`. Small batches, so that nobody waits for long."""

from sqlalchemy import delete, or_, select

from sky.store.database import Transaction
from sky.store.schema import ALIVE, CLUSTERS, JOBS, MANAGED_JOBS, POOLS, REQUESTS, STORIES, VALUES
from sky.store.talk import NOUN

_BATCH = 200
#: Notes of autostops that a launch met, at most; see `engine/launch.py`.
_MOST_AUTOSTOPS = 10
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


async def forget(tx: Transaction, requests_before: float, clusters_before: float) -> list[str]:
    """One batch of ended requests, with their stories and notes; also stories and jobs of clusters long gone.

    The ids of the requests. A request whose cluster lives is kept: it tells how the cluster came up.
    """
    c = REQUESTS.c
    needed = select(CLUSTERS.c.request_id).where(ALIVE, CLUSTERS.c.request_id.is_not(None))
    old = c.status.in_(_ENDED) & (c.finished_at < requests_before) & c.id.not_in(needed)
    ids = [id for (id,) in await tx.all(select(c.id).where(old).limit(_BATCH))]
    await tx.change(delete(REQUESTS).where(c.id.in_(ids)))
    await tx.change(delete(STORIES).where(STORIES.c.entity.in_(("request", NOUN)), STORIES.c.entity_id.in_(ids)))
    notes = [f"{word}:{id}" for id in ids for word in ("request-cluster", "pools-of", "pool")]
    await tx.change(delete(VALUES).where(VALUES.c.key.in_(notes)))
    met = [f"autostop:{id}:{number}" for id in ids for number in range(_MOST_AUTOSTOPS)]
    await tx.change(delete(VALUES).where(VALUES.c.key.in_(met)))
    await _forget_clusters(tx, clusters_before)
    return ids


async def _forget_clusters(tx: Transaction, before: float) -> None:
    ended = [f"heard:{id}" for id in await _ids(tx, ~CLUSTERS.c.living, VALUES.c.key == "heard:" + CLUSTERS.c.id)]
    await tx.change(delete(VALUES).where(VALUES.c.key.in_(ended)))
    done = select("lost:" + JOBS.c.id).where(JOBS.c.phase == "DONE")
    await tx.change(delete(VALUES).where(VALUES.c.key.startswith("lost:"), VALUES.c.key.in_(done)))
    told = STORIES.c.entity_id == CLUSTERS.c.id
    worked = JOBS.c.cluster_id == CLUSTERS.c.id
    for link in (told, worked):
        gone = await _ids(tx, CLUSTERS.c.ended_at < before, link)
        jobs = select(JOBS.c.id).where(JOBS.c.cluster_id.in_(gone))
        await tx.change(
            delete(STORIES).where(
                or_(
                    (STORIES.c.entity == "cluster") & STORIES.c.entity_id.in_(gone),
                    (STORIES.c.entity == "job") & STORIES.c.entity_id.in_(jobs),
                )
            )
        )
        await tx.change(delete(JOBS).where(JOBS.c.cluster_id.in_(gone)))


async def _ids(tx: Transaction, *where: object) -> list[str]:
    query = select(CLUSTERS.c.id).where(*where).distinct().limit(_BATCH)  # type: ignore[arg-type]
    return [id for (id,) in await tx.all(query)]


async def forget_managed_jobs(tx: Transaction, before: float) -> list[int]:
    """One batch of managed jobs that ended before then, with their stories; their numbers."""
    old = select(MANAGED_JOBS.c.id, MANAGED_JOBS.c.number).where(MANAGED_JOBS.c.ended_at < before).limit(_BATCH)
    found = await tx.all(old)
    ids = [id for id, _ in found]
    await tx.change(delete(STORIES).where(STORIES.c.entity == "managed_job", STORIES.c.entity_id.in_(ids)))
    await tx.change(delete(MANAGED_JOBS).where(MANAGED_JOBS.c.id.in_(ids)))
    pools = [id for (id,) in await tx.all(select(POOLS.c.id).where(POOLS.c.ended_at < before).limit(_BATCH))]
    await tx.change(delete(STORIES).where(STORIES.c.entity == "pool", STORIES.c.entity_id.in_(pools)))
    await tx.change(delete(POOLS).where(POOLS.c.id.in_(pools)))
    return [number for _, number in found]


async def documents_of_open(tx: Transaction) -> tuple[list[str], list[str], list[str]]:
    """Documents of requests, of jobs and of managed jobs that have not ended."""
    requests = await tx.all(select(REQUESTS.c.doc).where(REQUESTS.c.status.not_in(_ENDED)))
    jobs = await tx.all(select(JOBS.c.doc).where(JOBS.c.phase != "DONE"))
    managed = await tx.all(select(MANAGED_JOBS.c.doc).where(MANAGED_JOBS.c.ended_at.is_(None)))
    return [doc for (doc,) in requests], [doc for (doc,) in jobs], [doc for (doc,) in managed]
