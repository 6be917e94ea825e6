"""One server process that can die at any await: its way to everything outside of itself leads through gates.

A dead process commits nothing, asks nobody and hears nothing; what it had begun stays as it was in that moment. `world`
starts and kills them.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from typing import Any, Protocol

#: The replica on whose behalf something runs; None for the world itself and for users.
REPLICA: contextvars.ContextVar["Replica | None"] = contextvars.ContextVar("REPLICA", default=None)


class Died(BaseException):
    """The process is dead; nothing in it may catch this as if it were an error."""


class Line(Protocol):
    """Something open to the outside."""

    def hang_up(self) -> None: ...


class Replica:
    """The life of one process. `passing` is told of each call that leaves it, before and after, and may delay it."""

    def __init__(self, name: str, passing: Callable[[str, str], float]) -> None:
        self.name = name
        self.dead = False
        self.paused_until = 0.0
        self.lines: list[Line] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._passing = passing
        self._loop = asyncio.get_running_loop()

    async def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something on behalf of this process."""
        context = contextvars.copy_context()
        context.run(REPLICA.set, self)
        return await asyncio.get_running_loop().create_task(work, context=context)

    async def out(self, label: str, call: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> Any:
        """One call to the outside."""
        if (pause := self._gate(label, "before")) > 0:
            await self._stand(pause)
        answer = await call(*args, **kwargs)
        if (pause := self._gate(label, "after")) > 0:
            await self._stand(pause)
        return answer

    def _gate(self, label: str, side: str) -> float:
        """Seconds to wait here. Raises Died."""
        if self.dead:
            raise Died
        pause = self._passing(label, side)
        if self.dead:
            raise Died
        left = self.paused_until - self._loop.time()
        return pause if pause > left else left

    async def _stand(self, pause: float) -> None:
        await asyncio.sleep(pause)
        while (left := self.paused_until - self._loop.time()) > 0:  # noqa: ASYNC110 - it may grow
            await asyncio.sleep(left)
        if self.dead:
            raise Died

    def die(self) -> None:
        """From now on it has no effect on anything."""
        self.dead = True
        for line in self.lines:
            line.hang_up()
        self.lines.clear()

    def ended(self, task: asyncio.Task[Any]) -> None:
        """A task is over; how, only those want to know who wait for it."""
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()

    async def bury(self) -> None:
        """Let what is left of it come to its end."""
        while left := [task for task in self.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        self.tasks.clear()


def count_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let replicas know the tasks that run on their behalf."""

    def make(loop: asyncio.AbstractEventLoop, work: Any, context: contextvars.Context | None = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        owner = REPLICA.get() if context is None else context.get(REPLICA)
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(owner.ended)
        return task

    loop.set_task_factory(make)


class Gated:
    """Stands for something outside: each coroutine method of it goes through the replica's gate."""

    def __init__(self, replica: Replica, inner: object, label: str) -> None:
        self._inner = inner
        for name in _ways_out(type(inner)):  # type: ignore[arg-type] # types can be hashed
            self.__dict__[name] = _gated(replica, getattr(inner, name), f"{label}.{name}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@cache
def _ways_out(kind: type) -> tuple[str, ...]:
    # Of properties there is no need to ask: they are none.
    return tuple(
        name for name in dir(kind) if not name.startswith("_") and asyncio.iscoroutinefunction(getattr(kind, name))
    )


def _gated(replica: Replica, call: Callable[..., Awaitable[Any]], label: str) -> Callable[..., Awaitable[Any]]:
    def out(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return replica.out(label, call, args, kwargs)

    return out


_NOUNS = (
    "clusters", "jobs", "requests", "managed_jobs", "stories", "outcomes", "duties", "users", "audit", "ledger",
)  # fmt: skip


class GatedStore:
    """A store as one process has it; closing it leaves the disk to the next."""

    def __init__(self, replica: Replica, inner: Any) -> None:
        self._gated = Gated(replica, inner, "store")
        for name in _NOUNS:
            setattr(self, name, Gated(replica, getattr(inner, name), name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gated, name)

    async def close(self) -> None:
        """The disk stays."""
