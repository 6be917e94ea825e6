"""A cloud made of numbers: machines that cost money, zones that run out of them, an interface that lies and delays.

Two halves. `Cloud` is the world's: it goes on when servers die. `CloudClient` is the provider as the engine knows it,
part of the server that crashes: a request of it takes effect half way through, and its answer may be lost.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from sky.core.errors import CapacityRefused, CredentialsRejected, ProviderDown, Throttled
from sky.core.model.catalog import Market
from sky.core.model.clusters import Instance, InstanceState
from sky.core.model.ledger import Span
from sky.core.model.offers import Offer, Placement
from sky.core.ports import Access, CreateAsk
from sky.sim.loop import SimClock
from sky.sim.node import SimNode

T = TypeVar("T")

_ALIVE = (InstanceState.PENDING, InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.STOPPED)
#: Types by name: vCPUs, GiB, USD per hour on demand; spot costs a third.
TYPES = {"small": (4.0, 16.0, 0.2), "large": (16.0, 64.0, 0.8)}
_BOOT_S = 12.0
_TRIES = 4


@dataclass(slots=True)
class Machine:
    """One machine: whose it is, what it is, since when it costs what."""

    name: str
    mark: str
    rank: int
    token: str
    zone: str
    kind: str
    spot: bool
    price: float
    born: float
    state: InstanceState
    node: SimNode
    shown_from: float = 0.0
    reason: str | None = None
    #: Intervals in which it cost money: begin and end (None: still), seconds since the epoch.
    billed: list[tuple[float, float | None]] = field(default_factory=list)

    @property
    def since(self) -> float:
        """When its state began, as far as money goes."""
        begin, end = self.billed[-1]
        return begin if end is None else end

    @property
    def cluster(self) -> str:
        """The id of its cluster."""
        return self.mark.partition("-h")[0]

    def cost(self, now: float) -> float:
        """USD that it has cost."""
        return sum((now if end is None else end) - begin for begin, end in self.billed) / 3600 * self.price

    @property
    def alive(self) -> bool:
        """Whether it is there: a stopped one keeps its disk."""
        return self.state in _ALIVE


@dataclass(slots=True)
class Weather:
    """What a cloud is like just now; chances are per request."""

    down: bool = False
    expired: bool = False
    throttled: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    refused: float = 0.0
    slow_s: float = 0.0


class Cloud:
    """The world's half. `tell` writes a line into the world's trace."""

    def __init__(self, name: str, zones: Sequence[str], rng: Random, clock: SimClock, tell: Callable[[str], None]):
        self.name = name
        self.zones = list(zones)
        self.rng = rng
        self.clock = clock
        self.tell = tell
        self.weather = Weather()
        self.machines: dict[str, Machine] = {}
        self.room = dict.fromkeys(zones, 8)
        #: Zones without spot machines (a count above 0), and what these cost as a share of the price on demand.
        self.dry: Counter[str] = Counter()
        self.shares: dict[str, float] = dict.fromkeys(zones, 1 / 3)
        #: Prices that it ever named by zone, type and market; and what was asked for at any other.
        self.named: set[tuple[str, str, bool, float]] = set()
        self.unheard_of: list[str] = []
        #: Seconds until a new machine is listed.
        self.lag_s = 0.0
        #: What jobs have saved outside of their machines; see `node`.
        self.bucket: dict[str, float] = {}
        self._count = 0

    def offers(self) -> list[Offer]:
        """What it sells, at the prices of this moment."""
        found = [
            Offer(self.name, f"{self.name}-r", zone, kind, cpus, memory,
                  round(price * self.shares[zone], 6) if spot else price, use_spot=spot)
            for zone in self.zones
            for kind, (cpus, memory, price) in TYPES.items()
            for spot in (False, True)
        ]  # fmt: skip
        self.named.update((each.zone or "", each.instance_type, each.use_spot, each.price_hourly) for each in found)
        return found

    def run(self, token: str, ask: CreateAsk, rank: int) -> Machine:
        """Make a machine; the same token gives the same machine while it lives. Raises CapacityRefused."""
        for each in self.machines.values():
            if each.token == token and each.alive:
                return each
        offer = ask.placement.offer
        zone = offer.zone or self.zones[0]
        short = self.rng.random() < self.weather.refused or self._used(zone) >= self.room[zone]
        if short or (offer.use_spot and self.dry[zone] > 0):
            raise CapacityRefused(f"no room in {zone}")
        if (zone, offer.instance_type, offer.use_spot, offer.price_hourly) not in self.named:
            self.unheard_of.append(f"{ask.cluster_id} was to cost {offer.price_hourly} in {zone}, which nobody said")
        self._count += 1
        now = self.clock.now()
        name = f"{self.name}-{self._count}"
        node = SimNode(name, self.clock, self.rng, lambda down: self._stops_itself(name, down), self.bucket)
        made = Machine(name, ask.cluster_id, rank, token, zone, offer.instance_type, offer.use_spot,
                       offer.price_hourly, now, InstanceState.PENDING, node, now + self.lag_s)  # fmt: skip
        made.billed.append((now, None))
        self.machines[name] = made
        self.tell(f"{name} made for {ask.cluster_id} rank {rank}")
        asyncio.get_running_loop().call_later(_BOOT_S * self.rng.uniform(0.5, 2), self._boot, made)
        return made

    def _used(self, zone: str) -> int:
        return sum(each.zone == zone and each.alive for each in self.machines.values())

    def _boot(self, machine: Machine) -> None:
        if machine.state is InstanceState.PENDING:
            machine.state = InstanceState.RUNNING
            machine.node.power_on()

    def end(self, mark: str, ranks: Collection[int] | None = None, reason: str | None = None) -> None:
        """End machines; those that are gone stay gone."""
        for each in self.machines.values():
            if each.mark == mark and each.alive and (ranks is None or each.rank in ranks):
                self.end_one(each, reason)

    def end_one(self, machine: Machine, reason: str | None = None) -> None:
        """End a machine, at whoever's wish."""
        if machine.alive:
            machine.state, machine.reason = InstanceState.TERMINATED, reason
            machine.node.power_off(wipe=True)
            self._bill_ends(machine)
            self.tell(f"{machine.name} ended{f': {reason}' if reason else ''}")

    def stop(self, mark: str) -> None:
        """Stop machines; disks stay."""
        for each in self.machines.values():
            if each.mark == mark and each.alive:
                self._halt(each)

    def _halt(self, machine: Machine) -> None:
        if machine.state in (InstanceState.RUNNING, InstanceState.PENDING):
            machine.state = InstanceState.STOPPED
            machine.node.power_off(wipe=False)
            self._bill_ends(machine)
            self.tell(f"{machine.name} stopped")

    def start(self, mark: str) -> None:
        """Start what is stopped."""
        for each in self.machines.values():
            if each.mark == mark and each.state is InstanceState.STOPPED:
                each.state = InstanceState.PENDING
                each.billed.append((self.clock.now(), None))
                self.tell(f"{each.name} started")
                asyncio.get_running_loop().call_later(_BOOT_S, self._boot, each)

    def _stops_itself(self, name: str, down: bool) -> None:
        # As most clouds do when a guest shuts down: the machine is stopped, whatever was asked of the guest.
        self._halt(self.machines[name])

    def _bill_ends(self, machine: Machine) -> None:
        begin, end = machine.billed[-1]
        if end is None:
            machine.billed[-1] = (begin, self.clock.now())

    def listed(self, mark: str | None) -> list[Machine]:
        """Machines as its list shows them, which may lag behind."""
        now = self.clock.now()
        return [
            each
            for each in self.machines.values()
            if (mark is None or each.mark == mark) and each.shown_from <= now
            and (each.alive or (each.reason is not None and now - each.shown_from < 3600))
        ]  # fmt: skip


class CloudClient:
    """The provider of one cloud: `core.ports.Compute`, `Stoppable` and `Metered`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def check(self) -> Access:
        return Access(self._cloud.name, True, capabilities=("compute",))

    async def offers(self) -> Sequence[Offer]:
        return self._cloud.offers()

    async def create(self, ask: CreateAsk) -> Sequence[Instance]:
        """One request per node, then wait; what was begun is ended when it does not come to its end."""
        try:
            made = [
                await self._insist(f"run {ask.cluster_id}:{rank}", lambda rank=rank: self._cloud.run(  # type: ignore[misc]
                    f"{ask.key}:{rank}", ask, rank).name)
                for rank in ask.wanted
            ]  # fmt: skip
            for _ in range(200):
                listed = await self.list(ask.cluster_id)
                # One that was there before and is gone says nothing of those that were just made, listed or not.
                states = [each.state for each in listed if each.machine in made]
                if states.count(InstanceState.RUNNING) == len(made):
                    return sorted({each.rank: each for each in listed}.values(), key=lambda each: each.rank)
                # Another server, which was late to learn that this is not its work any more, may have ended them.
                ended = any(not self._cloud.machines[name].alive for name in made)
                if ended or InstanceState.TERMINATED in states:
                    raise CapacityRefused("a machine was taken back while it started")
                await asyncio.sleep(2.0)
            raise ProviderDown("machines did not start in time")
        except BaseException:
            # Nobody waits for it, and nobody is told when it fails: then the engine's own record has to do.
            await self._insist(f"undo {ask.cluster_id}", lambda: self._cloud.end(ask.cluster_id, ask.wanted))
            raise

    async def list(
        self, cluster_id: str | None = None, *, regions: Collection[str] | None = None
    ) -> Sequence[Instance]:
        found = await self._request("list", lambda: self._cloud.listed(cluster_id))
        there = {(each.mark, each.rank) for each in found if each.alive}
        shown = [each for each in found if each.alive or (each.mark, each.rank) not in there]
        return [_instance(each) for each in sorted(shown, key=lambda each: (each.mark, each.rank, each.born))]

    async def terminate(
        self, cluster_id: str, *, regions: Collection[str] | None = None, ranks: Collection[int] | None = None
    ) -> None:
        await self._insist(f"end {cluster_id}", lambda: self._cloud.end(cluster_id, ranks))

    def irreplaceable(self, placement: Placement, config: Mapping[str, object]) -> str:
        """Each machine is one of its own."""
        return ""

    async def stop(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        await self._insist(f"stop {cluster_id}", lambda: self._cloud.stop(cluster_id))
        return await self.list(cluster_id)

    async def start(self, cluster_id: str, *, regions: Collection[str] | None = None) -> Sequence[Instance]:
        await self._insist(f"start {cluster_id}", lambda: self._cloud.start(cluster_id))
        while True:
            there = await self.list(cluster_id)
            if not any(each.state is InstanceState.PENDING for each in there):
                return there
            await asyncio.sleep(2.0)

    async def spans(self, *, regions: Collection[str] | None = None) -> Sequence[Span]:
        """What is on the cloud's own bill."""
        return await self._request("spans", lambda: [
            Span(each.mark, each.name, f"{self._cloud.name}-r", each.zone, each.kind,
                 Market.SPOT if each.spot else Market.ON_DEMAND, begin, end)
            for each in self._cloud.machines.values() for begin, end in each.billed
        ])  # fmt: skip

    async def _insist(self, what: str, effect: Callable[[], T]) -> T:
        """A request that is repeated when its answer does not come, as the SDKs of clouds do."""
        for attempt in range(_TRIES):
            try:
                return await self._request(what, effect)
            except ProviderDown:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(0.5 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    async def _request(self, what: str, effect: Callable[[], T]) -> T:
        """One request. It takes effect in the middle; before and after that, the line may break."""
        cloud, weather = self._cloud, self._cloud.weather
        there_and_back = cloud.rng.uniform(0.02, 0.4) + weather.slow_s
        await asyncio.sleep(there_and_back / 2)
        if weather.down:
            raise ProviderDown(f"{cloud.name} does not answer")
        if weather.expired:
            raise CredentialsRejected(f"the credentials for {cloud.name} have expired")
        if cloud.rng.random() < weather.throttled:
            raise Throttled("slow down", retry_after=cloud.rng.uniform(0.5, 3))
        answer = effect()
        if cloud.rng.random() < weather.doubled:
            answer = effect()
        await asyncio.sleep(there_and_back / 2)
        if cloud.rng.random() < weather.lost:
            raise ProviderDown(f"the answer of {cloud.name} was lost")
        return answer


def _instance(machine: Machine) -> Instance:
    reach = {"kind": "local", "home": f"/{machine.name}", "socket": f"/{machine.name}/agent.sock", "sim": machine.name}
    return Instance(f"{machine.mark}-{machine.rank}", machine.mark, machine.rank, machine.state,
                    f"10.0.0.{machine.rank}", reach, machine.reason, machine.name, since=machine.since)  # fmt: skip
