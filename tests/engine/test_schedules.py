"""Schedules on real rows: each time is launched once, also by two servers, also over a crash at any point."""

import asyncio
from dataclasses import replace

import pytest

from sky.core.errors import ConcurrentWorkerExhaustedError
from sky.core.lifecycle.machine import Step
from sky.core.lifecycle.requests import CancelAsked
from sky.core.model.requests import Request
from sky.core.model.schedules import Missed, Overlap, Schedule
from sky.core.model.statuses import RequestStatus
from sky.core.model.users import Role, User
from sky.engine.schedules import Schedules, request_id_of
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore

HOUR = 3600.0
START = 1_800_000_000.0 // HOUR * HOUR


class Clock:
    def __init__(self):
        self.at = START

    def now(self):
        return self.at

    async def sleep(self, seconds):
        await asyncio.sleep(0)


class World:
    """Real rows, a clock in hand, and submissions that are recorded as the plane records them."""

    def __init__(self):
        self.store, self.clock, self.signals = SqliteStore(), Clock(), Signals()
        self.dies = self.full = False

    async def submit(self, name, body, *, user, request_id, workspace, reach):
        if self.full:
            raise ConcurrentWorkerExhaustedError("too much waits")
        now = self.clock.now()
        drawn = Request(id=request_id, name=name, user=user, status=RequestStatus.PENDING, version=0, created_at=now,
                        body=body, workspace=workspace, reach=reach)  # fmt: skip
        request, _ = await self.store.requests.open(drawn, now)
        if self.dies:
            raise asyncio.CancelledError
        return request

    def loop(self):
        return Schedules(self.store, self.clock, self.signals, self.submit)

    async def launches(self):
        found = await self.store.requests.recent(finished=True, cluster_name=None, limit=None)
        return sorted(each.id for each in found)


@pytest.fixture
async def world():
    made = World()
    await made.store.connect()
    yield made
    await made.store.close()


async def drawn(world, **more):
    made = Schedule(
        "s1", "hourly", "ann", "default", "0 * * * *", "UTC", {"dag": {}},
        tick_at=START + HOUR, next_at=START + HOUR, **more,
    )  # fmt: skip
    assert await world.store.schedules.add(made)
    return made


def due(schedule, *hours):
    return sorted(request_id_of(schedule, START + hour * HOUR) for hour in hours)


async def test_each_time_is_launched_once(world):
    made = await drawn(world, overlap=Overlap.ALLOW)
    loop = world.loop()
    for hour in (0.5, 1.0, 1.001, 1.9, 2.0, 3.0):
        world.clock.at = START + hour * HOUR
        for _ in range(3):
            await loop.once()
    assert await world.launches() == due(made, 1, 2, 3)
    (now,) = await world.store.schedules.all()
    assert (now.tick_at, now.last_at, now.said) == (START + 4 * HOUR, START + 3 * HOUR, "launched")


async def test_two_servers_launch_once(world):
    made = await drawn(world, overlap=Overlap.ALLOW)
    loops = [world.loop() for _ in range(4)]
    for hour in (1, 2):
        world.clock.at = START + hour * HOUR
        await asyncio.gather(*(loop.once() for loop in loops))
        # And in each other's way, between reading and writing.
        (seen,) = await world.store.schedules.all()
        await asyncio.gather(*(loop._look(replace(seen, tick_at=START + hour * HOUR)) for loop in loops))
    assert await world.launches() == due(made, 1, 2)


async def test_a_crash_after_the_launch_does_not_double_it(world):
    made = await drawn(world, overlap=Overlap.ALLOW)
    world.clock.at, world.dies = START + HOUR, True
    with pytest.raises(asyncio.CancelledError):
        await world.loop().once()
    world.clock.at, world.dies = START + 2.5 * HOUR, False
    await world.loop().once()
    # What was decided is carried out late rather than lost; what passed meanwhile is missed.
    await world.loop().once()
    assert await world.launches() == due(made, 1)


async def test_a_crash_before_the_launch_does_not_lose_it(world):
    made = await drawn(world)

    async def dies(*given, **named):
        raise asyncio.CancelledError

    world.clock.at = START + HOUR
    broken = Schedules(world.store, world.clock, world.signals, dies)
    with pytest.raises(asyncio.CancelledError):
        await broken.once()
    assert await world.launches() == []
    await world.loop().once()
    assert await world.launches() == due(made, 1)


@pytest.mark.parametrize(("missed", "hours"), [(Missed.SKIP, ()), (Missed.ONCE, (5,))])
async def test_times_at_which_no_server_ran(world, missed, hours):
    made = await drawn(world, missed=missed)
    world.clock.at = START + 5.5 * HOUR
    await world.loop().once()
    assert await world.launches() == due(made, *hours)


async def test_the_next_waits_for_the_one_before(world):
    made = await drawn(world, overlap=Overlap.QUEUE)
    loop = world.loop()
    for hour in (1, 2, 3):
        world.clock.at = START + hour * HOUR
        await loop.once()
    assert await world.launches() == due(made, 1), "the first request has not ended"
    (first,) = await world.store.requests.claim(world.clock.at, 60, "t", 10)
    await end(world, first)
    world.clock.at += 10
    await loop.once()
    assert await world.launches() == due(made, 1, 2)


async def end(world, claim):
    over = replace(claim.entity, status=RequestStatus.SUCCEEDED, finished_at=world.clock.at)
    await world.store.requests.commit(claim, Step(over, ()), CancelAsked(), now=world.clock.at, due_at=None)
    await world.store.requests.release(claim)


async def test_what_is_refused_is_said_and_the_next_time_comes(world):
    made = await drawn(world)
    loop = world.loop()
    world.clock.at, world.full = START + HOUR, True
    await loop.once()
    (now,) = await world.store.schedules.all()
    assert now.launching is None and now.said == "not launched: too much waits"
    world.clock.at, world.full = START + 2 * HOUR, False
    await loop.once()
    assert await world.launches() == due(made, 2)


async def test_who_is_shut_out_launches_nothing(world):
    await drawn(world)
    await world.store.users.add(User("ann", Role.USER, disabled=True))
    world.clock.at = START + HOUR
    await world.loop().once()
    (now,) = await world.store.schedules.all()
    assert now.paused and "shut out" in now.said and await world.launches() == []
