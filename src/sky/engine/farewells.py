"""Gives the nodes of a cluster notice before the server itself ends what runs there, as a cloud does before it does.

Called by `budgets` before money is spent, and by `managed_jobs` before a job is moved.
"""

import asyncio
import logging

from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.model.clusters import Cluster
from sky.engine.desk import Desk

log = logging.getLogger(__name__)

#: Seconds in which nodes are told; who does not answer by then is not waited for.
_WITHIN_S = 5.0


async def warn(desk: Desk, cluster: Cluster, seconds: float, reason: str) -> None:
    """Tell all nodes that their tasks end in so many seconds. Who cannot be told is ended all the same."""
    log.info("cluster %s is told of its end in %.0f s: %s", cluster.name, seconds, reason)
    try:
        async with asyncio.timeout(_WITHIN_S):
            await desk.fleet.announce(cluster, seconds)
    except (AgentUnreachable, AgentRefused, TimeoutError) as error:
        log.warning("cluster %s could not be told of its end: %s", cluster.name, error)
