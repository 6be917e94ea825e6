"""What a simulated control plane finds around it: clouds, an empty catalog, ways to nodes, an ear for its talk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sky.core.catalog.overrides import Overrides
from sky.core.errors import AgentUnreachable, NotSupportedError
from sky.core.model.clusters import Cluster, Instance
from sky.core.model.place_rules import PlaceRules
from sky.core.ports import Access
from sky.remote.channel import Channel, Completed, Order, Outcome
from sky.server.fleet import NodeFleet
from sky.sim.cloud import Cloud, CloudClient
from sky.sim.node import SimNode
from sky.sim.replica import Gated, Replica


class SimProviders:
    """See `core.ports.Providers`."""

    def __init__(self, replica: Replica, clouds: Mapping[str, Cloud]) -> None:
        self._clients: dict[str, Any] = {name: Gated(replica, CloudClient(each), name) for name, each in clouds.items()}

    def names(self) -> Sequence[str]:
        return sorted(self._clients)

    places = names

    def offered(self, cloud: str) -> frozenset[str] | None:
        return None

    def likely(self, cloud: str) -> bool:
        return True

    def rules(self, cloud: str) -> PlaceRules:
        return PlaceRules()

    async def check(self, cloud: str) -> Access:
        access: Access = await self.compute(cloud).check()
        return access

    def compute(self, cloud: str) -> Any:
        if cloud not in self._clients:
            raise NotSupportedError(f"not in this world: {cloud}")
        return self._clients[cloud]


class NoCatalog:
    """See `core.ports.Catalogs` and `Catalog`: what is sold is what clouds say themselves."""

    generation = "none"

    def current(self) -> "NoCatalog":
        return self

    def overrides(self) -> Overrides:
        return _NO_OVERRIDES

    def refreshable(self) -> Sequence[str]:
        return ()

    async def refresh(self, *given: object, **named: object) -> Sequence[Any]:
        return ()

    def offers(self, query: object) -> Iterator[Any]:
        return iter(())

    def listings(self, query: object) -> Iterator[Any]:
        return iter(())

    def types(self, name: str, cloud: str | None = None) -> list[Any]:
        return []

    def type_names(self, cloud: str | None = None) -> Sequence[str]:
        return ()

    def places(self, cloud: str | None = None) -> list[Any]:
        return []

    def accelerators(self) -> Mapping[str, str]:
        return {}

    def egress(self) -> Sequence[Any]:
        return ()

    def sources(self) -> Sequence[Any]:
        return ()

    def quarantined(self) -> Sequence[Any]:
        return ()

    def summary(self) -> Sequence[Any]:
        return ()


_NO_OVERRIDES = Overrides()


class SimChannel:
    """See `remote.channel.Channel`."""

    python = "python3"

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.where = node.name

    async def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, input: bytes = b"", timeout: float = 60.0
    ) -> Completed:
        raise NotSupportedError("nodes made of numbers run no commands")

    async def settle(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return dict(config)

    async def start(self, order: Order) -> Outcome:
        return await self._node.start(order)

    async def open_agent(self) -> Any:
        return await self._node.open()


class SimFleet(NodeFleet):
    """The real fleet, with another way to the nodes."""

    def __init__(self, replica: Replica, node_of: Callable[[str], SimNode | None]) -> None:
        super().__init__(_no_blob)
        self._replica = replica
        self._node_of = node_of

    async def head(self, cluster: Cluster) -> Any:
        """The head's agent, by way of the gate."""
        return Gated(self._replica, await super().head(cluster), "agent")

    def channel(self, cluster: Cluster, node: Instance) -> Channel:
        """The way to a machine, which may be gone for good."""
        found = self._node_of(node.machine)
        if found is None:
            raise AgentUnreachable(f"there is no machine {node.machine}")
        return SimChannel(found)


def _no_blob(name: str) -> Path:
    raise FileNotFoundError(name)


class Ear:
    """See `engine.desk.Talk`: users of this world do not listen."""

    def say(self, request_id: str, text: str) -> None:
        """Nobody hears it."""

    def path(self, request_id: str) -> Path:
        raise FileNotFoundError(request_id)

    async def here(self, request_id: str) -> Path:
        raise FileNotFoundError(request_id)

    async def written(self) -> None:
        """There is nothing to wait for."""

    def drop(self, request_id: str) -> None:
        """There is nothing to forget."""
