"""Deletes what is over; called by `sqlite` for `engine.retention`. Small batches, so that nobody waits for long."""

from sqlalchemy import Connection, delete, or_, select

from sky.store.schema import CLUSTERS, JOBS, REQUESTS, STORIES, VALUES

_BATCH = 200
#: Notes of autostops that a launch met, at most; see `engine/launch.py`.
_MOST_AUTOSTOPS = 10
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


def forget(connection: Connection, requests_before: float, clusters_before: float) -> list[str]:
    """One batch of ended requests, with their stories and notes; also stories and jobs of clusters long gone.

    The ids of the requests. A request whose cluster lives is kept: it tells how the cluster came up.
    """
    c = REQUESTS.c
    needed = select(CLUSTERS.c.request_id).where(CLUSTERS.c.living, CLUSTERS.c.request_id.is_not(None))
    old = c.status.in_(_ENDED) & (c.finished_at < requests_before) & c.id.not_in(needed)
    ids = list(connection.execute(select(c.id).where(old).limit(_BATCH)).scalars())
    connection.execute(delete(REQUESTS).where(c.id.in_(ids)))
    connection.execute(delete(STORIES).where(STORIES.c.entity == "request", STORIES.c.entity_id.in_(ids)))
    connection.execute(delete(VALUES).where(VALUES.c.key.in_([f"request-cluster:{id}" for id in ids])))
    met = [f"autostop:{id}:{number}" for id in ids for number in range(_MOST_AUTOSTOPS)]
    connection.execute(delete(VALUES).where(VALUES.c.key.in_(met)))
    _forget_clusters(connection, clusters_before)
    return ids


def _forget_clusters(connection: Connection, before: float) -> None:
    ended = [f"heard:{id}" for id in _ids(connection, ~CLUSTERS.c.living, VALUES.c.key == "heard:" + CLUSTERS.c.id)]
    connection.execute(delete(VALUES).where(VALUES.c.key.in_(ended)))
    done = select("lost:" + JOBS.c.id).where(JOBS.c.phase == "DONE")
    connection.execute(delete(VALUES).where(VALUES.c.key.startswith("lost:"), VALUES.c.key.in_(done)))
    told = STORIES.c.entity_id == CLUSTERS.c.id
    worked = JOBS.c.cluster_id == CLUSTERS.c.id
    for link in (told, worked):
        gone = _ids(connection, CLUSTERS.c.ended_at < before, link)
        jobs = select(JOBS.c.id).where(JOBS.c.cluster_id.in_(gone))
        connection.execute(
            delete(STORIES).where(
                or_(
                    (STORIES.c.entity == "cluster") & STORIES.c.entity_id.in_(gone),
                    (STORIES.c.entity == "job") & STORIES.c.entity_id.in_(jobs),
                )
            )
        )
        connection.execute(delete(JOBS).where(JOBS.c.cluster_id.in_(gone)))


def _ids(connection: Connection, *where: object) -> list[str]:
    query = select(CLUSTERS.c.id).where(*where).distinct().limit(_BATCH)  # type: ignore[arg-type]
    return list(connection.execute(query).scalars())


def uploads_of_open(connection: Connection) -> list[str]:
    """Documents (JSON) of requests and jobs that have not ended."""
    requests = select(REQUESTS.c.doc).where(REQUESTS.c.status.not_in(_ENDED))
    jobs = select(JOBS.c.doc).where(JOBS.c.phase != "DONE")
    return [*connection.execute(requests).scalars(), *connection.execute(jobs).scalars()]
