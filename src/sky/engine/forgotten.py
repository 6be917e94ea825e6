"""Ends what a power failure has made the records forget. Asked by `provision` before it makes machines.

SQLite's file is whole after a power failure, and may lack the last seconds: then a cluster is on record as it was
before its newest attempt, whose machines carry its mark and are known to nobody. The sweep takes them for the cluster's
own. So from such a start of the system on, machines of an older cluster are made only where nothing else is left of it.
What the very attempt that was under way had made goes too; that is the price, once for each cluster and cloud.
"""

import logging
from collections.abc import Iterable, Sequence

from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.lifecycle.placing import HEDGED
from sky.core.model.clusters import Cluster, InstanceState, Site
from sky.core.ports import Providers, Store
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: The values that say in which run of the system the records were used last, and when the newest one began.
_BOOT, _DOUBT = "boot", "boot-at"
#: Seconds after a start in which a cluster that is new on record may have been there before, and for which machines
#: that were just made may be missing in a cloud's list.
_AGAIN_S, _LAG_S = 600.0, 10.0


class Forgotten:
    """See the module. `boot` names the run of the system; empty where records do not suffer with it."""

    def __init__(self, store: Store, providers: Providers, clock: Clock, boot: str) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._boot = boot
        self._since: float | None = None
        self._looked: set[tuple[str, str]] = set()

    async def begin(self) -> None:
        """Find out whether the system was started anew since the records were used last. Before anything is driven."""
        if not self._boot:
            return
        known, told = await self._store.get_value(_BOOT), await self._store.get_value(_DOUBT)
        if known != self._boot:
            if known is not None:
                log.warning("the system was started anew: the last seconds of the records may be missing")
                told = repr(self._clock.now())
                await self._store.set_value(_DOUBT, told)
            await self._store.set_value(_BOOT, self._boot)
            await self._store.durable()
        self._since = None if told is None else float(told)

    def doubts(self, cluster: Cluster) -> bool:
        """Whether there may be machines of this cluster that its record does not know."""
        return self._since is not None and cluster.created_at < self._since + _AGAIN_S

    async def end(self, cluster: Cluster, clouds: Iterable[str]) -> dict[str, ProviderFailure]:
        """End what is left of a cluster on these clouds before it begins there anew; where that failed, and how."""
        failed: dict[str, ProviderFailure] = {}
        for cloud in sorted(set(clouds)):
            if not self.doubts(cluster) or (cluster.id, cloud) in self._looked:
                continue
            assert self._since is not None
            await self._clock.sleep(max(0.0, self._since + _LAG_S - self._clock.now()))
            try:
                await self._end_at(cluster, cloud)
            except ProviderFailure as failure:
                failed[cloud] = failure
            except NotSupportedError:
                continue  # nothing was ever made there
            else:
                self._looked.add((cluster.id, cloud))
        return failed

    async def _end_at(self, cluster: Cluster, cloud: str) -> None:
        compute = self._providers.compute(cloud)
        alive = {
            each.cluster_id
            for each in await compute.list()
            if each.state is not InstanceState.TERMINATED and each.cluster_id.partition(HEDGED)[0] == cluster.id
        }
        for mark in sorted(alive):
            log.warning("%s: ending what %s has of it since before the power failed", cluster.name, cloud)
            await compute.terminate(mark)

    async def end_ranks(self, cluster: Cluster, site: Site, ranks: Sequence[int]) -> None:
        """End what is left of these nodes before they are made anew. Raises ProviderFailure."""
        if self.doubts(cluster) and ranks:
            await self._providers.compute(site.cloud).terminate(site.mark, regions=[site.region], ranks=ranks)
