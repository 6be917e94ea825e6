"""All machines of one ask or none: what fails or is called off leaves nothing behind.

How machines are made is a `Source`: one by one or in a group (`machines`), or as TPUs (`tpu`). Used by `compute`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from sky.core.errors import ProviderDown, ProviderFailure, Throttled
from sky.kit.clock import Clock, SystemClock
from sky.kit.together import together, unbroken
from sky.providers.gcp.instances import Machine

T = TypeVar("T")
Step = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)

#: How often what is left of a failed attempt is removed, before that is left to whoever ends the cluster.
_SWEEPS = 3


class Source(Protocol):
    """One ask's machines."""

    def making(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What makes them, to be run side by side; each finds what a former try has made."""
        ...

    def running(self) -> Sequence[Coroutine[Any, Any, Sequence[Machine]]]:
        """What waits until they run, and tells them as they are then."""
        ...

    async def end(self) -> None:
        """Remove whatever there is of them; what is gone is no failure."""
        ...


async def whole(
    source: Source, before: Step, beside: Step, undo: Step, clock: Clock | None = None
) -> Sequence[Machine]:
    """All machines, running. `undo` removes what the steps `before` them and `beside` them made."""
    try:
        await before()
        await together([*source.making(), _awaited(beside)])
        found = await together(source.running())
        return [machine for part in found for machine in part]
    except BaseException as error:
        left = await unbroken(_sweep(source, undo, clock or SystemClock()))
        if left is not None and isinstance(error, ProviderFailure):
            raise _with_rest(error, left) from error
        raise


async def _sweep(source: Source, undo: Step, clock: Clock) -> ProviderFailure | None:
    """Remove all that may have been made. The failure that it could not, if so."""
    left: ProviderFailure | None = None
    for sweep in range(_SWEEPS):
        try:
            await source.end()
            await undo()
            return None
        except (ProviderDown, Throttled) as failure:
            left = failure
            await clock.sleep(1.0 + sweep)
        except ProviderFailure as failure:
            left = failure
            break
    log.warning("machines of an attempt that failed may be left: %s", left)
    return left


async def to_the_end(work: Sequence[Coroutine[Any, Any, None]]) -> None:
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
