"""How far heads were heard is written for many of them at once, and nothing of it is lost by a disk that is full."""

import asyncio

import pytest

from sky.core.model.clusters import Cluster, Phase
from sky.engine import positions
from sky.engine.positions import Positions
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals


class Store:
    def __init__(self):
        self.values, self.writes, self.full = {}, 0, False

    async def get_value(self, key):
        return self.values.get(key)

    async def set_values(self, values):
        if self.full:
            raise OSError("disk full")
        self.writes += 1
        self.values.update(values)


def cluster(id, heads=0):
    return Cluster(id, id, "u", "default", Phase.UP, 0, 1.0, 1.0, 1, heads=heads)


@pytest.fixture
def kept():
    made = Positions(Store(), SystemClock(), Signals())
    made.store = made._store
    return made


async def test_many_are_one_write_and_the_last_of_each_counts(kept):
    for number in range(100):
        kept.heard(cluster(f"c{number}"), 1)
        kept.heard(cluster(f"c{number}"), 2)
    await kept.write()
    await kept.write()
    assert (kept.store.writes, set(kept.store.values.values())) == (1, {"2"})


async def test_what_is_not_written_yet_is_known_here(kept):
    kept.heard(cluster("c"), 7)
    assert await kept.of(cluster("c")) == 7
    assert await kept.of(cluster("c", heads=1)) == 0, "another head begins anew"
    assert kept.store.values == {}


async def test_a_full_disk_loses_none_and_nothing_newer_is_overwritten(kept):
    kept.heard(cluster("a"), 1)
    kept.heard(cluster("b"), 1)
    kept.store.full = True
    with pytest.raises(OSError, match="full"):
        await kept.write()
    kept.heard(cluster("a"), 2)
    kept.store.full = False
    await kept.write()
    assert kept.store.values == {"heard:a": "2", "heard:b": "1"}


async def test_they_are_written_by_and_by(kept, monkeypatch):
    monkeypatch.setattr(positions, "_TOGETHER_S", 0.01)
    task = asyncio.create_task(kept.run())
    for number in range(3):
        kept.heard(cluster("c"), number)
        async with asyncio.timeout(30):
            while kept.store.values.get("heard:c") != str(number):
                await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
