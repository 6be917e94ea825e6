"""Compares what providers list with what is on record, in both directions; nothing that costs money may be unowned.

A machine without a living record is ended after a grace (its record may be about to be written elsewhere); a record
without machines is looked at again, and its own table decides.
"""

import logging

from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.lifecycle import clusters as life
from sky.core.model.clusters import InstanceState, Phase
from sky.core.model.statuses import RequestStatus
from sky.core.ports import Providers, Store
from sky.engine.post import Post
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: Seconds between sweeps, and for how many of them in a row a machine must be unowned before it is ended.
PERIOD_S = 60.0
_STRIKES = 2


class Sweep:
    """The slow loop under all others."""

    def __init__(self, store: Store, providers: Providers, post: Post, clock: Clock) -> None:
        self._store = store
        self._providers = providers
        self._post = post
        self._clock = clock
        self._unowned: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Sweep at once and then each period, until cancelled."""
        while True:
            try:
                await self.once()
                await self.call_off()
            except Exception:  # a sweep that fails may find a better hour; none would be the last word on what costs
                log.exception("sweep: cannot be carried out just now")
            await self._clock.sleep(PERIOD_S)

    async def once(self) -> list[str]:
        """One round over all providers; ids of the clusters whose machines were ended for want of an owner."""
        ended = []
        for cloud in self._providers.names():
            try:
                ended += await self._cloud(cloud)
            except (ProviderFailure, NotSupportedError) as error:
                log.info("sweep: %s could not be listed: %s", cloud, error)
        return ended

    async def call_off(self) -> list[str]:
        """End clusters that were never up and whose launch was called off; ids of those.

        Whoever calls a launch off ends its cluster at once; this finds what was opened in that very moment.
        """
        ended = []
        for cluster in await self._store.clusters.living():
            if cluster.ever_up or cluster.request_id is None or cluster.phase is Phase.TERMINATING:
                continue
            request = await self._store.requests.get(cluster.request_id)
            if request is not None and request.status is RequestStatus.CANCELLED:
                await self._post.send("cluster", self._store.clusters, cluster.id, life.DownAsked())
                ended.append(cluster.id)
        return ended

    async def _cloud(self, cloud: str) -> list[str]:
        compute = self._providers.compute(cloud)
        listed = {each.cluster_id: each for each in await compute.list() if each.state is not InstanceState.TERMINATED}
        living = {each.id: each for each in await self._store.clusters.living()}
        strangers = {(cloud, id) for id in listed if id not in living}
        self._unowned = {
            key: count for key, count in self._unowned.items() if key[0] != cloud or key in strangers
        }  # fmt: skip
        ended = []
        for key in strangers:
            self._unowned[key] = self._unowned.get(key, 0) + 1
            on_record = await self._store.clusters.get(key[1])
            if on_record is not None or self._unowned[key] >= _STRIKES:
                log.warning("sweep: ending machines of %s on %s: no living record owns them", key[1], cloud)
                await compute.terminate(key[1])
                ended.append(key[1])
        for cluster in living.values():
            here = cluster.placement is not None and cluster.placement.offer.cloud == cloud
            if here and cluster.phase is Phase.UP and cluster.id not in listed:
                await self._post.send("cluster", self._store.clusters, cluster.id, life.Due())
        return ended
