"""What is awaited for so long at most."""

import asyncio

import pytest

from sky.agent.bounds import within


async def test_a_cancellation_in_the_moment_of_the_answer_is_not_forgotten():
    """As the library's own forgets it until Python 3.12, for both orders of the two."""
    for first in ("answer", "cancel"):
        answer = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(within(20.0, answer))
        await asyncio.sleep(0.01)
        steps = [lambda answer=answer: answer.set_result(1), task.cancel]
        for step in steps if first == "answer" else reversed(steps):
            step()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_takes_too_long_has_ended_when_that_is_said():
    ended = []

    async def long():
        try:
            await asyncio.sleep(20)
        finally:
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, long())
    assert ended


async def test_answers_and_errors_come_through():
    async def answer(value):
        return value

    async def refuse():
        raise OSError("no")

    assert await within(20.0, answer(5)) == 5
    with pytest.raises(OSError, match="no"):
        await within(20.0, refuse())


async def test_who_is_cancelled_leaves_nothing_running():
    begun, ended = asyncio.Event(), []

    async def long():
        begun.set()
        try:
            await asyncio.sleep(20)
        finally:
            ended.append(True)

    task = asyncio.ensure_future(within(20.0, long()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
