"""Requests that ask a cluster for something: each is told once, and each ends, whatever the cluster does meanwhile."""

import asyncio

import pytest
from sqlalchemy import text

from sky.core.errors import ClusterSetUpError
from sky.core.lifecycle import clusters as life
from sky.core.model.clusters import Cluster, InstanceState, Phase
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus
from sky.engine.desk import TEARDOWN_STRIKES, Desk
from sky.engine.operations import autostop, cancel, start, stop
from sky.engine.post import Post
from sky.engine.provision import Provisioner
from sky.engine.talk import FileTalk
from sky.engine.workspaces import Workspaces
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore


class Bench:
    """A desk without loops: the test plays the driver of clusters."""

    def __init__(self, folder):
        self.store, self.clock, self.signals = SqliteStore(folder / "state.db"), SystemClock(), Signals()
        post, talk = Post(self.clock, self.signals), FileTalk(folder, self.signals)
        self.desk = Desk(
            self.store,
            post,
            self.clock,
            self.signals,
            None,
            talk,
            None,
            None,
            Provisioner(None, None, None, dict, print, None),
            dict,
            Workspaces(self.store.users, lambda name: {}),
        )

    async def cluster(self, phase, **facts):
        drawn = Cluster("c1", "one", "u", "default", phase, 0, 1.0, 1.0, 1, **facts)
        await self.store.clusters.open(life.Step(drawn, ()), self.clock.now())

    async def drive(self, event=None, **facts):
        """Read one letter, or let `event` happen, and leave the cluster at rest."""
        (claim,) = await self.store.clusters.claim(self.clock.now() + 1000, 10, "t", 1)
        letters = () if event else (claim.letters[0].id,)
        event = event or claim.letters[0].event
        step = life.TABLE.step(claim.entity, event, self.clock.now())
        done = None if letters or not claim.orders else claim.orders[0].key
        after = await self.store.clusters.commit(
            claim, step, event, now=self.clock.now(), due_at=self.clock.now(), letters=letters, done=done
        )
        await self.store.clusters.release(after)
        self.signals.notify("cluster:c1")
        return after.entity

    async def letters(self):
        async with self.store._db.read() as tx:
            return [doc for (doc,) in await tx.all(text("SELECT doc FROM letters"))]


def request(name, **body):
    return Request("r1-r1-r1", name, "u", RequestStatus.RUNNING, 1, 1.0, {"cluster_name": "one", **body})


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    await made.store.close()


async def begun(work, bench, letters=1):
    task = asyncio.create_task(work)
    async with asyncio.timeout(60):
        while len(await bench.letters()) < letters and not task.done():
            await asyncio.sleep(0)
    return task


async def test_a_look_before_the_letter_is_read_does_not_end_the_wait(bench):
    await bench.cluster(Phase.UP)
    task = await begun(stop(bench.desk, request("stop")), bench)
    await bench.drive(life.Due())
    await asyncio.sleep(0.01)
    assert not task.done(), "the cluster was looked at while UP; the stop was not read yet"
    await bench.drive()
    await bench.drive(life.NodesStopped((life.Instance("c1-0", "c1", 0, InstanceState.STOPPED, ""),)))
    assert await asyncio.wait_for(task, 60) == {"cluster_name": "one"}


async def test_a_start_is_not_failed_by_a_look_at_the_stopped_cluster(bench):
    await bench.cluster(Phase.STOPPED, ever_up=True)
    task = await begun(start(bench.desk, request("start")), bench)
    await bench.drive(life.Due())
    await asyncio.sleep(0.01)
    assert not task.done()
    assert (await bench.drive()).phase is Phase.RESUMING
    task.cancel()


async def test_what_is_taken_up_again_tells_its_cluster_once(bench):
    await bench.cluster(Phase.UP)
    for _ in range(3):
        task = await begun(stop(bench.desk, request("stop")), bench)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(await bench.letters()) == 1


async def test_note_and_letter_are_written_together_or_not_at_all(bench):
    await bench.cluster(Phase.UP)
    first = await bench.store.clusters.post("c1", life.StopAsked(), 1.0, once="k")
    assert await bench.store.clusters.post("c1", life.StopAsked(), 1.0, once="k") == first
    assert await bench.store.get_value("k") == f"c1 {first}"
    with pytest.raises(KeyError):
        await bench.store.clusters.post("c1", object(), 1.0, once="other")
    assert await bench.store.get_value("other") is None


@pytest.mark.parametrize("event", [life.DownAsked(), life.StopAsked(), life.AutostopBegan(down=False)])
async def test_autostop_of_a_cluster_that_leaves_meanwhile_ends_with_a_reason(bench, event):
    await bench.cluster(Phase.UP)
    await bench.store.clusters.post("c1", event, 1.0)
    task = await begun(autostop(bench.desk, request("autostop", idle_minutes=5)), bench, 2)
    await bench.drive()
    await bench.drive()
    with pytest.raises(Exception, match="autostop can only be set"):
        await asyncio.wait_for(task, 60)


@pytest.mark.parametrize("outcome", [life.AutostopConfigured(), life.AutostopFailed("no answer")])
@pytest.mark.parametrize("how", [autostop, start])
async def test_an_autostop_is_set_once_the_head_knows(bench, how, outcome):
    await bench.cluster(Phase.UP)
    asked = request("r", idle_minutes=5, idle_minutes_to_autostop=5)
    task = await begun(how(bench.desk, asked), bench)
    await bench.drive()
    if how is start:
        async with asyncio.timeout(5):
            while not await bench.letters():
                await asyncio.sleep(0)
        await bench.drive()
    # Were this server to end now, nobody would tell the head.
    await asyncio.sleep(0.05)
    assert not task.done()
    await bench.drive(outcome)
    await asyncio.wait_for(task, 5)
    talk = bench.desk.talk.path(asked.id)
    told_so = talk.exists() and "one: its head does not know of the autostop yet" in talk.read_text()
    assert told_so is isinstance(outcome, life.AutostopFailed)


async def test_waiting_for_a_cluster_that_cannot_go_is_bounded(bench):
    await bench.cluster(Phase.TERMINATING, strikes=TEARDOWN_STRIKES, reason="terminate failed: no route")
    with pytest.raises(ClusterSetUpError, match=r"no route.*--purge one"):
        await asyncio.wait_for(start(bench.desk, request("start")), 60)


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.STOPPING, Phase.TERMINATING])
async def test_jobs_of_a_cluster_that_is_not_up_cannot_be_cancelled(bench, phase):
    await bench.cluster(phase)
    with pytest.raises(Exception, match="cannot be cancelled now"):
        await asyncio.wait_for(cancel(bench.desk, request("cancel")), 60)
