"""The machines of one ask, made all or none: what fails or is called off leaves nothing behind.

A machine's name follows from cluster and rank, so that Google itself refuses a second one: that is what makes a
repeated ask give the same machines, whatever was lost in between. Used by `compute` alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from sky.core.errors import CapacityRefused, InstanceNotFound, ProviderDown, ProviderFailure, Throttled
from sky.core.model.clusters import InstanceState
from sky.core.ports import CreateAsk
from sky.kit.backoff import delays
from sky.kit.clock import Clock, SystemClock
from sky.providers.gcp import groups, instances, names
from sky.providers.gcp.access import Account
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.instances import Machine, Parts
from sky.providers.gcp.rest import Json, Rest

T = TypeVar("T")
Step = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)

_RUNNING_S = 600.0
_FIRST_LOOK_S = 0.1
_LONGEST_LOOK_S = 2.0
#: How often what is left of a failed attempt is removed, before that is left to whoever ends the cluster.
_SWEEPS = 3


class Gang:
    """See the module. `note` is told of every machine before it is asked for."""

    def __init__(
        self, rest: Rest, account: Account, ask: CreateAsk, parts: Parts, note: Callable[[str, str], None]
    ) -> None:
        self._rest = rest
        self._account = account
        self._ask = ask
        self._parts = parts
        self._note = note
        self._clock: Clock = SystemClock()

    async def make(self, before: Step, beside: Step, undo: Step) -> Sequence[Machine]:
        """All machines, running. `undo` removes what the steps `before` them and `beside` them made."""
        try:
            await before()
            await _together([*self._making(), _awaited(beside)])
            return await _together([self._running(rank) for rank in self._ask.wanted])
        except BaseException as error:
            left = await unbroken(self._sweep(undo))
            if left is not None and isinstance(error, ProviderFailure):
                raise _with_rest(error, left) from error
            raise

    def _making(self) -> Sequence[Coroutine[Any, Any, None]]:
        queue = self._parts.config.queue
        if queue is None:
            return [self._one(rank) for rank in self._ask.wanted]
        for rank in self._ask.wanted:
            self._note(self._parts.zone, names.machine(self._parts.mark, rank))
        return [groups.make(self._rest, self._account, self._ask, self._parts, queue)]

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

    async def _running(self, rank: int) -> Machine:
        until = self._clock.now() + _RUNNING_S
        for delay in delays(_FIRST_LOOK_S, 1.5, _LONGEST_LOOK_S):
            machine = await self._look(rank)
            if machine is not None and machine.state is InstanceState.RUNNING and machine.ip:
                return machine
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

    async def _sweep(self, undo: Step) -> ProviderFailure | None:
        """Remove all that this ask may have made. The failure that it could not, if so."""
        for sweep in range(_SWEEPS):
            try:
                if self._parts.config.queue is not None:
                    await groups.remove(self._rest, self._account, self._parts.mark, [self._parts.zone])
                await _to_the_end([self._rest.removed(self._account, self._path(rank)) for rank in self._ask.wanted])
                await undo()
                return None
            except (ProviderDown, Throttled) as failure:
                left: ProviderFailure = failure
                await self._clock.sleep(1.0 + sweep)
            except ProviderFailure as failure:
                left = failure
                break
        log.warning("machines of cluster %s may be left in %s: %s", self._ask.cluster_id, self._parts.zone, left.reason)
        return left

    def _path(self, rank: int | None = None) -> str:
        where = f"zones/{self._parts.zone}/instances"
        return where if rank is None else f"{where}/{names.machine(self._parts.mark, rank)}"


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, although the caller is cancelled meanwhile; that cancellation comes after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order, or the first failure once the others have come to rest: none goes on behind our back."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_the_end(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Everything is tried; then the first failure is raised."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _awaited(step: Step) -> None:
    await step()


def _with_rest(error: ProviderFailure, left: ProviderFailure) -> ProviderFailure:
    reason = f"{error.reason}; what was made before could not all be removed ({left.reason}): end the cluster"
    if isinstance(error, Throttled):
        return Throttled(reason, retry_after=error.retry_after, scope=error.scope)
    return type(error)(reason, scope=error.scope)
