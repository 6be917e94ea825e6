"""Machines of Compute Engine made for one ask: one by one, or by a managed group in one go. A `Source` of `gang`.

A machine's name follows from cluster and rank, so that Google itself refuses a second one: that is what makes a
repeated ask give the same machines, whatever was lost in between.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sky.core.errors import CapacityRefused, InstanceNotFound, ProviderDown
from sky.core.model.clusters import InstanceState
from sky.core.ports import CreateAsk
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.providers.gcp import groups, instances, names
from sky.providers.gcp.access import Account
from sky.providers.gcp.config import Queue
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.gang import to_the_end
from sky.providers.gcp.instances import Machine, Parts
from sky.providers.gcp.rest import Json, Rest

_RUNNING_S = 600.0
_FIRST_LOOK_S = 0.1
_LONGEST_LOOK_S = 2.0


class Singles:
    """Machines that are asked for one by one. `note` is told of every machine before it is."""

    def __init__(
        self, rest: Rest, account: Account, ask: CreateAsk, parts: Parts, note: Callable[[str, str], None]
    ) -> None:
        self._rest = rest
        self._account = account
        self._ask = ask
        self._parts = parts
        self._note = note
        self._clock: Clock = SystemClock()

    def making(self) -> Sequence[Coroutine[Any, Any, None]]:
        """See `Source`."""
        return [self._one(rank) for rank in self._ask.wanted]

    def running(self) -> Sequence[Coroutine[Any, Any, Sequence[Machine]]]:
        """See `Source`."""
        return [self._running(rank) for rank in self._ask.wanted]

    async def end(self) -> None:
        """See `Source`."""
        await to_the_end([self._rest.removed(self._account, self._path(rank)) for rank in self._ask.wanted])

    async def _one(self, rank: int) -> None:
        body = instances.request(self._ask, rank, self._parts)
        self._note(self._parts.zone, body["name"])
        try:
            operation: Json | None = await self._rest.post(self._account, self._path(), body)
        except AlreadyThere:
            operation = await self._again(rank, body)
        await self._rest.wait(self._account, operation)

    async def _again(self, rank: int, body: Json) -> Json | None:
        """There is one of this name: from this ask, or from one before it that nobody wants any more."""
        there = await self._look(rank)
        if there is not None and there.alive and there.key == names.key_label(self._ask.key):
            return None
        await self._rest.removed(self._account, self._path(rank))
        return await self._rest.post(self._account, self._path(), body)

    async def _running(self, rank: int) -> Sequence[Machine]:
        until = self._clock.now() + _RUNNING_S
        for delay in delays(_FIRST_LOOK_S, 1.5, _LONGEST_LOOK_S):
            machine = await self._look(rank)
            if machine is not None and machine.state is InstanceState.RUNNING and machine.ip:
                return [machine]
            if machine is not None and not machine.alive:
                raise CapacityRefused(f"machine {machine.name} was ended by Google while it began", scope="zone")
            if self._clock.now() > until:
                raise ProviderDown(f"node {rank} does not run after {_RUNNING_S:.0f} s", scope="zone")
            await self._clock.sleep(delay)
        raise AssertionError("delays are endless")

    async def _look(self, rank: int) -> Machine | None:
        try:
            record = await self._rest.get(self._account, self._path(rank))
        except InstanceNotFound:
            return None
        return instances.read(record, self._parts.installation)

    def _path(self, rank: int | None = None) -> str:
        where = f"zones/{self._parts.zone}/instances"
        return where if rank is None else f"{where}/{names.machine(self._parts.mark, rank)}"


class Grouped(Singles):
    """Machines that a managed group makes when it has them all."""

    def __init__(
        self,
        rest: Rest,
        account: Account,
        ask: CreateAsk,
        parts: Parts,
        note: Callable[[str, str], None],
        queue: Queue,
    ) -> None:
        super().__init__(rest, account, ask, parts, note)
        self._queue = queue

    def making(self) -> Sequence[Coroutine[Any, Any, None]]:
        """See `Source`."""
        for rank in self._ask.wanted:
            self._note(self._parts.zone, names.machine(self._parts.mark, rank))
        return [groups.make(self._rest, self._account, self._ask, self._parts, self._queue)]

    async def end(self) -> None:
        """See `Source`. A cluster that was to grow keeps its group."""
        if self._ask.ranks:
            await groups.withdraw(self._rest, self._account, self._ask, self._parts)
        await super().end()
        if not self._ask.ranks:
            await groups.remove(self._rest, self._account, self._parts.mark, [self._parts.zone])
