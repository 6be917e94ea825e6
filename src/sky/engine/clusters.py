"""Carries out a cluster's orders: asks its provider for machines, brings agents up, takes machines down.

Run by `work.Driver` under `plane`. Each order's outcome is an event of `core.lifecycle.clusters`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sky.core.errors import (
    AgentRefused,
    AgentUnreachable,
    ClusterOwnerIdentityMismatchError,
    NotSupportedError,
    ProviderFailure,
    SkyError,
)
from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.machine import Table
from sky.core.model.clusters import Autostop, Cluster, Instance, InstanceState, Phase
from sky.core.model.offers import Placement
from sky.core.model.outcomes import OutcomeKind
from sky.core.ports import ClusterRows, Fleet
from sky.engine.provision import Provisioner
from sky.kit.clock import Clock
from sky.kit.frozen import replace
from sky.kit.signals import Signals

Note = Callable[[Cluster, str], None]
Replanner = Callable[[Cluster], Awaitable[Sequence[Placement]]]

#: Clusters that are up and well and looked at all the same, in a second at most.
_LOOKED_AT = 20.0
_NODE_FAILURES = (AgentUnreachable, AgentRefused, ProviderFailure, NotSupportedError)
_PLACE_FAILURES = (ProviderFailure, NotSupportedError, ClusterOwnerIdentityMismatchError)


class ClusterWork:
    """The noun `cluster` for the engine's loop."""

    name = "cluster"
    table: Table[Cluster] = life.TABLE

    def __init__(
        self,
        rows: ClusterRows,
        provisioner: Provisioner,
        fleet: Fleet,
        clock: Clock,
        signals: Signals,
        note: Note,
        *,
        replan: Replanner | None = None,
        moved: Callable[[Cluster, Cluster], None] | None = None,
        crowd: Callable[[], int] = lambda: 0,
    ) -> None:
        """`replan` looks anew where a cluster could be had, None never finds a place; `moved` hears of commits.

        `crowd` is how many clusters there are to be looked at.
        """
        self._moved = moved
        self._crowd = crowd
        self._replanner = replan
        self.rows = rows
        self._provisioner = provisioner
        self._fleet = fleet
        self._clock = clock
        self._signals = signals
        self._note = note
        self._acts: dict[type, Callable[[Cluster, str, object], Awaitable[object]]] = {
            life.Provision: self._provision,
            life.Resize: self._resize,
            life.Resume: self._resume,
            life.Bootstrap: self._bootstrap,
            life.ConfigureAutostop: self._configure_autostop,
            life.StopNodes: self._stop,
            life.TerminateNodes: self._terminate,
            life.Observe: self._observe,
            life.EndStrays: self._end_strays,
            life.Replan: self._replan,
            life.EndWork: self._end_work,
            life.Replace: self._replace,
        }

    def id_of(self, entity: Cluster) -> str:
        return entity.id

    def due_at(self, entity: Cluster, now: float) -> float | None:
        due = life.due_at(entity, now)
        # Its listener hears a head fall silent and the sweep sees what is gone: this look is for what both may miss.
        rare = entity.phase is Phase.UP and due is not None
        return max(due, now + self._crowd() / _LOOKED_AT) if rare and due is not None else due

    def due_event(self) -> object:
        return life.Due()

    def before_order(self, entity: Cluster, order: object) -> None:
        return None

    def put_down(self, entity: Cluster) -> None:
        return None

    def committed(self, before: Cluster, after: Cluster) -> None:
        """Wake who waits for this cluster, and whoever shows all of them."""
        self._signals.notify(f"cluster:{after.id}")
        self._signals.notify("clusters")
        if self._moved is not None:
            self._moved(before, after)

    async def glance(self, entity: Cluster, order: object) -> None:
        return None

    async def act(self, entity: Cluster, key: str, order: object) -> object:
        return await self._acts[type(order)](entity, key, order)

    def crashed(self, order: object, error: Exception) -> object:
        reason = f"internal error: {type(error).__name__}: {error}"
        match order:
            case life.Provision() | life.Resume() | life.Resize() | life.Replace():
                return life.ProvisionRefused("request", reason)
            case life.EndWork():
                return life.WorkNotEnded(reason)
            case life.Bootstrap():
                return life.BootstrapFailed(reason)
            case life.ConfigureAutostop():
                return life.AutostopFailed(reason)
            case life.StopNodes() | life.TerminateNodes():
                return life.TeardownFailed(reason)
            case life.Replan():
                return life.NotPlanned(reason)
            case life.EndStrays():
                return life.StraysEnded(())
            case _:
                return life.LookFailed(reason)

    # --- orders --------------------------------------------------------------------------------------------------

    async def _provision(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Provision)
        return await self._provisioner.provision(cluster, key, order)

    async def _resize(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Resize)
        if order.num_nodes < cluster.num_nodes:
            leaving = tuple(each for each in cluster.instances if each.rank >= order.num_nodes)
            await self._fleet.quiesce(replace(cluster, instances=leaving))
        return await self._provisioner.resize(cluster, key, order.num_nodes)

    async def _end_work(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.EndWork)
        staying = tuple(each for each in cluster.instances if each.rank not in order.ranks)
        try:
            await self._fleet.end_work(replace(cluster, instances=staying))
        except _NODE_FAILURES as error:
            return life.WorkNotEnded(f"what runs on the nodes that stay could not be ended: {error}")
        return life.WorkEnded(order.ranks)

    async def _replace(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Replace)
        return await self._provisioner.replace(cluster, key, order.ranks)

    async def _resume(self, cluster: Cluster, key: str, order: object) -> object:
        return await self._provisioner.resume(cluster, key)

    async def _bootstrap(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Bootstrap)
        begun = self._clock.now()
        try:
            await self._fleet.bring_up(cluster, ran=order.ran)
        except _NODE_FAILURES as error:
            self._note(cluster, f"the agent could not be started: {error}")
            return life.BootstrapFailed(str(error))
        self._note(cluster, f"agents answer after {self._clock.now() - begun:.1f} s")
        return life.AgentsReady(await self._told_on_the_way(cluster))

    async def _told_on_the_way(self, cluster: Cluster) -> Autostop | None:
        """The autostop that the head was told at once, where its place has nothing to be told; None if not."""
        if not cluster.autostop.enabled:
            return None
        try:
            if self._provisioner.ends_itself(cluster):
                return None
            await (await self._fleet.head(cluster)).set_autostop(cluster.autostop)
        except _NODE_FAILURES:
            # It is an order of its own then, which is repeated and complained about.
            return None
        return cluster.autostop

    async def _configure_autostop(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.ConfigureAutostop)
        await self._clock.sleep(order.delay)
        autostop, heard = order.autostop, order.heard
        # A machine that is to be stopped must never be one that ends when it stops: whoever wants it ended says so
        # after the head was told, and whoever wants it kept, before.
        ends = autostop.enabled and autostop.down
        try:
            if autostop.enabled and not ends:
                await self._provisioner.end_on_shutdown(cluster, ends=False)
            if not heard:
                head = await self._fleet.head(cluster)
                await head.set_autostop(autostop)
                heard = True
            if ends or not autostop.enabled:
                await self._provisioner.end_on_shutdown(cluster, ends=ends)
        except (*_NODE_FAILURES, ClusterOwnerIdentityMismatchError) as error:
            return life.AutostopFailed(str(error), heard)
        return life.AutostopConfigured()

    async def _stop(self, cluster: Cluster, key: str, order: object) -> object:
        provisioner = self._provisioner
        try:
            if cluster.site is None:
                # Between two rounds of a launch that is tried until it is up: at most there is what is left elsewhere.
                await self._end_everywhere(cluster)
                return life.NodesStopped(())
            compute = await provisioner.compute_of(cluster)
            if not cluster.instances:
                # Called off in the middle of creating: what exists has no disk worth keeping yet.
                await self._end_everywhere(cluster)
                return life.NodesStopped(())
            site = provisioner.owned(cluster)
            stoppable = provisioner.stoppable(compute, site)
            said = await self._hooks(cluster, "stop")
            await self._fleet.quiesce(cluster)
            if cluster.autostop.enabled and cluster.autostop.down:
                # Its head remembers that it was to go down, and may come up again before it is told otherwise.
                await provisioner.end_on_shutdown(cluster, ends=False)
            if cluster.resize_to is not None:
                # Called off in the middle of growing: the new nodes hold nothing yet.
                new = range(cluster.num_nodes, cluster.resize_to)
                await provisioner.patiently(
                    lambda: compute.terminate(site.mark, regions=[site.region], ranks=new)
                )  # fmt: skip
            stopped = await provisioner.patiently(lambda: stoppable.stop(site.mark, regions=[site.region]))
        except _PLACE_FAILURES as error:
            return life.TeardownFailed(str(error))
        finally:
            await self._fleet.forget(cluster.id)
        return life.NodesStopped(tuple(stopped), said)

    async def _terminate(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.TerminateNodes)
        await self._clock.sleep(order.delay)
        said: tuple[str, ...] = ()
        try:
            if cluster.site is not None:
                await self._provisioner.compute_of(cluster)
                said = await self._hooks(cluster, "down")
            await self._fleet.quiesce(cluster)
            await self._end_everywhere(cluster)
        except _PLACE_FAILURES as error:
            return life.TeardownFailed(str(error))
        finally:
            await self._fleet.forget(cluster.id)
        return life.NodesTerminated(said)

    async def _hooks(self, cluster: Cluster, event: str) -> tuple[str, ...]:
        """Let the head do what its task wants done before; one that is out of reach is not waited for. How it ended."""
        scripts = cluster.hooks(event)
        if not scripts or not cluster.ever_up or cluster.purge:
            return ()
        try:
            return tuple(await self._fleet.hooks(cluster, event, scripts))
        except (AgentUnreachable, AgentRefused) as error:
            return (f"its hooks could not be run: {error}",)

    async def _end_everywhere(self, cluster: Cluster) -> None:
        """End what is at any of its sites. One that fails keeps nothing at the others alive."""
        failed: Exception | None = None
        for site in cluster.where:
            try:
                await self._provisioner.end(site)
            except (ProviderFailure, NotSupportedError) as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _replan(self, cluster: Cluster, key: str, order: object) -> object:
        assert isinstance(order, life.Replan)
        await self._clock.sleep(order.delay)
        if self._replanner is None:
            return life.NotPlanned("nobody plans here")
        try:
            return life.Planned(tuple(await self._replanner(cluster)))
        except (SkyError, ValueError) as error:
            return life.NotPlanned(str(error).partition("\n")[0])

    async def _end_strays(self, cluster: Cluster, key: str, order: object) -> object:
        return await self._provisioner.end_strays(cluster)

    async def _observe(self, cluster: Cluster, key: str, order: object) -> object:
        # Side by side: a machine that is gone takes as long to be silent as its place to say so.
        asked = asyncio.ensure_future(self._answers(cluster))
        try:
            site = self._provisioner.owned(cluster)
            compute = await self._provisioner.compute_of(cluster)
            instances = tuple(
                await self._provisioner.patiently(lambda: compute.list(site.mark, regions=[site.region]))
            )  # fmt: skip
            if _whole(instances, cluster.num_nodes):
                silent = await asked
                return life.NodesObserved(instances, agent_answers=silent is None, detail=silent)
        except _PLACE_FAILURES as error:
            return life.LookFailed(str(error))
        else:
            shared = cluster.placement is not None and cluster.placement.offer.shared
            if not (instances or shared or cluster.phase is Phase.STOPPED) and await asked is None:
                # What is shared is listed by ourselves. Other lists may be late, or be of somebody who may not see
                # everything; nobody ends what answers.
                return life.LookFailed("its provider lists none of its machines, and its head answers")
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        await self._learn_loss(cluster, instances)
        if cluster.phase is Phase.DEGRADED and any(
            each.rank == 0 and each.state is InstanceState.RUNNING for each in instances
        ):
            # Whether its head still speaks for those that are left.
            silent = await self._head_answers(cluster)
            return life.NodesObserved(instances, agent_answers=silent is None, detail=silent)
        return life.NodesObserved(instances)

    async def _answers(self, cluster: Cluster) -> str | None:
        """None if the head's agent answers, and whoever it has lost; else what hinders it.

        A place may take minutes to miss a machine. A worker counts as silent if neither the head nor we can reach it.
        """
        try:
            head = await self._fleet.head(cluster)
            if lost := await head.ping():
                await self._fleet.ask(cluster, lost)
        except _NODE_FAILURES as error:
            return str(error)
        return None

    async def _head_answers(self, cluster: Cluster) -> str | None:
        """None if it does; else what hinders it."""
        try:
            await (await self._fleet.head(cluster)).ping()
        except _NODE_FAILURES as error:
            return str(error)
        return None

    async def _learn_loss(self, cluster: Cluster, instances: tuple[Instance, ...]) -> None:
        """Machines that may be taken back and were: the place is a riskier one than it was."""
        if cluster.phase is not Phase.UP or cluster.placement is None or not cluster.placement.offer.use_spot:
            return
        left = {each.rank: each for each in instances if each.state is not InstanceState.TERMINATED}
        if len(left) < cluster.num_nodes or any(each.state is not InstanceState.RUNNING for each in left.values()):
            reason = next((each.reason for each in instances if each.reason), "its machines are gone")
            await self._provisioner.learn(cluster.placement, OutcomeKind.LOST, reason or "")


def _whole(instances: tuple[Instance, ...], num_nodes: int) -> bool:
    return sum(each.state is InstanceState.RUNNING for each in instances) >= num_nodes
