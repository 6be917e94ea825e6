"""Gets machines for a cluster: one place after another, or several side by side, never more than are kept.

Called by `clusters`, which carries the orders; what comes back are the events of `core.lifecycle.clusters`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sky.core.errors import (
    CapacityRefused,
    ClusterOwnerIdentityMismatchError,
    CredentialsRejected,
    NotSupportedError,
    ProviderDown,
    ProviderFailure,
    QuotaReached,
    Throttled,
)
from sky.core.lifecycle import clusters as life
from sky.core.model.clusters import Cluster, Instance, InstanceState, Site, Stray
from sky.core.model.layers import merge
from sky.core.model.offers import Offer, Placement
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.core.optimizer.equip import equipment
from sky.core.ports import (
    ClonesDisks,
    Compute,
    CreateAsk,
    EndsItself,
    Identified,
    KeepsSize,
    OpensPorts,
    Outcomes,
    PricesExtras,
    Providers,
    Quotas,
    ReplacesNodes,
    Stoppable,
    StopsSome,
)
from sky.engine.forgotten import Forgotten
from sky.kit.backoff import delays, stretched
from sky.kit.clock import Clock
from sky.kit.frozen import replace

log = logging.getLogger(__name__)

#: Times a throttled call is made before the refusal counts, and the most seconds waited for one.
_THROTTLE_TRIES = 6
_THROTTLE_WAIT_S = 60.0
#: Seconds until what is to be ended before the next place is tried is told so again: first, and at most.
_END_AGAIN_S, _END_AGAIN_MOST_S = 2.0, 120.0
#: Seconds for which a place that was had waits for the end of those that were tried beside it.
_LET_GO_S = 15.0
#: Seconds within which the nodes that are replaced are to be had where the others are.
_REPLACE_S = 600.0
#: Refusals that say something about the next time.
_LESSONS = {CapacityRefused: OutcomeKind.REFUSED, QuotaReached: OutcomeKind.QUOTA}
#: Refusals after which nothing that was begun may have been ended: the place answers no more.
_MUTE = (ProviderDown, CredentialsRejected, Throttled)

T = TypeVar("T")
Say = Callable[[Cluster, str], None]
Section = Callable[[str], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Had:
    """A placement that was to be had."""

    site: Site
    placement: Placement
    instances: tuple[Instance, ...]
    identity: str | None


class Provisioner:
    """See the module. `section` gives a place's settings as they are now.

    `say` tells whoever waits for a cluster what is going on in between.
    """

    def __init__(
        self,
        providers: Providers,
        outcomes: Outcomes,
        clock: Clock,
        section: Section,
        say: Say,
        forgotten: Forgotten,
    ) -> None:
        self._providers = providers
        self._forgotten = forgotten
        self._outcomes = outcomes
        self._clock = clock
        self._section = section
        self._say = say
        #: The account of each place, as it was when machines were asked for there last.
        self._identities: dict[str, str] = {}

    async def provision(self, cluster: Cluster, key: str, order: life.Provision) -> object:
        """Carry out an order for new machines: NodesCreated or ProvisionRefused."""
        if order.instead_of is not None:
            await self._end_first(cluster, order.instead_of)
        sides = list(zip((order.placement, *order.beside), cluster.sites, strict=False))
        closed = await self._forgotten.end(cluster, [site.cloud for _, site in sides])
        had, refused, left = await self._first(cluster, key, sides, closed)
        if had is not None:
            return life.NodesCreated(
                had.instances,
                self._priced(cluster, had.placement),
                had.site,
                had.identity,
                tuple(_without(refused, had.placement)),
                left,
            )
        main = next(each for each in refused if each.placement == order.placement)
        return life.ProvisionRefused(main.scope, main.reason, tuple(_without(refused, order.placement)), left)

    async def resume(self, cluster: Cluster, key: str) -> object:
        """Start what is stopped and make anew what is missing: NodesCreated or ProvisionRefused."""
        site, placement = self.owned(cluster), cluster.placement
        assert placement is not None
        try:
            compute = await self.compute_of(cluster)
            there = tuple(await self.patiently(lambda: compute.list(site.mark, regions=[site.region])))
            if any(each.state in (InstanceState.STOPPED, InstanceState.STOPPING) for each in there):
                stoppable = self.stoppable(compute, site)
                there = tuple(await self.patiently(lambda: stoppable.start(site.mark, regions=[site.region])))
            alive = {each.rank for each in there if each.state in (InstanceState.RUNNING, InstanceState.PENDING)}
            missing = tuple(rank for rank in range(cluster.num_nodes) if rank not in alive)
            if not alive and not isinstance(compute, Stoppable):
                self.stoppable(compute, site)
            if missing:
                ask = self._ask(cluster, key, placement, site.mark, missing)
                there = tuple(await self.patiently(lambda: compute.create(ask)))
            return life.NodesCreated(there)
        except ProviderFailure as failure:
            return life.ProvisionRefused(failure.scope, failure.reason)
        except (NotSupportedError, ClusterOwnerIdentityMismatchError) as error:
            return life.ProvisionRefused("request", str(error))

    async def resize(self, cluster: Cluster, key: str, num_nodes: int) -> object:
        """Make the missing nodes or end the last ones: NodesCreated, NodesRemoved or ProvisionRefused."""
        site, placement = self.owned(cluster), cluster.placement
        assert placement is not None
        try:
            compute = await self.compute_of(cluster)
            if num_nodes < cluster.num_nodes:
                gone = range(num_nodes, max(each.rank for each in cluster.instances) + 1)
                await self.patiently(lambda: compute.terminate(site.mark, regions=[site.region], ranks=gone))
                return life.NodesRemoved(tuple(each for each in cluster.instances if each.rank < num_nodes))
            there = await self.patiently(lambda: compute.list(site.mark, regions=[site.region]))
            alive = {each.rank for each in there if each.state is InstanceState.RUNNING}
            # An attempt before this one, in a process that died, may have made some: the same key finds them.
            ranks = tuple(rank for rank in range(num_nodes) if rank >= cluster.num_nodes or rank not in alive)
            await self._forgotten.end_ranks(cluster, site, ranks)
            ask = self._ask(cluster, key, placement, site.mark, ranks)
            return life.NodesCreated(tuple(await self.patiently(lambda: compute.create(ask))))
        except ProviderFailure as failure:
            return life.ProvisionRefused(failure.scope, failure.reason)
        except (NotSupportedError, ClusterOwnerIdentityMismatchError) as error:
            return life.ProvisionRefused("request", str(error))

    async def replace(self, cluster: Cluster, key: str, ranks: tuple[int, ...]) -> object:
        """Make nodes anew where the others are: NodesCreated or ProvisionRefused.

        What a place is asked for too long may still be made: whoever ends the cluster ends it.
        """
        site, placement = self.owned(cluster), cluster.placement
        assert placement is not None
        try:
            compute = await self.compute_of(cluster)
            ask = self._ask(cluster, key, placement, site.mark, ranks)
            await self._forgotten.end_ranks(cluster, site, ranks)
            async with asyncio.timeout(_REPLACE_S):
                return life.NodesCreated(tuple(await self.patiently(lambda: compute.create(ask))))
        except TimeoutError:
            return life.ProvisionRefused("zone", f"it took longer than {_REPLACE_S:.0f} s")
        except ProviderFailure as failure:
            if (kind := _LESSONS.get(type(failure))) is not None:
                await self.learn(placement, kind, failure.reason)
            return life.ProvisionRefused(failure.scope, failure.reason)
        except (NotSupportedError, ClusterOwnerIdentityMismatchError) as error:
            return life.ProvisionRefused("request", str(error))

    def irreplaceable(self, cluster: Cluster) -> str:
        """Why single nodes of a cluster cannot be replaced; empty where they can."""
        site, placement = cluster.site, cluster.placement
        if site is None or placement is None:
            return "it is not known where it is"
        compute = self._providers.compute(site.cloud)
        if not isinstance(compute, ReplacesNodes):
            return f"single nodes are not replaced on {site.cloud}"
        return compute.irreplaceable(placement, self._config(site.cloud, cluster.layers))

    async def image_of(self, cluster: Cluster, key: str) -> str:
        """An image of the disk of a stopped cluster's head, the same for a key.

        Raises NotSupportedError and what `compute_of` raises.
        """
        site, compute = self.owned(cluster), await self.compute_of(cluster)
        if not isinstance(compute, ClonesDisks):
            raise NotSupportedError(f"--clone-disk-from: not supported on {site.cloud}")
        return await self.patiently(lambda: compute.image_of(site.mark, key, regions=[site.region]))

    async def drop_images(self, site: Site, key: str) -> None:
        """Remove what there is of images that were made for a key. What cannot be removed now is found by the sweep."""
        try:
            compute = self._providers.compute(site.cloud)
            if isinstance(compute, ClonesDisks):
                for name in [each.name for each in await compute.images(regions=[site.region]) if each.key == key]:
                    await compute.remove_image(name, regions=[site.region])
        except (ProviderFailure, NotSupportedError) as error:
            log.warning("images on %s/%s are not removed yet: %s", site.cloud, site.region, error)

    async def open_ports(self, cluster: Cluster, ports: Sequence[str]) -> None:
        """Let more ports of a living cluster be reached. Raises NotSupportedError and what `compute_of` raises."""
        site, compute = self.owned(cluster), await self.compute_of(cluster)
        if isinstance(compute, OpensPorts):
            await self.patiently(lambda: compute.open_ports(site.mark, ports, regions=[site.region]))

    async def end_on_shutdown(self, cluster: Cluster, *, ends: bool) -> None:
        """What becomes of machines of a cluster that shut themselves down, where its place can be told.

        Where the account may not say so they are stopped, as everywhere else, and ended by a server that is back.
        Raises what `compute_of` raises.
        """
        site, compute = self.owned(cluster), await self.compute_of(cluster)
        if not isinstance(compute, EndsItself):
            return
        try:
            await self.patiently(lambda: compute.end_on_shutdown(site.mark, ends, regions=[site.region]))
        except CredentialsRejected as refused:
            if not ends:
                raise
            log.warning("%s stops itself instead of going down while no server runs: %s", cluster.name, refused)

    def ends_itself(self, cluster: Cluster) -> bool:
        """Whether the cluster's place has to be told what becomes of machines that shut themselves down."""
        return isinstance(self._providers.compute(self.owned(cluster).cloud), EndsItself)

    async def end(self, site: Site) -> None:
        """End whatever is at a site. Raises ProviderFailure."""
        compute = self._providers.compute(site.cloud)
        await self.patiently(lambda: compute.terminate(site.mark, regions=[site.region]))

    async def _end_first(self, cluster: Cluster, site: Site) -> None:
        """End what a cluster has at a site, however long that takes: nothing is begun beside it, and it costs money."""
        for pause in delays(_END_AGAIN_S, ceiling=_END_AGAIN_MOST_S):
            try:
                await self.end(site)
                return
            except (ProviderFailure, NotSupportedError) as error:
                self._say(cluster, f"what it has on {site.cloud}/{site.region} is not ended yet: {error}; trying again")
            await self._clock.sleep(pause)

    async def compute_of(self, cluster: Cluster) -> Compute:
        """The provider that has the cluster, once it is sure that the account is the one that made it.

        Raises ClusterOwnerIdentityMismatchError, NotSupportedError or ProviderFailure.
        """
        compute = self._providers.compute(self.owned(cluster).cloud)
        if cluster.identity is not None and isinstance(compute, Identified):
            now = await self.patiently(compute.identity)
            if now != cluster.identity:
                raise ClusterOwnerIdentityMismatchError(
                    f"Cluster '{cluster.name}' was made on {self.owned(cluster).cloud} as {cluster.identity}; the "
                    f"credentials in use are those of {now}. Nothing was touched. Use the credentials that made it."
                )
        return compute

    def owned(self, cluster: Cluster) -> Site:
        """Where the cluster is. Raises NotSupportedError for one that was never anywhere."""
        if cluster.site is None:
            raise NotSupportedError(f"cluster {cluster.name} was never placed anywhere")
        return cluster.site

    def check_stoppable(self, cluster: Cluster) -> None:
        """Raise NotSupportedError for a cluster whose place cannot stop machines, before anything is done to it."""
        if cluster.site is not None:
            self.stoppable(self._providers.compute(cluster.site.cloud), cluster.site)
            placement, made = cluster.placement, cluster.instances
            if placement is not None and (why := self.unstoppable(placement.offer, cluster.layers, made)):
                raise NotSupportedError(why)

    def check_resizable(self, cluster: Cluster, num_nodes: int) -> None:
        """Raise NotSupportedError for a cluster that keeps its number of nodes, before anything is done to it."""
        if cluster.site is not None:
            compute = self._providers.compute(cluster.site.cloud)
            if isinstance(compute, KeepsSize) and (why := compute.unresizable(cluster.num_nodes, num_nodes)):
                raise NotSupportedError(f"Cluster '{cluster.name}' keeps its {cluster.num_nodes} nodes: {why}")

    def unstoppable(
        self, offer: Offer, layers: Mapping[str, object] | None = None, made: Sequence[Instance] = ()
    ) -> str | None:
        """Why machines of an offer cannot be stopped with their disks kept; None where they can.

        `layers` lie over the configuration; `made` are the machines that a cluster has of it.
        """
        compute = self._providers.compute(offer.cloud)
        if not isinstance(compute, Stoppable):
            return _no_stopping(offer.cloud)
        if not isinstance(compute, StopsSome):
            return None
        return compute.unstoppable(offer, self._config(offer.cloud, layers or {}), made)

    def _config(self, cloud: str, layers: Mapping[str, object]) -> Mapping[str, object]:
        """A place's settings for a cluster."""
        over, config = layers.get(cloud), self._section(cloud)
        return merge(config, over) if isinstance(over, Mapping) else config

    def stoppable(self, compute: Compute, site: Site) -> Stoppable:
        """The provider as one that stops machines. Raises NotSupportedError."""
        if not isinstance(compute, Stoppable):
            raise NotSupportedError(_no_stopping(site.cloud))
        return compute

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again while the provider asks for fewer."""
        for _ in range(_THROTTLE_TRIES):
            try:
                return await _or_called_off(call())
            except Throttled as throttled:
                await self._clock.sleep(stretched(min(throttled.retry_after, _THROTTLE_WAIT_S)))
        return await _or_called_off(call())

    async def learn(self, placement: Placement, kind: OutcomeKind, reason: str = "") -> None:
        """Remember what a place answered. Of a machine that is shared there is no question of capacity."""
        offer = placement.offer
        if not offer.shared:
            at = self._clock.now()
            where = (offer.cloud, offer.region, offer.zone, offer.instance_type, offer.market)
            await self._outcomes.add(Outcome(at, *where, kind, placement.num_nodes, reason))

    def _priced(self, cluster: Cluster, placement: Placement) -> Placement:
        """The placement with what its disks and addresses cost, as far as its place knows."""
        compute = self._providers.compute(placement.offer.cloud)
        if not isinstance(compute, PricesExtras):
            return placement
        extras = compute.extras(placement.offer, equipment(cluster.task_config, placement, cluster.clone_of))
        return replace(placement, disk_hourly=extras.disk_hourly, address_hourly=extras.address_hourly)

    # --- parts ---------------------------------------------------------------------------------------------------

    async def _first(
        self,
        cluster: Cluster,
        key: str,
        sides: list[tuple[Placement, Site]],
        closed: Mapping[str, ProviderFailure],
    ) -> tuple[_Had | None, list[life.SideRefusal], tuple[Stray, ...]]:
        """The first placement to be had, those refused until then, and what of the others cannot be ended for now."""
        begun = self._clock.now()
        asked = {
            asyncio.create_task(self._one(cluster, key, placement, site, closed.get(site.cloud))): site
            for placement, site in sides
        }  # fmt: skip
        won: _Had | None = None
        refused: list[life.SideRefusal] = []
        try:
            waiting = set(asked)
            while waiting and won is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=list(asked).index):
                    outcome = task.result()
                    if isinstance(outcome, life.SideRefusal):
                        refused.append(outcome)
                    elif won is None:
                        won = outcome
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        left: list[Stray] = []
        for (task, site), (placement, _) in zip(asked.items(), sides, strict=True):
            # One that fails in a way nobody foresaw while it is called off must not cost the winner its record.
            told = None if task.cancelled() or task.exception() is not None else task.result()
            if isinstance(told, life.SideRefusal):
                to_end = told.doubtful
            else:
                to_end = won is not None and site != won.site
            if to_end:
                stray = Stray(site, begun, placement.price_hourly, self._identities.get(site.cloud))
                if not await self._let_go_soon(cluster, stray):
                    left.append(stray)
        return won, refused, tuple(left)

    async def end_strays(self, cluster: Cluster) -> life.StraysEnded:
        """End what is left where a place was tried for nothing; the places where nothing is left."""
        gone = [stray.site for stray in cluster.strays if await self._let_go(cluster, stray)]
        return life.StraysEnded(tuple(gone))

    async def _let_go_soon(self, cluster: Cluster, stray: Stray) -> bool:
        try:
            async with asyncio.timeout(_LET_GO_S):
                return await self._let_go(cluster, stray)
        except TimeoutError:
            return False

    async def _let_go(self, cluster: Cluster, stray: Stray) -> bool:
        """End a place that was tried for nothing; whether that could be done."""
        site = stray.site
        try:
            compute = self._providers.compute(site.cloud)
            if stray.identity is not None and isinstance(compute, Identified):
                now = await self.patiently(compute.identity)
                if now != stray.identity:
                    # Another account has none of it, and would say that it is gone.
                    log.warning("%s: what was begun on %s is of %s, not of %s", cluster.name, site, stray.identity, now)
                    return False
            await self.end(site)
        except (ProviderFailure, NotSupportedError) as error:
            log.warning("%s: what was begun on %s is not ended yet: %s", cluster.name, site, error)
            return False
        return True

    async def _one(
        self, cluster: Cluster, key: str, placement: Placement, site: Site, closed: ProviderFailure | None
    ) -> _Had | life.SideRefusal:
        offer, begun = placement.offer, False
        try:
            if closed is not None:
                raise closed
            compute = self._providers.compute(offer.cloud)
            identity = await self.patiently(compute.identity) if isinstance(compute, Identified) else None
            if identity is not None:
                self._identities[offer.cloud] = identity
            await self._within_quota(compute, placement)
            ask = self._ask(cluster, f"{key}:{site.mark}" if site.mark != cluster.id else key, placement, site.mark)
            begun = True
            created = tuple(await self.patiently(lambda: compute.create(ask)))
            await self.learn(placement, OutcomeKind.GRANTED)
            return _Had(site, placement, created, identity)
        except ProviderFailure as failure:
            if (kind := _LESSONS.get(type(failure))) is not None:
                await self.learn(placement, kind, failure.reason)
            return life.SideRefusal(placement, failure.scope, failure.reason, begun and isinstance(failure, _MUTE))
        except NotSupportedError as error:
            return life.SideRefusal(placement, "account", str(error))

    async def _within_quota(self, compute: Compute, placement: Placement) -> None:
        room = await compute.room(placement.offer) if isinstance(compute, Quotas) else None
        if room is not None and room < placement.num_nodes:
            offer = placement.offer
            kind = "spot" if offer.use_spot else "on-demand"
            raise QuotaReached(
                f"the quota leaves {room} {kind} {offer.instance_type} in {offer.region}, {placement.num_nodes} are "
                "needed; ask the provider for more",
                scope="quota",
            )

    def _ask(
        self, cluster: Cluster, key: str, placement: Placement, mark: str, ranks: tuple[int, ...] = ()
    ) -> CreateAsk:
        return CreateAsk(
            key=key,
            cluster_id=mark,
            cluster_name=cluster.name,
            placement=placement,
            labels={"sky-cluster": cluster.name, "sky-cluster-id": cluster.id, "sky-user": cluster.user},
            machine=equipment(cluster.task_config, placement, cluster.clone_of),
            ranks=ranks,
            config=self._config(placement.offer.cloud, cluster.layers),
            say=lambda text: self._say(cluster, text),
            pinned=_names(cluster.resources_config.get("infra"), placement),
        )


async def _or_called_off(call: Awaitable[T]) -> T:
    """What a call gives. One that is called off and then fails over what it undoes is called off all the same."""
    try:
        return await call
    except ProviderFailure as failure:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from failure
        raise


def _no_stopping(cloud: str) -> str:
    return f"stopping is not supported on {cloud}; use `sky down` instead"


def _names(infra: object, placement: Placement) -> bool:
    """Whether the task's own `infra` is this very zone."""
    return isinstance(infra, str) and placement.offer.zone is not None and infra == placement.offer.place


def _without(refused: list[life.SideRefusal], placement: Placement) -> list[life.SideRefusal]:
    return [each for each in refused if each.placement != placement]
