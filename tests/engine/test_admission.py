"""Whose turn it is: few are looked at where few can begin, and all where some have to be passed over."""

import pytest

from sky.core.lifecycle import managed_jobs as life
from sky.core.lifecycle.managed_events import Admitted
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.engine.admission import Admission
from sky.engine.post import Post
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore


@pytest.fixture
async def house():
    class House:
        def __init__(self):
            self.store, self.clock, self.signals, self.jobs = SqliteStore(), SystemClock(), Signals(), {}
            post = Post(self.clock, self.signals)
            self.admission = Admission(self.store, post, self.clock, self.signals, lambda name: self.jobs)

        async def wait(self, user, count, first=0):
            """So many jobs of a user wait; their ids."""
            drawn = [
                ManagedJob(f"{user}{first + at}", 0, f"{user}{first + at}", "j", user, "default", Stage.WAITING, 0,
                           1.0 + first + at, (ManagedTask("t"),), task_configs={"0": {"run": "true"}}, request_id=user)
                for at in range(count)
            ]  # fmt: skip
            return [each.id for each in await self.store.managed_jobs.open([life.opening(job) for job in drawn], 1.0)]

        async def read(self, id):
            """A job reads that its turn has come."""
            (claim,) = (each for each in await self.store.managed_jobs.claim(1e10, 1, "t", 500) if each.entity.id == id)
            (letter,) = claim.letters
            assert letter.event == Admitted()
            step = life.TABLE.step(claim.entity, letter.event, 2.0)
            rows = self.store.managed_jobs
            await rows.commit(claim, step, letter.event, now=2.0, due_at=None, letters=[letter.id])

    made = House()
    yield made
    await made.store.close()


async def test_all_begin_where_there_is_room_and_each_is_told_once(house):
    ids = await house.wait("ann", 120)
    assert await house.admission.once() == ids
    assert await house.admission.once() == []


async def test_who_has_as_many_as_one_may_have_is_passed_over_by_those_far_behind(house):
    house.jobs = {"running_per_user": 2}
    ann = await house.wait("ann", 120)
    bob = await house.wait("bob", 1, first=500)
    assert await house.admission.once() == [*ann[:2], *bob]
    assert await house.admission.once() == []


async def test_as_many_as_may_be_launched_begin_and_the_rest_in_their_turn(house):
    house.jobs = {"launches_at_once": 3}
    ids = await house.wait("ann", 120)
    assert await house.admission.once() == ids[:3]
    await house.read(ids[0])
    assert await house.admission.once() == [], "it is being launched"
