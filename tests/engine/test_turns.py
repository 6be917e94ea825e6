"""Turns: what is short waits behind nothing, and one user's many launches hold up nobody else's."""

import asyncio
from collections import Counter

import pytest

from sky.core.errors import ConcurrentWorkerExhaustedError
from sky.engine.turns import Limits, Turns, limits_of
from sky.server.assembly import build
from sky.server.settings import Settings


class House:
    """Requests that last until the test ends them."""

    def __init__(self, limits):
        self.limits = limits
        self.turns = Turns(lambda: self.limits)
        self.busy = {}
        self.began = []
        self.told = 0
        self.tasks = []

    def ask(self, user, name="launch"):
        task = asyncio.create_task(self._work(user, name))
        self.tasks.append(task)
        return task

    async def _work(self, user, name):
        async with self.turns.turn(name, user, self._tell):
            end = asyncio.Event()
            self.busy.setdefault(user, []).append(end)
            self.began.append(user)
            await end.wait()

    def _tell(self):
        self.told += 1

    async def settle(self):
        # One begins in each round of the loop.
        for _ in range(40):
            await asyncio.sleep(0)

    async def end_one(self, user):
        self.busy[user].pop(0).set()
        await self.settle()

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.turns.waiting == 0
        assert not self.turns._busy


@pytest.fixture
async def house():
    made = House(Limits(10, 8))
    yield made
    await made.close()


async def test_the_first_of_another_user_does_not_wait_behind_a_thousand(house):
    for _ in range(1000):
        house.ask("a")
    await house.settle()
    assert Counter(house.began) == {"a": 8}
    house.ask("b")
    await house.settle()
    assert house.began[-1] == "b"
    assert house.turns.waiting == house.told == 992


async def test_of_a_thousand_that_may_begin_the_only_one_of_another_is_next():
    house = House(Limits(2000, 1600))
    for _ in range(1000):
        house.ask("a")
    await asyncio.sleep(0)
    house.ask("b")
    for _ in range(4):
        await asyncio.sleep(0)
    assert house.began[-1] == "b" or house.began[-2] == "b"
    assert len(house.began) < 6
    assert house.told == 0
    while house.turns.waiting:
        await asyncio.sleep(0)
    await house.close()


async def test_what_is_short_never_waits(house):
    for user in "abc":
        for _ in range(20):
            house.ask(user)
    await house.settle()
    assert len(house.began) == 10
    for name in ("down", "stop", "cancel", "autostop", "exec"):
        house.ask("a", name)
    await house.settle()
    assert len(house.began) == 15


async def test_free_places_go_to_who_has_the_fewest(house):
    for _ in range(50):
        house.ask("a")
    await house.settle()
    for _ in range(50):
        house.ask("b")
    await house.settle()
    assert Counter(house.began) == {"a": 8, "b": 2}
    for _ in range(3):
        await house.end_one("a")
    assert {user: len(ends) for user, ends in house.busy.items()} == {"a": 5, "b": 5}


async def test_what_is_called_off_leaves_no_gap(house):
    tasks = [house.ask("a") for _ in range(30)]
    await house.settle()
    for task in tasks[5:20]:
        task.cancel()
    await house.settle()
    assert len(house.began) == 8 + 3
    assert house.turns.waiting == 7


async def test_called_off_in_the_moment_in_which_it_is_given():
    house = House(Limits(1, 1))
    house.ask("a")
    second, third = house.ask("a"), house.ask("b")
    await house.settle()
    house.busy["a"][0].set()
    # Until it is given to one of them, which does not know yet.
    while house.turns.waiting == 2:
        await asyncio.sleep(0)
    third.cancel()
    await house.settle()
    assert house.began == ["a", "a"]
    assert not second.done()
    await house.close()


async def test_a_changed_limit_counts(house):
    for _ in range(20):
        house.ask("a")
    await house.settle()
    house.limits = Limits(10, 10)
    await house.end_one("a")
    assert len(house.began) == 11


def test_limits_as_configured():
    assert limits_of({}) == Limits()
    assert limits_of({"launches_at_once": 10}) == Limits(10, 8)
    assert limits_of({"launches_at_once": 1, "launches_per_user": 5, "launches_on_record": 3}) == Limits(1, 1, 3)
    assert limits_of({"launches_at_once": 0}) == Limits()


async def test_beyond_the_bound_launches_are_refused_and_downs_are_not(tmp_path):
    plane = build(Settings(tmp_path, config={"api_server": {"launches_on_record": 3}}))
    await plane.store.connect()
    for number in range(3):
        await plane.submit("launch", {"cluster_name": "c"}, user="u", request_id=f"request-{number}")
    assert await plane.store.requests.unended() == 3
    with pytest.raises(ConcurrentWorkerExhaustedError, match="launches_on_record"):
        await plane.submit("launch", {"cluster_name": "c"}, user="u", request_id="request-3")
    assert (await plane.submit("launch", {"cluster_name": "c"}, user="u", request_id="request-1")).id == "request-1"
    await plane.submit("down", {"cluster_name": "c"}, user="u", request_id="request-4")
    await plane.store.close()
