"""Blocking calls in threads: bounded, and never left running behind a cancellation."""

import asyncio
import threading

import pytest

from sky.providers.blocking import Calls


async def test_result_and_exception_come_back() -> None:
    calls = Calls(2)
    assert await calls.run(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        await calls.run(int, "x")


async def test_no_more_than_workers_at_once() -> None:
    calls, lock, running, most = Calls(3), threading.Lock(), [0], [0]
    barrier = threading.Barrier(3, timeout=10)

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait()
        with lock:
            running[0] -= 1

    await asyncio.gather(*(calls.run(work) for _ in range(9)))
    assert most[0] == 3


async def test_cancelled_call_under_way_is_waited_for() -> None:
    calls, begun, go, ended = Calls(1), threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert go.wait(10)
        ended.append("whole")
        raise ValueError("nobody hears this")

    task = asyncio.create_task(calls.run(work))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # again: still the call is not left behind
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["whole"]


async def test_cancelled_call_that_waits_its_turn_is_never_made() -> None:
    calls, begun, go, made = Calls(1), threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        assert go.wait(10)

    holding = asyncio.create_task(calls.run(first))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(calls.run(made.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await holding
    assert made == []
