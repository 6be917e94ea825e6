"""Many who ask the same at once cost one call, and nobody's leaving is another's loss."""

import asyncio

import pytest

from sky.engine.sharing import Rounds, Shared


class Source:
    """Counts its calls; answers when the gate opens."""

    def __init__(self):
        self.calls, self.cancelled, self.gate = 0, 0, asyncio.Event()

    async def __call__(self):
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.calls


async def test_a_thousand_followers_ask_once():
    source, shared = Source(), Shared()
    waiting = [asyncio.create_task(shared.call("k", source)) for _ in range(1000)]
    other = asyncio.create_task(shared.call("other", source))
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    source.gate.set()
    done = await asyncio.gather(*waiting[1:], other)
    assert source.calls == 2
    assert len(done) == 1000
    assert await shared.call("k", source) == 3, "what is asked later is asked anew"


async def test_the_call_ends_with_the_last_who_waits():
    source, shared = Source(), Shared()
    waiting = [asyncio.create_task(shared.call("k", source)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert source.cancelled == 1
    source.gate.set()
    assert await shared.call("k", source) == 2


async def test_a_failure_is_everybodys():
    shared = Shared()

    async def fails():
        await asyncio.sleep(0)
        raise ValueError("no")

    told = await asyncio.gather(*(shared.call("k", fails) for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in told] == ["no"] * 3
    with pytest.raises(ValueError, match="no"):
        await shared.call("k", fails)


async def test_who_asks_while_an_answer_is_made_shares_the_next():
    source, rounds = Source(), Rounds()
    first = [asyncio.create_task(rounds.answer("k", source)) for _ in range(3)]
    await asyncio.sleep(0.01)
    later = [asyncio.create_task(rounds.answer("k", source)) for _ in range(3)]
    other = asyncio.create_task(rounds.answer("other", source))
    await asyncio.sleep(0.01)
    assert source.calls == 2, "one of each key at a time"
    later[0].cancel()
    source.gate.set()
    await asyncio.gather(*first, *later[1:], other)
    assert source.calls == 3
    assert await rounds.answer("k", source) == 4, "what is asked later is asked anew"
    assert not rounds._under_way and not rounds._next


async def test_a_failed_answer_holds_up_no_other():
    rounds = Rounds()

    async def fails():
        raise ValueError("no")

    for _ in range(2):
        told = await asyncio.gather(*(rounds.answer("k", fails) for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in told] == ["no"] * 3
