"""Nodes of a gang are replaced: by whom that can be done, within which time, and what a whole control plane does."""

import asyncio
import contextlib
import os
import signal

import pytest

from sky.core.errors import CapacityRefused, NotSupportedError, ProviderDown
from sky.core.lifecycle import clusters as life
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase, Site
from sky.core.model.managed_jobs import Stage
from sky.core.model.offers import Offer, Placement
from sky.core.model.outcomes import OutcomeKind
from sky.engine import provision
from sky.engine.forgotten import Forgotten
from sky.engine.grants import Given
from sky.engine.positions import position_of
from sky.engine.provision import Provisioner
from sky.engine.waiting import until
from sky.kit.clock import SystemClock
from sky.providers.local import processes

OFFER = Offer("aws", "r1", "r1-a", "t1", 4, 16, 1.5, use_spot=True)
NODES = tuple(Instance(f"c-{rank}", "c", rank, InstanceState.RUNNING, "ip") for rank in range(2))
CLUSTER = Cluster("c", "c", "u", "default", Phase.REPAIRING, 1, 1.0, 1.0, 2, placement=Placement(OFFER, 2, 4, 16),
                  instances=NODES[:1], sites=(Site("aws", "r1", "c"),),
                  task_config={"run": "true", "resources": {"infra": "aws"}})  # fmt: skip


class Place:
    """A provider whose answer to an ask for machines is given; without `irreplaceable` unless that is given, too."""

    def __init__(self, answer=NODES, why=None):
        self.answer, self.asked = answer, []
        if why is not None:
            self.irreplaceable = lambda placement, config: why

    async def create(self, ask):
        self.asked.append(ask)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        return self.answer


class Providers:
    def __init__(self, place):
        self.place = place

    def compute(self, cloud):
        if self.place is None:
            raise NotSupportedError(f"{cloud} is not here")
        return self.place


class Outcomes:
    def __init__(self):
        self.added = []

    async def add(self, outcome):
        self.added.append(outcome)


def provisioner(place, outcomes=None):
    nothing = Forgotten(None, None, SystemClock(), "")
    outcomes = outcomes or Outcomes()
    return Provisioner(Providers(place), outcomes, SystemClock(), lambda name: {}, lambda *said: None, nothing)


async def test_the_missing_ranks_alone_are_asked_for_where_the_others_are():
    place = Place()
    assert await provisioner(place).replace(CLUSTER, "k:4", (1,)) == life.NodesCreated(NODES)
    (ask,) = place.asked
    assert (ask.key, ask.cluster_id, ask.ranks, ask.placement) == ("k:4", "c", (1,), CLUSTER.placement)


@pytest.mark.parametrize(
    ("refused", "scope", "learnt"),
    [
        (CapacityRefused("no more"), "zone", [OutcomeKind.REFUSED]),
        (ProviderDown("no answer"), None, []),
        (NotSupportedError("not here"), "request", []),
    ],
)
async def test_a_place_without_room_says_so_and_that_is_learnt(refused, scope, learnt):
    outcomes = Outcomes()
    event = await provisioner(Place(refused), outcomes).replace(CLUSTER, "k", (1,))
    assert isinstance(event, life.ProvisionRefused)
    assert str(refused) in event.reason
    assert scope in (None, event.scope)
    assert [each.kind for each in outcomes.added] == learnt


async def test_nobody_waits_for_ever_for_a_node(monkeypatch):
    monkeypatch.setattr(provision, "_REPLACE_S", 0.05)
    event = await provisioner(Place(None)).replace(CLUSTER, "k", (1,))
    assert (event.scope, event.reason) == ("zone", "it took longer than 0 s")


@pytest.mark.parametrize(
    ("place", "words"),
    [(Place(why=""), ""), (Place(why="all or none"), "all or none"), (Place(), "not replaced on aws")],
)
def test_who_cannot_replace_single_nodes_says_why(place, words):
    said = provisioner(place).irreplaceable(CLUSTER)
    assert words in said
    assert bool(said) is bool(words)


@pytest.mark.parametrize(
    ("kept", "heads", "position"),
    [(None, 0, 0), ("17", 0, 17), ("17", 1, 0), ("17@1", 1, 17), ("17@1", 2, 0), (None, 3, 0)],
)
def test_another_head_is_listened_to_from_the_beginning(kept, heads, position):
    assert position_of(kept, heads) == position


# --- a whole control plane -------------------------------------------------------------------------------------------


def lose(cluster, rank):
    """What a power cut of one node does."""
    pids = processes.of_node(f"{cluster.id}-{rank}")
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)


@pytest.fixture
def reach(plane):
    """Wait until a job has come so far."""

    async def reached(number, so_far):
        job = await plane.managed.by_number(number)

        async def load():
            return await plane.managed.get(job.id)

        async with asyncio.timeout(90):
            return await until(plane.signals, f"managed_job:{job.id}", load, so_far)

    return reached


@pytest.fixture
def gang(ask, tmp_path):
    """A gang of three that waits for a file in its second attempt; and which nodes ran setup.

    The file is made once a node is lost: RUNNING is said before the last of the scripts has looked for it.
    """

    async def launched():
        task = {
            "name": "gang",
            "num_nodes": 3,
            "resources": {"infra": "local", "cpus": 1},
            "setup": f"echo $SKYPILOT_SETUP_NODE_RANK >> {tmp_path}/setups",
            "run": f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/waits.$SKYPILOT_NODE_RANK; exec sleep 1000; }}\n"
            "echo rank $SKYPILOT_NODE_RANK again",
        }
        request = await ask("jobs/launch", {"dag": {"tasks": [task], "edges": []}})
        async with asyncio.timeout(90):
            # Who says that it may end does so to the next attempt: each rank of this one has looked before.
            while len(list(tmp_path.glob("waits.*"))) < 3:
                await asyncio.sleep(0.05)
        return request.result["job_ids"][0]

    return launched


class Access:
    """Notes what attempts are given, and what is taken back from them."""

    def __init__(self):
        self.noted = []

    async def give(self, job, *, wanted):
        self.noted.append(("given", job.attempt))
        return Given()

    async def take_back(self, job):
        self.noted.append(("taken back", job.attempt))


async def test_an_attempt_whose_nodes_are_replaced_keeps_no_access(plane, gang, reach, tmp_path):
    access = Access()
    (driver,) = [each for each in plane._drivers if each.name == "managed_job"]
    driver._noun._grants = access
    number = await gang()
    job = await reach(number, lambda job: job.status.value == "RUNNING")
    lose(await plane.store.clusters.get(job.cluster_id), 1)
    (tmp_path / "again").touch()
    await reach(number, lambda job: job.stage is Stage.DONE)
    noted = list(dict.fromkeys(access.noted))
    assert noted == [("given", 1), ("taken back", 1), ("given", 2), ("taken back", 2)]


async def test_two_of_three_are_replaced_at_once_and_their_lines_in_the_ledger_alone_are_new(
    plane, gang, reach, tmp_path
):
    number = await gang()
    job = await reach(number, lambda job: job.status.value == "RUNNING")
    cluster = await plane.store.clusters.get(job.cluster_id)
    keeper = cluster.instances[1].reach["keeper"]
    for rank in (0, 2):
        lose(cluster, rank)
    (tmp_path / "again").touch()
    repaired = await reach(number, lambda job: job.attempt == 2)
    after = await plane.store.clusters.get(job.cluster_id)
    assert (repaired.cluster_id, after.repairs, after.heads) == (cluster.id, 1, 1)
    assert after.instances[1].reach["keeper"] == keeper, "the node that was left goes on"
    done = await reach(number, lambda job: job.stage is Stage.DONE)
    told = [entry.text for entry in await plane.managed.story(done)]
    assert (done.status.value, done.task.recoveries, done.task.attempts) == ("SUCCEEDED", 1, (1, 2)), told
    assert sum("replacing 2 of 3 nodes (ranks 0, 2) on local" in text for text in told) == 1
    assert sorted((tmp_path / "setups").read_text().split()) == ["0", "0", "1", "2", "2"]
    log = b"".join([piece.data async for piece in plane.managed.log(done, 0, follow=True)]).decode()
    assert all(f"rank {rank} again" in log for rank in range(3))
    assert await plane.clusters(managed=True) == []


async def test_one_that_has_no_room_any_more_is_launched_anew(plane, gang, reach, tmp_path, monkeypatch):
    number = await gang()
    job = await reach(number, lambda job: job.status.value == "RUNNING")
    cluster = await plane.store.clusters.get(job.cluster_id)

    async def full(self, cluster, key, ranks):
        return life.ProvisionRefused("zone", "no room here")

    monkeypatch.setattr(Provisioner, "replace", full)
    lose(cluster, 1)
    (tmp_path / "again").touch()
    done = await reach(number, lambda job: job.stage is Stage.DONE)
    told = [entry.text for entry in await plane.managed.story(done)]
    assert (done.status.value, done.task.recoveries) == ("SUCCEEDED", 1), told
    assert done.cluster_id != cluster.id
    assert any("not repaired: no room here; all of it is launched anew" in text for text in told)
    assert len((tmp_path / "setups").read_text().split()) == 6


async def test_who_cancels_while_nodes_are_replaced_leaves_nothing(plane, gang, reach, ask, tmp_path, monkeypatch):
    number = await gang()
    job = await reach(number, lambda job: job.status.value == "RUNNING")
    cluster = await plane.store.clusters.get(job.cluster_id)

    async def never(self, cluster, key, ranks):
        await asyncio.Event().wait()

    monkeypatch.setattr(Provisioner, "replace", never)
    lose(cluster, 1)
    await reach(number, lambda job: job.stage is Stage.REPAIRING)
    assert (await ask("jobs/cancel", {"job_ids": [number]})).result == {"cancelled": [number]}
    done = await reach(number, lambda job: job.stage is Stage.DONE)
    assert done.status.value == "CANCELLED"
    assert await plane.clusters(managed=True) == []
