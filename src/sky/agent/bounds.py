"""Bounds in time for what is awaited, on every Python that a node may have."""

from __future__ import annotations

import asyncio
from typing import Awaitable, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await `work` for so many seconds at most; asyncio.TimeoutError after that, and `work` has been ended by then.

    In place of `asyncio.wait_for`, which until Python 3.12 forgets a cancellation that comes in the moment in which
    `work` is done: who asked for it then waits for a loop that never ends.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            return task.result()
        raise asyncio.TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
