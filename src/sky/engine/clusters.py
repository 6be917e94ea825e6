"""Carries out a cluster's orders: asks its provider for machines, brings agents up, takes machines down.

Run by `work.Driver` under `plane`. Each order's outcome is an event of `core.lifecycle.clusters`.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sky.core.errors import (
    AgentRefused,
    AgentUnreachable,
    CapacityRefused,
    NotSupportedError,
    ProviderFailure,
    QuotaReached,
    Throttled,
)
from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.machine import Table
from sky.core.model.clusters import Cluster, Instance, InstanceState
from sky.core.model.offers import Placement
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.core.ports import ClusterRows, Compute, CreateAsk, Fleet, Outcomes, Providers, Stoppable
from sky.kit.clock import Clock
from sky.kit.signals import Signals

#: Times a throttled call is made before the refusal counts, and the most seconds waited for one.
_THROTTLE_TRIES = 6
_THROTTLE_WAIT_S = 60.0

T = TypeVar("T")

#: Refusals that say something about the next time.
_LESSONS = {CapacityRefused: OutcomeKind.REFUSED, QuotaReached: OutcomeKind.QUOTA}

_NODE_FAILURES = (AgentUnreachable, AgentRefused, ProviderFailure, NotSupportedError)


class ClusterWork:
    """The noun `cluster` for the engine's loop."""

    name = "cluster"
    table: Table[Cluster] = life.TABLE

    def __init__(
        self,
        rows: ClusterRows,
        outcomes: Outcomes,
        providers: Providers,
        fleet: Fleet,
        clock: Clock,
        signals: Signals,
    ) -> None:
        self.rows = rows
        self._outcomes = outcomes
        self._providers = providers
        self._fleet = fleet
        self._clock = clock
        self._signals = signals
        self._acts: dict[type, Callable[[Cluster, str, object], Awaitable[object]]] = {
            life.Provision: self._provision,
            life.Resume: self._resume,
            life.Bootstrap: self._bootstrap,
            life.ConfigureAutostop: self._configure_autostop,
            life.StopNodes: self._stop,
            life.TerminateNodes: self._terminate,
            life.Observe: self._observe,
        }

    def id_of(self, entity: Cluster) -> str:
        return entity.id

    def due_at(self, entity: Cluster, now: float) -> float | None:
        return life.due_at(entity, now)

    def due_event(self) -> object:
        return life.Due()

    def before_order(self, entity: Cluster, order: object) -> None:
        return None

    def committed(self, before: Cluster, after: Cluster) -> None:
        """Wake who waits for this cluster, and whoever shows all of them."""
        self._signals.notify(f"cluster:{after.id}")
        self._signals.notify("clusters")

    async def act(self, entity: Cluster, key: str, order: object) -> object:
        return await self._acts[type(order)](entity, key, order)

    def crashed(self, order: object, error: Exception) -> object:
        reason = f"internal error: {type(error).__name__}: {error}"
        match order:
            case life.Provision() | life.Resume():
                return life.ProvisionRefused("request", reason)
            case life.Bootstrap():
                return life.BootstrapFailed(reason)
            case life.ConfigureAutostop():
                return life.AutostopFailed(reason)
            case life.StopNodes() | life.TerminateNodes():
                return life.TeardownFailed(reason)
            case _:
                return life.LookFailed(reason)

    # --- orders --------------------------------------------------------------------------------------------------

    async def _provision(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Provision)
        await self._clock.sleep(order.delay)
        try:
            if order.instead_of is not None:
                left = self._providers.compute(order.instead_of)
                await self._patiently(lambda: left.terminate(cluster.id))
            compute = self._providers.compute(order.placement.offer.cloud)
            labels = {"sky-cluster": cluster.name, "sky-cluster-id": cluster.id, "sky-user": cluster.user}
            ask = CreateAsk(key, cluster.id, cluster.name, order.placement, labels)
            created = tuple(await self._patiently(lambda: compute.create(ask)))
            await self._learn(order.placement, OutcomeKind.GRANTED)
            return life.NodesCreated(created)
        except ProviderFailure as failure:
            if (kind := _LESSONS.get(type(failure))) is not None:
                await self._learn(order.placement, kind, failure.reason)
            return life.ProvisionRefused(failure.scope, failure.reason)
        except NotSupportedError as error:
            return life.ProvisionRefused("account", str(error))

    async def _learn(self, placement: Placement, kind: OutcomeKind, reason: str = "") -> None:
        """Remember what a place answered. Of a machine that is shared there is no question of capacity."""
        offer = placement.offer
        if not offer.shared:
            at = self._clock.now()
            where = (offer.cloud, offer.region, offer.zone, offer.instance_type, offer.market)
            await self._outcomes.add(Outcome(at, *where, kind, placement.num_nodes, reason))

    async def _resume(self, cluster: Cluster, key: str, order: object) -> object:
        try:
            compute = self._stoppable(cluster)
            return life.NodesCreated(
                tuple(await self._patiently(lambda: compute.start(cluster.id, regions=_regions(cluster))))
            )
        except ProviderFailure as failure:
            return life.ProvisionRefused(failure.scope, failure.reason)
        except NotSupportedError as error:
            return life.ProvisionRefused("request", str(error))

    async def _bootstrap(self, cluster: Cluster, key: str, order: object) -> object:
        try:
            await self._fleet.bring_up(cluster)
        except _NODE_FAILURES as error:
            return life.BootstrapFailed(str(error))
        return life.AgentsReady()

    async def _configure_autostop(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.ConfigureAutostop)
        await self._clock.sleep(order.delay)
        try:
            head = await self._fleet.head(cluster)
            await head.set_autostop(order.autostop)
        except _NODE_FAILURES as error:
            return life.AutostopFailed(str(error))
        return life.AutostopConfigured()

    async def _stop(self, cluster: Cluster, key: str, order: object) -> object:
        try:
            await self._fleet.quiesce(cluster)
            if not cluster.instances:
                # Called off in the middle of creating: what exists has no disk worth keeping yet.
                left = self._compute(cluster)
                await self._patiently(lambda: left.terminate(cluster.id, regions=_regions(cluster)))
                return life.NodesStopped(())
            compute = self._stoppable(cluster)
            stopped = await self._patiently(lambda: compute.stop(cluster.id, regions=_regions(cluster)))
        except (ProviderFailure, NotSupportedError) as error:
            return life.TeardownFailed(str(error))
        finally:
            await self._fleet.forget(cluster.id)
        return life.NodesStopped(tuple(stopped))

    async def _terminate(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.TerminateNodes)
        await self._clock.sleep(order.delay)
        try:
            await self._fleet.quiesce(cluster)
            compute = self._compute(cluster)
            await self._patiently(lambda: compute.terminate(cluster.id, regions=_regions(cluster)))
        except (ProviderFailure, NotSupportedError) as error:
            return life.TeardownFailed(str(error))
        finally:
            await self._fleet.forget(cluster.id)
        return life.NodesTerminated()

    async def _observe(self, cluster: Cluster, key: str, order: object) -> object:
        compute = self._compute(cluster)
        instances = tuple(await self._patiently(lambda: compute.list(cluster.id, regions=_regions(cluster))))
        if not _whole(instances, cluster.num_nodes):
            return life.NodesObserved(instances)
        try:
            head = await self._fleet.head(cluster)
            await head.ping()
        except (AgentUnreachable, AgentRefused) as error:
            return life.NodesObserved(instances, agent_answers=False, detail=str(error))
        return life.NodesObserved(instances, agent_answers=True)

    # --- parts ---------------------------------------------------------------------------------------------------

    def _compute(self, cluster: Cluster) -> Compute:
        if cluster.placement is None:
            raise NotSupportedError(f"cluster {cluster.name} was never placed anywhere")
        return self._providers.compute(cluster.placement.offer.cloud)

    def _stoppable(self, cluster: Cluster) -> Stoppable:
        compute = self._compute(cluster)
        if not isinstance(compute, Stoppable):
            cloud = cluster.placement.offer.cloud if cluster.placement else "?"
            raise NotSupportedError(f"stopping is not supported on {cloud}; use `sky down` instead")
        return compute

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again while the provider asks for fewer."""
        for _ in range(_THROTTLE_TRIES):
            try:
                return await call()
            except Throttled as throttled:
                await self._clock.sleep(min(throttled.retry_after, _THROTTLE_WAIT_S))
        return await call()


def _whole(instances: tuple[Instance, ...], num_nodes: int) -> bool:
    return sum(each.state is InstanceState.RUNNING for each in instances) >= num_nodes


def _regions(cluster: Cluster) -> tuple[str, ...] | None:
    """Where its machines can be."""
    return (cluster.placement.offer.region,) if cluster.placement else None
