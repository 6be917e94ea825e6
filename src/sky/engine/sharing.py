"""One call for many who ask the same at the same time; `plane` reads logs through it.

A thousand followers of one log stand at the same offset: the agent is asked once for all of them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Calls under way, by what they ask."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, tuple[asyncio.Task[T], set[object]]] = {}

    async def call(self, key: Hashable, make: Callable[[], Coroutine[object, object, T]]) -> T:
        """The outcome of the call under this key, made now unless one is under way; it ends with the last who waits."""
        if key not in self._calls:
            task = asyncio.create_task(make())
            self._calls[key] = (task, set())
            task.add_done_callback(partial(self._ended, key))
        task, waiting = self._calls[key]
        me = object()
        waiting.add(me)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.discard(me)
            if not waiting and not task.done():
                task.cancel()
                self._ended(key, task)

    def _ended(self, key: Hashable, task: "asyncio.Task[T]") -> None:
        if key in self._calls and self._calls[key][0] is task:
            del self._calls[key]
