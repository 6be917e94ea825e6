"""What every request handler works with: the store, the post, the clock, the ways out, and the user's ear."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sky.core.errors import ClusterDoesNotExist, ClusterSetUpError, NotSupportedError, PermissionDeniedError
from sky.core.lifecycle.clusters import AutostopAsked, ConfigureAutostop
from sky.core.model.clusters import Autostop, Cluster, Phase
from sky.core.model.pools import OWNED as POOL
from sky.core.model.requests import Request
from sky.core.policy.rights import touches
from sky.core.ports import Catalogs, Fleet, Store
from sky.engine.plans import Planner
from sky.engine.post import Post
from sky.engine.provision import Provisioner
from sky.engine.waiting import until
from sky.engine.workspaces import Workspaces
from sky.kit.clock import Clock
from sky.kit.signals import Signals

#: A handler carries a request out; its result is JSON. It may be called again after a crash and must find what it
#: began by the request's id.
Handler = Callable[["Desk", Request], Awaitable[object]]


#: Phases in which nothing is under way.
_AT_REST = (Phase.UP, Phase.DEGRADED, Phase.STOPPED, Phase.TERMINATED)
#: A teardown that failed this often is reported to whoever waits; the engine keeps trying behind them.
TEARDOWN_STRIKES = 2
#: Seconds for which a head is waited for that is to hear when to stop by itself.
_TOLD_S = 30.0

_LEAVING = (Phase.STOPPING, Phase.TERMINATING, Phase.AUTOSTOPPING)


class Talk(Protocol):
    """Where progress of a request goes."""

    def say(self, request_id: str, text: str) -> None: ...

    def path(self, request_id: str) -> Path: ...

    async def here(self, request_id: str) -> Path:
        """The same, brought up to date."""
        ...

    async def written(self) -> None:
        """Once what was said can be read by all servers."""
        ...

    def drop(self, request_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """The handlers' tools."""

    store: Store
    post: Post
    clock: Clock
    signals: Signals
    fleet: Fleet
    talk: Talk
    catalogs: Catalogs
    planner: Planner
    provisioner: Provisioner
    section: Callable[[str], Mapping[str, object]]
    workspaces: Workspaces

    async def cluster(self, name: str) -> Cluster:
        """The living cluster of this name. Raises ClusterDoesNotExist."""
        found = await self.store.clusters.by_name(name)
        if found is None:
            raise ClusterDoesNotExist(f"Cluster '{name}' not found. `sky status` lists those that exist.")
        return found

    async def own(self, request: Request, name: str) -> Cluster:
        """The living cluster of this name, which the request may touch.

        The server has asked that too; but since then the name may have become that of somebody else's cluster. Raises
        ClusterDoesNotExist, PermissionDeniedError.
        """
        return mine(request, await self.cluster(name))

    async def tell(self, cluster: Cluster, event: object, *, once: str | None = None) -> int:
        """Post an event to a cluster; the number of the letter."""
        return await self.post.send("cluster", self.store.clusters, cluster.id, event, once=once)

    async def set_autostop(self, request: Request, cluster: Cluster, wanted: Autostop) -> int:
        """Say when a cluster is to stop by itself; the number of the letter.

        Returns once its head knows: it keeps the timer, so that from then on it holds, whatever becomes of us. A head
        that does not answer now is told again and again, and whoever asked is told so.
        """
        rows, id = self.store.clusters, cluster.id
        letter = await self.tell(cluster, AutostopAsked(wanted))

        async def orders() -> list[ConfigureAutostop] | None:
            read = await rows.heeded(letter)
            standing = await rows.standing(id)
            return [each for each in standing if isinstance(each, ConfigureAutostop)] if read else None

        with suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_S):
                # An order that is to wait is one that was tried before.
                await until(
                    self.signals,
                    f"cluster:{id}",
                    orders,
                    lambda left: left is not None and all(each.delay for each in left),
                )
        if await orders():
            self.talk.say(request.id, f"{cluster.name}: its head does not know of the autostop yet; it is told again")
        return letter

    async def settled(
        self, request: Request, cluster: Cluster, done: Callable[[Cluster], bool], *, letter: int | None = None
    ) -> Cluster:
        """Wait for a cluster, passing its story on to the user meanwhile.

        With `letter`, what `done` says counts only once that letter has been read: states from before it say nothing.
        """
        seq = await self._last_line(request, cluster)
        heeded, before = letter is None, None

        async def load() -> Cluster:
            nonlocal seq, heeded, before
            # Asked before the state is read, so that the state is one that followed from the letter.
            heeded = heeded or letter is None or await self.store.clusters.heeded(letter)
            now = await self.store.clusters.get(cluster.id)
            if now is None:
                raise ClusterDoesNotExist(f"Cluster '{cluster.name}' has no record any more.")
            # Lines are written with a version of it: thousands who wait, and look now and then, need not ask for more.
            if now.version != before:
                for entry in await self.store.stories.read("cluster", cluster.id, after=seq):
                    seq = entry.seq
                    if entry.text:
                        self.talk.say(request.id, f"{cluster.name}: {entry.text}")
                before = now.version
            return now

        return await until(self.signals, f"cluster:{cluster.id}", load, lambda now: heeded and done(now))

    async def at_rest(self, request: Request, cluster: Cluster) -> Cluster:
        """The cluster once it is not on its way out any more: stopped, gone, or as it was.

        Raises ClusterSetUpError for one whose provider will not let it go.
        """
        settled = await self.settled(request, cluster, lambda now: now.phase not in _LEAVING or stuck(now))
        if settled.phase in _LEAVING:
            raise ClusterSetUpError(
                f"Cluster '{cluster.name}' is going down, which keeps failing: {settled.reason}. It is tried again and "
                f"again; `sky down --purge {cluster.name}` gives up on what its provider still has."
            )
        return settled

    async def _last_line(self, request: Request, cluster: Cluster) -> int:
        """The line of the story after which telling begins."""
        newest = (await self.store.stories.last_of_each("cluster", [cluster.id])).get(cluster.id)
        if newest is None:
            return 0
        # What the cluster is busy with is told although it began earlier; how it came to rest before is old news.
        news = newest.time >= request.created_at or newest.after not in _AT_REST
        return newest.seq - 1 if news else newest.seq


def mine(request: Request, cluster: Cluster) -> Cluster:
    """The cluster, if the request may touch it. Raises PermissionDeniedError."""
    if touches(request.reach, request.user, request.workspace, owner=cluster.user, inside=cluster.workspace):
        if (cluster.owner or "").startswith(POOL) and not request.body.get("purge"):
            raise NotSupportedError(
                f"Cluster '{cluster.name}' is a worker of a pool, which alone starts and ends it. `sky jobs pool "
                "status` shows the pool, `sky jobs pool down` ends it."
            )
        if cluster.owner is not None and not request.body.get("purge"):
            raise NotSupportedError(
                f"Cluster '{cluster.name}' is a managed job's, which alone starts and ends it. `sky jobs queue` shows "
                "the job, `sky jobs cancel` ends both."
            )
        return cluster
    raise PermissionDeniedError(
        f"Cluster '{cluster.name}' is {cluster.user}'s, in the workspace '{cluster.workspace}': {request.user} may not "
        f"change it (in the workspace '{request.workspace}')."
    )


def stuck(cluster: Cluster) -> bool:
    """Whether a cluster is going down and its provider will not let it go for now."""
    return cluster.phase is Phase.TERMINATING and cluster.strikes >= TEARDOWN_STRIKES


def text(body: Mapping[str, object], key: str) -> str | None:
    """A string argument, or None where it was not given."""
    value = body.get(key)
    return None if value is None else str(value)


def flag(body: Mapping[str, object], key: str) -> bool:
    """A yes-or-no argument; no where it was not given."""
    return bool(body.get(key))
