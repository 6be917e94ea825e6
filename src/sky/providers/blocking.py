"""Calls of client libraries that block, in a bounded number of threads; for the clouds whose SDK knows no other way."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Calls:
    """At most `workers` calls at once; more wait their turn. The threads start with the first calls."""

    def __init__(self, workers: int = 16) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="sky-call")

    async def close(self) -> None:
        """Let the threads end; those that are busy are not waited for longer than a moment."""
        ending = asyncio.ensure_future(asyncio.to_thread(self._pool.shutdown, cancel_futures=True))
        await asyncio.wait([ending], timeout=1.0)

    async def run(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What the function returns or raises.

        One that is cancelled before its turn is never called. One that is under way cannot be stopped: it is waited
        for, and the cancellation comes after it, so that whoever cleans up then sees all that it did.
        """
        context = copy_context()
        work = self._pool.submit(lambda: context.run(function, *args, **named))
        done = asyncio.wrap_future(work)
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError as error:
                cancelled = error
                work.cancel()
        if cancelled is None:
            return done.result()
        if not done.cancelled():
            done.exception()  # seen, so that nobody reports it as lost
        raise cancelled
