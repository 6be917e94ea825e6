"""One call for many who ask the same at the same time; `plane` reads logs through it, the server tells of clusters.

A thousand followers of one log stand at the same offset: the agent is asked once for all of them. Whoever asks how
things are wants to know of all that happened before: they share an answer that is begun after they asked.
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


class Rounds(Generic[T]):
    """Answers one after another, each for all who asked the same since the last was begun."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def answer(self, key: Hashable, make: Callable[[], Coroutine[object, object, T]]) -> T:
        """What `make`, or that of another with the same key, gives; it is called after now."""
        if key not in self._next:
            task = asyncio.create_task(self._make(key, make, self._under_way.get(key)))
            # Looked at, so that nobody warns of it where all who asked have left.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._next[key] = task
        return await asyncio.shield(self._next[key])

    async def _make(
        self, key: Hashable, make: Callable[[], Coroutine[object, object, T]], before: "asyncio.Task[T] | None"
    ) -> T:
        if before is not None:
            await asyncio.wait((before,))
        mine = self._under_way[key] = self._next.pop(key)
        try:
            return await make()
        finally:
            if self._under_way.get(key) is mine:
                del self._under_way[key]
