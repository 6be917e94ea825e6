"""Settles the ledger with what providers remember, once a cluster is gone; called by `sweep`.

What a commit books is right but for the moments between what happened and the commit, and it cannot know of machines
that an attempt made and took back. A provider that remembers tells both.
"""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from sky.core.errors import NotSupportedError, ProviderFailure, SkyError
from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.billing import LISTED, NO_PRICE, settled
from sky.core.model.clusters import Cluster
from sky.core.model.ledger import Entry, Line, Settlement, Span
from sky.core.ports import Metered, Providers, Store
from sky.kit.clock import Clock
from sky.kit.frozen import replace

log = logging.getLogger(__name__)

#: Seconds after its end in which a cluster is settled: providers forget machines after about an hour.
_WITHIN_S = 3000.0
#: How often a cluster's lines are compared when all of it has ended: a list may lag behind.
_LOOKS = 5


#: What a machine like that of a line costs now, in USD per hour; None where nobody sells it. Raises SkyError.
Listed = Callable[[Entry], Awaitable[float | None]]


class Settling:
    """See the module. `listed` is asked for machines at a price that is on no record any more.

    `doubts` says of which clusters there may have been machines that no record tells of.
    """

    def __init__(
        self, store: Store, providers: Providers, clock: Clock, listed: Listed, doubts: Callable[[Cluster], bool]
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._listed = listed
        self._doubts = doubts
        #: By cluster and its version: one that the sweep found more of is looked at anew.
        self._looks: dict[tuple[str, int], int] = {}

    async def once(self, everywhere: Collection[str] = ()) -> None:
        """Compare the lines of clusters that ended a short while ago, and correct what differs.

        `everywhere` are the clouds that are swept: those of clusters in doubt may have been at any of them.
        """
        recent = await self._store.clusters.since(self._clock.now() - _WITHIN_S)
        ended = {(each.id, each.version): each for each in recent if not each.alive and each.entered}
        self._looks = {key: count for key, count in self._looks.items() if key in ended}
        due = {each.id: each for key, each in ended.items() if self._looks.get(key, 0) < _LOOKS}
        if not due:
            return
        lines: defaultdict[str, list[Line]] = defaultdict(list)
        for line in await self._store.ledger.of_clusters(due):
            lines[line.entry.cluster_id].append(line)
        for id, each in due.items():
            if before := await self._store.get_value(swept_key(id)):
                due[id] = replace(each, swept=(*each.swept, before))
            if self._doubts(each):
                due[id] = replace(due[id], swept=(*due[id].swept, *everywhere))
        places = {id: _places(each, lines[id]) for id, each in due.items()}
        quiet = set(due)
        for cloud in sorted({cloud for found in places.values() for cloud in found}):
            there = [each for id, each in due.items() if cloud in places[id]]
            regions = {region for each in there for region in places[each.id][cloud]}
            anywhere = any(cloud in each.swept for each in there)
            quiet -= await self._settle(cloud, there, lines, None if anywhere else regions)
        for key in [(id, due[id].version) for id in quiet]:
            self._looks[key] = self._looks.get(key, 0) + 1

    async def _settle(
        self, cloud: str, clusters: Iterable[Cluster], lines: Mapping[str, Sequence[Line]], regions: set[str] | None
    ) -> set[str]:
        """Ids of the clusters that are to be looked at again all the same."""
        try:
            compute = self._providers.compute(cloud)
            if not isinstance(compute, Metered):
                return set()
            spans: defaultdict[str, list[Span]] = defaultdict(list)
            for span in await compute.spans(regions=regions):
                spans[span.mark.partition(life.HEDGED)[0]].append(span)
        except (ProviderFailure, NotSupportedError) as error:
            log.info("ledger: %s does not tell what it charged: %s", cloud, error)
            return {each.id for each in clusters}
        again = set()
        for cluster in clusters:
            found = spans[cluster.id]
            settlement = settled(cluster, lines[cluster.id], found, cloud)
            try:
                missing = tuple([await self._priced(each) for each in settlement.missing])
            except SkyError as error:
                log.info("ledger: what machines of %s cost is not told: %s", cluster.name, error)
                again.add(cluster.id)
                continue
            if settlement.corrected or missing:
                await self._store.ledger.settle(Settlement(settlement.corrected, missing))
            if any(span.ended is None for span in found):
                again.add(cluster.id)
        return again

    async def _priced(self, line: Entry) -> Entry:
        """Records that a power failure took may have been the only ones that knew at what price it was ordered."""
        price = await self._listed(line) if line.note == NO_PRICE else None
        return line if price is None else line._replace(price_hourly=price, note=LISTED)


def swept_key(cluster_id: str) -> str:
    """Under which the store keeps where machines were swept whose cluster was on no record then."""
    return f"swept:{cluster_id}"


def _places(cluster: Cluster, lines: Sequence[Line]) -> Mapping[str, set[str]]:
    """Clouds where machines of a cluster may have been, and their regions."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for placement in (cluster.placement, *cluster.beside):
        if placement is not None:
            found[placement.offer.cloud].add(placement.offer.region)
    for site in cluster.where:
        found[site.cloud].add(site.region)
    for refusal in cluster.refusals:
        cloud, *region = refusal.place.split("/")[:2]
        found[cloud].update(region)
    for cloud in cluster.swept:
        found[cloud].update()
    for line in lines:
        found[line.entry.cloud].add(line.entry.region)
    return found
