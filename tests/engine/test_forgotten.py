"""After a power failure nothing is made beside what the records have forgotten."""

from dataclasses import replace

import pytest

from sky.core.errors import ProviderDown
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Site
from sky.engine import forgotten as subject
from sky.engine.forgotten import Forgotten
from sky.store.sqlite import SqliteStore

OLD = Cluster("c1", "one", "u", "default", Phase.PROVISIONING, 0, 900.0, 900.0, 1, request_id="r1")


class Clock:
    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds


class Cloud:
    """One place, with machines of two clusters; as all clouds here, it is its own list of providers."""

    def __init__(self):
        self.machines = [self.machine("c1"), self.machine("c1-h1"), self.machine("c10")]
        self.ended, self.away = [], False

    def machine(self, mark, state=InstanceState.RUNNING):
        return Instance(f"{mark}-0", mark, 0, state, "10.0.0.1")

    def compute(self, cloud):
        return self

    async def list(self, cluster_id=None, *, regions=None):
        if self.away:
            raise ProviderDown("no answer")
        return self.machines

    async def terminate(self, cluster_id, *, regions=None, ranks=None):
        self.ended.append((cluster_id, ranks))
        self.machines = [each for each in self.machines if each.cluster_id != cluster_id]


@pytest.fixture
async def store(tmp_path):
    opened = SqliteStore(tmp_path / "state.db")
    yield opened
    await opened.close()


async def started(store, boot, cloud, clock):
    made = Forgotten(store, cloud, clock, boot)
    await made.begin()
    return made


async def test_what_is_left_goes_once_and_only_what_is_the_cluster_s(store):
    cloud, clock = Cloud(), Clock()
    await started(store, "first", cloud, clock)
    again = await started(store, "second", cloud, clock)
    assert await again.end(OLD, ["aws"]) == {}
    assert sorted(mark for mark, _ in cloud.ended) == ["c1", "c1-h1"]
    assert clock.time >= 1000.0 + subject._LAG_S, "a list that lags is given time"
    cloud.machines.append(cloud.machine("c1"))
    assert await again.end(OLD, ["aws"]) == {}
    assert len(cloud.ended) == 2, "what was made since is on record"
    await again.end_ranks(OLD, Site("aws", "r", "c1"), (0,))
    assert cloud.ended[-1] == ("c1", (0,))


@pytest.mark.parametrize("boots", [("one",), ("one", "one"), ("",), ("one", "")])
async def test_without_a_new_start_of_the_system_nothing_is_doubted(store, boots):
    cloud, clock = Cloud(), Clock()
    for boot in boots:
        made = await started(store, boot, cloud, clock)
    assert await made.end(OLD, ["aws"]) == {}
    await made.end_ranks(OLD, Site("aws", "r", "c1"), (0,))
    assert cloud.ended == [] and clock.time == 1000.0


async def test_a_server_that_is_started_once_more_still_doubts(store):
    cloud, clock = Cloud(), Clock()
    for boot in ("first", "second", "second"):
        made = await started(store, boot, cloud, clock)
    assert made.doubts(OLD)
    assert not made.doubts(replace(OLD, created_at=clock.time + subject._AGAIN_S))


async def test_a_cloud_that_cannot_be_asked_gets_nothing_new_until_it_can(store):
    cloud, clock = Cloud(), Clock()
    await started(store, "first", cloud, clock)
    again = await started(store, "second", cloud, clock)
    cloud.away = True
    failed = await again.end(OLD, ["aws"])
    assert isinstance(failed["aws"], ProviderDown) and cloud.ended == []
    cloud.away = False
    assert await again.end(OLD, ["aws"]) == {}
    assert cloud.ended != []
