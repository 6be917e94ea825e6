"""Keeping up with what changes: those that did, soon, and everybody now and then."""

import asyncio

from sky.engine.waiting import apart, keep_up
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals


class Looks:
    """Looks that were taken; one fails where `failing` says so, and lasts while it is not `free`."""

    def __init__(self, signals):
        self.signals = signals
        self.taken = []
        self.failing = 0
        self.free = asyncio.Event()
        self.free.set()
        self._more = asyncio.Event()

    async def look(self, whose):
        if self.failing:
            self.failing -= 1
            raise OSError("the disk is full")
        self.taken.append(whose)
        self._more.set()
        await self.free.wait()

    async def until(self, count):
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                self._more.clear()
                await self._more.wait()
        return self.taken


async def kept_up(looks, work):
    task = asyncio.create_task(keep_up(looks.signals, "cluster", looks.look, SystemClock()))
    try:
        return await work()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_after_a_look_at_everybody_only_those_that_change_are_looked_at(monkeypatch):
    monkeypatch.setattr("sky.engine.waiting._ALL_S", 600.0)
    looks = Looks(Signals())

    async def work():
        await looks.until(1)
        looks.signals.notify("cluster:a")
        await looks.until(2)
        looks.signals.notify("cluster:b")
        looks.signals.notify("cluster:c")
        return await looks.until(3)

    assert await kept_up(looks, work) == [None, ["a"], ["b", "c"]]


async def test_everybody_is_looked_at_without_a_wake_up_and_after_a_failure(monkeypatch):
    monkeypatch.setattr("sky.engine.waiting._ALL_S", 0.05)
    looks = Looks(Signals())

    async def work():
        await looks.until(2)
        looks.failing = 1
        looks.signals.notify("cluster:a")
        seen = len(looks.taken)
        return (await looks.until(seen + 1))[seen:]

    assert (await kept_up(looks, work))[-1] is None, "whom the failed look was to be at is known no more"
    assert not looks.failing


async def test_what_changes_during_a_look_is_looked_at_together_after_it(monkeypatch):
    monkeypatch.setattr("sky.engine.waiting._ALL_S", 600.0)
    looks = Looks(Signals())
    looks.free.clear()

    async def work():
        await looks.until(1)
        for name in "abc":
            looks.signals.notify(f"cluster:{name}")
            await asyncio.sleep(0.002)
        looks.free.set()
        return await looks.until(2)

    assert await kept_up(looks, work) == [None, ["a", "b", "c"]]


def test_looks_that_take_long_are_further_apart():
    assert apart(5.0, 0.01) == 5.0
    assert apart(5.0, 0.4) == 20.0


def test_a_look_that_took_very_long_once_is_not_the_last_for_an_hour():
    assert apart(5.0, 45.0) == 30.0, "a machine that was suspended in the midst of it"
    assert apart(60.0, 45.0) == 60.0
