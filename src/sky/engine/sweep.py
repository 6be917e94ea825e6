"""Compares what providers list with what is on record, in both directions; nothing that costs money may be unowned.

A machine without a living record is ended after a grace (its record may be about to be written elsewhere); a record
without machines is looked at again, and its own table decides.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable

from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.billing import outlived
from sky.core.model.clusters import Cluster, InstanceState, Phase, Site
from sky.core.model.ledger import Settlement
from sky.core.model.statuses import RequestStatus
from sky.core.ports import ClonesDisks, Providers, Regional, Remnants, Store
from sky.engine.duties import BEAT_S, Alone, Duties
from sky.engine.ledger import Listed, Settling, swept_key
from sky.engine.post import Post
from sky.engine.quarantine import Quarantine
from sky.engine.remnants import Left
from sky.kit.clock import Clock

log = logging.getLogger(__name__)

#: Seconds between sweeps, and for how many of them in a row a machine must be unowned before it is ended.
PERIOD_S = 60.0
_STRIKES = 2
#: Every how many sweeps all regions of a cloud are looked through, and for how long one that was used is remembered.
_EVERYWHERE = 60
#: Every how many sweeps images of disks are looked at: they cost little, and their launch removes them.
_IMAGES = 5
_RECENT_S = 7 * 86400.0


class Sweep:
    """The slow loop under all others."""

    def __init__(
        self,
        store: Store,
        providers: Providers,
        post: Post,
        clock: Clock,
        listed: Listed,
        *,
        usable: Callable[[str], bool] = lambda cloud: False,
        duties: Duties | None = None,
        quarantine: Quarantine | None = None,
        doubts: Callable[[Cluster], bool] = lambda cluster: False,
    ) -> None:
        """`usable` says of a place whether it could be used when it was asked last; `duties` whether it is our turn.

        `listed` tells what machines cost now, `quarantine` what is left alone after a restore, `doubts` of which
        clusters there may be machines that no record tells of.
        """
        self._store = store
        self._providers = providers
        self._post = post
        self._clock = clock
        self._unowned: dict[tuple[str, str], int] = {}
        self._images_left: dict[str, set[str]] = {}
        self._left = Left()
        self._rounds = 0
        self._usable = usable
        self._duties = duties or Alone()
        self._quarantine = quarantine or Quarantine(store, clock, lambda name: {})
        self._settling = Settling(store, providers, clock, listed, doubts)
        self._swept: set[str] = set()

    async def run(self) -> None:
        """Sweep at once and then each period, until cancelled."""
        while True:
            if not self._duties.has("sweep"):
                await self._clock.sleep(BEAT_S)
                continue
            try:
                await self.once()
                await self.call_off()
                await self._settling.once(self._swept)
            except Exception:  # a sweep that fails may find a better hour; none would be the last word on what costs
                log.exception("sweep: cannot be carried out just now")
            await self._clock.sleep(PERIOD_S)

    async def once(self) -> list[str]:
        """One round over all providers; ids of the clusters whose machines were ended for want of an owner."""
        ended = []
        everywhere = self._rounds % _EVERYWHERE == 0
        self._rounds += 1
        used = await self._used()
        for cloud in self._providers.names():
            try:
                likely = self._providers.likely(cloud) or self._usable(cloud)
                if not likely and cloud not in used:
                    # Nobody uses it: its library need not even be loaded.
                    continue
                self._swept.add(cloud)
                ended += await self._cloud(cloud, everywhere=everywhere)
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

    async def _cloud(self, cloud: str, *, everywhere: bool) -> list[str]:
        compute = self._providers.compute(cloud)
        look_at_images = isinstance(compute, ClonesDisks) and self._rounds % _IMAGES == 1
        regions = (await self._used())[cloud] if isinstance(compute, Regional) and not everywhere else None
        found = await compute.list(regions=regions)
        listed = {each.cluster_id for each in found if each.state is not InstanceState.TERMINATED}
        well = Counter(
            each.cluster_id for each in found if each.state in (InstanceState.RUNNING, InstanceState.PENDING)
        )  # fmt: skip
        # Read after the list: where machines may be is on record before they are made.
        living = await self._store.clusters.living()
        owned = {site.mark for cluster in living for site in cluster.where if site.cloud == cloud}
        kept = {mark for mark in listed - owned if await self._quarantine.keeps(mark)}
        await self._quarantine.note(cloud, found, kept, regions is None)
        strangers = [(cloud, mark) for mark in sorted(listed - owned - kept)]
        self._unowned = {
            key: count
            for key, count in self._unowned.items()
            # Where nobody looked this time, nothing was seen to be gone.
            if key[0] != cloud or key in strangers or (regions is not None and key[1] not in owned)
        }
        ended = []
        for key in strangers:
            self._unowned[key] = self._unowned.get(key, 0) + 1
            on_record = await self._store.clusters.get(key[1].partition(life.HEDGED)[0])
            over = on_record is not None and not on_record.alive
            if over or self._unowned[key] >= _STRIKES:
                log.warning("sweep: ending machines of %s on %s: no living record owns them", key[1], cloud)
                try:
                    await compute.terminate(key[1], regions=regions)
                except (ProviderFailure, NotSupportedError) as error:
                    # The others, and the clusters that lost their machines, do not wait for this one.
                    log.warning("sweep: %s on %s is not ended yet: %s", key[1], cloud, error)
                    continue
                self._unowned.pop(key, None)
                ended.append(key[1])
                await self._tell(key[1], f"machines on {cloud}", cloud)
        for cluster in living:
            site = cluster.site
            ours = site is not None and site.cloud == cloud and cluster.phase is Phase.UP
            if site is not None and ours and well[site.mark] < cluster.num_nodes:
                await self._post.send("cluster", self._store.clusters, cluster.id, life.Due())
        if look_at_images and isinstance(compute, ClonesDisks):
            await self._images(cloud, compute, regions)
        if self._rounds % _IMAGES == 1 and isinstance(compute, Remnants):
            await self._remnants(cloud, compute, listed, regions)
        return ended

    async def _remnants(self, cloud: str, compute: Remnants, listed: set[str], regions: set[str] | None) -> None:
        """Remove what outlived clusters, and enter it where it cost something."""
        # Listed first, as machines are; a cluster's own teardown removes what is its.
        there = await compute.remnants(regions=regions)
        alive = await self._store.clusters.living()
        marks = {site.mark for each in alive for site in each.where} | listed
        marks |= {mark for mark in {each.mark for each in there} - marks if await self._quarantine.keeps(mark)}
        for gone in await self._left.remove(cloud, compute, marks, there, regions):
            cluster = await self._tell(gone.mark, f"{gone.kind} {gone.name} on {cloud}")
            what = (gone.kind, gone.name, gone.mark, gone.region)
            line = outlived(cluster, cloud, what, gone.since, self._clock.now())
            if line is not None:
                await self._store.ledger.settle(Settlement(missing=(line,)))

    async def _tell(self, mark: str, what: str, cloud: str = "") -> Cluster | None:
        """Tell in the story of the cluster, if there is a record of it; that record."""
        id = mark.partition(life.HEDGED)[0]
        cluster = await self._store.clusters.get(id)
        if cluster is not None:
            await self._post.send("cluster", self._store.clusters, id, life.Swept(what, cloud))
        elif cloud:
            # Its record was lost with the power; whose id it was may launch once more under the same.
            await self._store.set_value(swept_key(id), cloud)
        return cluster

    async def _images(self, cloud: str, compute: ClonesDisks, regions: set[str] | None) -> None:
        """Remove images of disks that no launch waits for. Each is seen twice before, as machines are."""
        until = await self._quarantine.until()
        if until is not None and self._clock.now() < until:
            return  # a launch that waits for one may be unknown to what was restored
        needed = {each.clone_of for each in await self._store.clusters.living() if each.clone_of}
        left = {each.name: each for each in await compute.images(regions=regions) if each.name not in needed}
        for name, image in list(left.items()):
            request = await self._store.requests.get(image.key)
            if request is not None and not request.status.is_terminal():
                del left[name]
        seen = self._images_left.get(cloud, set())
        self._images_left[cloud] = set(left)
        for name in sorted(set(left) & seen):
            log.warning("sweep: removing the image %s on %s: no launch needs it", name, cloud)
            where = [left[name].region] if left[name].region else regions
            try:
                await compute.remove_image(name, regions=where)
            except (ProviderFailure, NotSupportedError) as error:
                log.warning("sweep: the image %s on %s is not removed yet: %s", name, cloud, error)

    async def _used(self) -> defaultdict[str, set[str]]:
        """Which regions of each cloud were used of late: a look around the world each minute would be many calls."""
        used: defaultdict[str, set[str]] = defaultdict(set)
        for cluster in await self._store.clusters.since(self._clock.now() - _RECENT_S):
            last = last_placed(cluster)
            for site in (*cluster.where, *((last,) if last is not None else ())):
                used[site.cloud].add(site.region)
            for refusal in cluster.refusals:
                cloud, _, rest = refusal.place.partition("/")
                if rest:
                    used[cloud].add(rest.partition("/")[0])
        return used


def last_placed(cluster: Cluster) -> Site | None:
    """Where a cluster was when it ended, which its sites no longer tell."""
    offer = cluster.placement.offer if cluster.placement else None
    return Site(offer.cloud, offer.region, cluster.id) if offer else None
