"""Jobs and the node: a cancellation arrives in the end, what is lost ends, what was given up cannot run."""

from dataclasses import replace

import pytest

from sky.agent import care
from sky.core.errors import AgentRefused, AgentUnreachable
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle import jobs as life
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.jobs import CheckpointSeen, Job, JobPhase, Seen
from sky.core.model.statuses import JobStatus
from sky.engine import watch
from sky.engine.jobs import JobWork, specification
from sky.engine.post import Post
from sky.engine.watch import Watchers
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.store.sqlite import SqliteStore


class Clock(SystemClock):
    """Time passes as fast as it is slept."""

    at = 1000.0

    def now(self):
        return self.at

    async def sleep(self, seconds):
        self.at += seconds


class Head:
    """A head agent that answers what the test says."""

    def __init__(self):
        self.records, self.cancelled, self.trouble = [], [], None
        self.news, self.asked_since = [], []

    async def cancel(self, ids):
        if self.trouble:
            raise self.trouble
        self.cancelled += ids

    async def jobs(self, ids=None):
        return [each for each in self.records if ids is None or each["job_id"] in ids]

    async def events(self, since, wait):
        self.asked_since.append(since)
        if len(self.asked_since) > 3:
            raise AgentUnreachable("enough")
        fresh = [each for each in self.news if each["seq"] > since]
        return fresh, fresh[-1]["seq"] if fresh else since


class Fleet:
    """The way to the one head."""

    def __init__(self, head):
        self._head = head

    async def head(self, cluster):
        return self._head


@pytest.fixture
async def world(tmp_path):
    store, clock, signals, head = SqliteStore(tmp_path / "s.db"), Clock(), Signals(), Head()
    post = Post(clock, signals)

    class World:
        pass

    made = World()
    made.store, made.head, made.clock = store, head, clock
    made.work = JobWork(store.jobs, store.clusters, Fleet(head), clock, signals, lambda name: {})
    made.watchers = Watchers(store, Fleet(head), post, clock, signals)

    async def cluster(phase=Phase.UP):
        drawn = Cluster("c1", "one", "u", "default", phase, 0, 1.0, 1.0, 1)
        return (await store.clusters.open(cluster_life.Step(drawn, ()), 1.0))[0]

    async def job(phase, id="j1", **facts):
        drawn = Job(id, "c1", "one", f"r-{id}", "u", phase, facts.pop("status", JobStatus.RUNNING), 0, 1.0, **facts)
        return (await store.jobs.open(life.Step(drawn, ()), 1.0))[0]

    async def letters(id="j1"):
        claims = await store.jobs.claim(1e9, 1e9, "t", 10)
        return [letter.event for claim in claims if claim.entity.id == id for letter in claim.letters]

    made.cluster, made.job, made.letters = cluster, job, letters
    yield made
    await store.close()


RECORD = {"job_id": 7, "key": "j1", "status": "RUNNING", "start_at": 5.0}


@pytest.mark.parametrize("trouble", [AgentUnreachable("gone"), AgentRefused("InternalError: disk full")])
async def test_a_cancellation_that_did_not_arrive_is_sent_again_ever_slower(world, trouble):
    await world.cluster()
    job = await world.job(JobPhase.CANCELLING, job_id=7)
    world.head.trouble = trouble
    first = await world.work.act(job, "k", life.Cancel())
    assert isinstance(first, life.CancelFailed)
    again = life.TABLE.step(job, first, 1.0)
    assert again.orders == (life.Cancel(1.0),)
    assert (await world.work.act(job, "k", life.Cancel(20.0))).again_in == 30.0
    assert life.TABLE.step(again.entity, first, 1.0).text == "", "the story is told once, not at every try"
    world.head.trouble, world.head.records = None, [RECORD]
    assert await world.work.act(job, "k", again.orders[0]) == life.CancelDelivered()
    assert world.head.cancelled == [7]


async def test_an_unforeseen_failure_of_a_cancellation_is_no_delivery(world):
    assert isinstance(world.work.crashed(life.Cancel(), RuntimeError("odd")), life.CancelFailed)


async def test_cancelling_what_the_node_no_longer_knows_ends_it(world):
    await world.cluster()
    job = await world.job(JobPhase.CANCELLING, job_id=7)
    assert isinstance(await world.work.act(job, "k", life.Cancel()), life.ClusterLost)


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.STOPPED, Phase.TERMINATING, Phase.TERMINATED])
async def test_nothing_is_delivered_to_a_cluster_that_leaves(world, phase):
    await world.cluster(phase)
    job = await world.job(JobPhase.SUBMITTING)
    assert isinstance(await world.work.act(job, "k", life.Submit()), life.ClusterLost)


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.TERMINATED])
async def test_jobs_end_with_their_cluster_although_nobody_listened_then(world, phase):
    await world.cluster(phase)
    await world.job(JobPhase.ON_CLUSTER, job_id=7)
    await world.watchers._reconcile(None)
    await world.watchers._reconcile(None)
    assert [type(event) for event in await world.letters()] == [life.ClusterLost]


async def test_what_waits_in_a_stopped_queue_is_not_lost(world):
    await world.cluster(Phase.STOPPED)
    await world.job(JobPhase.ON_CLUSTER, status=JobStatus.PENDING, job_id=7)
    await world.watchers._reconcile(None)
    assert await world.letters() == []


async def test_a_job_that_the_node_forgot_ends(world):
    cluster = await world.cluster()
    await world.job(JobPhase.ON_CLUSTER, job_id=7)
    world.head.records = [RECORD | {"key": "somebody-elses"}]
    await world.watchers._catch_up(world.head, cluster)
    assert [type(event) for event in await world.letters()] == [life.ClusterLost]


async def test_what_was_given_up_and_runs_all_the_same_is_cancelled(world):
    cluster = await world.cluster()
    await world.job(JobPhase.DONE, status=JobStatus.FAILED_DRIVER)
    await world.watchers._hand_on(world.head, [RECORD], cluster)
    assert world.head.cancelled == [7]
    await world.watchers._hand_on(world.head, [RECORD | {"status": "SUCCEEDED"}], cluster)
    assert world.head.cancelled == [7]


async def test_news_that_came_too_early_is_heard_again_after_a_crash(world, monkeypatch):
    cluster = await world.cluster()
    job = await world.job(JobPhase.SUBMITTING, status=JobStatus.INIT)
    world.head.records = [RECORD | {"status": "SUCCEEDED"}]
    world.head.news = [{"seq": 4, "kind": "job", "job_id": 7}]
    with pytest.raises(AgentUnreachable):
        await world.watchers._follow(world.head, cluster)
    await world.watchers._positions.write()
    assert await world.store.get_value("heard:c1") is None, "a server that dies now must hear it again"
    await world.store.jobs.post(job.id, life.CancelAsked(), 1.0)
    (claim,) = await world.store.jobs.claim(1e9, 10, "t", 1)
    there = replace(job, phase=JobPhase.ON_CLUSTER, job_id=7)
    await world.store.jobs.commit(claim, life.Step(there), life.Submitted(7), now=1.0, due_at=None)
    world.head.asked_since.clear()
    with pytest.raises(AgentUnreachable):
        await world.watchers._follow(world.head, cluster)
    await world.watchers._positions.write()
    assert await world.store.get_value("heard:c1") == "4"


async def test_a_quiet_listener_looks_all_the_same(world, monkeypatch):
    monkeypatch.setattr(watch, "_HOLD_S", 0.0)
    cluster = await world.cluster()
    await world.job(JobPhase.ON_CLUSTER, job_id=7)
    world.head.records = [RECORD | {"status": "SUCCEEDED", "end_at": 9.0}]
    with pytest.raises(AgentUnreachable):
        await world.watchers._follow(world.head, cluster)
    assert any(getattr(event, "end_at", None) == 9.0 for event in await world.letters())


NOTICE = {"kind": "notice", "rank": 1, "what": "terminate", "at": 100.0}


@pytest.mark.parametrize(
    ("event", "looks"),
    [
        ({"kind": "node", "rank": 1}, [cluster_life.Due()]),
        (NOTICE | {"deadline": 220.0}, [cluster_life.NoticeHeard(1, "terminate", 120.0)]),
        (NOTICE | {"what": "rebalance"}, [cluster_life.NoticeHeard(1, "rebalance")]),
        ({"kind": "job", "job_id": 99}, []),
    ],
)
async def test_a_node_that_its_head_lost_or_will_lose_is_looked_at_at_once(world, event, looks):
    cluster = await world.cluster()
    world.head.news = [{"seq": 1, **event}]
    with pytest.raises(AgentUnreachable):
        await world.watchers._follow(world.head, cluster)
    (claim,) = await world.store.clusters.claim(1e9, 1e9, "t", 10) or [None]
    assert [letter.event for letter in (claim.letters if claim else ())] == looks


FACTS = {
    "progress": 0.5,
    "progress_at": 9.0,
    "checkpoint": {"name": "s1", "at": 8.0, "bytes": 100, "whole": True},
    "concerns": ["late"],
    "noticed_at": 7.0,
}


async def test_what_the_node_sees_of_a_job_is_handed_on_when_it_changes(world):
    await world.cluster()
    job = await world.job(JobPhase.ON_CLUSTER, job_id=7, start_at=5.0)
    plain, news = watch.reported(RECORD), watch.reported({**RECORD, "facts": FACTS})
    assert not watch.differs(job, plain) and watch.differs(job, news)
    seen = Seen(0.5, 9.0, CheckpointSeen("s1", 8.0, 100), ("late",), 7.0)
    assert news.seen == seen and not watch.differs(replace(job, seen=seen), news)
    assert not watch.differs(replace(job, seen=seen), plain), "an agent of before says nothing of it"


@pytest.mark.parametrize(
    "facts",
    [
        None,
        "much",
        {"progress": 2, "checkpoint": {"name": "x", "at": "now", "bytes": 3}},
        {"progress": float("nan"), "checkpoint": {"at": float("inf"), "bytes": 1}, "concerns": "late"},
        {"checkpoint": {"at": 1.0, "bytes": -1}, "cause": "boredom", "concerns": ["odd"]},
    ],
)
def test_of_what_a_node_says_only_what_has_the_right_shape_is_believed(facts):
    news = watch.reported({**RECORD, "facts": facts})
    assert (news.seen, news.cause) == (Seen(), None)


def test_a_specification_says_what_is_to_be_watched_and_done():
    task = {
        "run": "x",
        "checkpoint": {"path": "~/ck", "every": "60s", "max_size": "2GB"},
        "progress": {"pattern": r"(\d+)%"},
        "on_preemption": {"signal": "TERM", "grace": "90s", "run": "save"},
        "config": {"hooks": [{"run": "a"}, {"run": "b", "events": ["stop"]}, {"run": "c", "timeout": 5}]},
    }
    drawn = Job("j", "c1", "one", "r", "u", JobPhase.SUBMITTING, JobStatus.INIT, 0, 1.0, task_config=task)
    spec = specification(drawn, Cluster("c1", "one", "u", "default", Phase.UP, 0, 1.0, 1.0, 1))
    scripts = [{"run": "save", "timeout": 90.0}, {"run": "a", "timeout": 3600}, {"run": "c", "timeout": 5}]
    farewell = {"signal": "TERM", "grace": 90.0, "scripts": scripts}
    watched = {"path": "~/ck", "every": 60.0, "max_bytes": 2e9, "pattern": r"(\d+)%"}
    assert spec["care"] == {**watched, "farewell": farewell}
    assert care.stored(care.parse(spec["care"])) == spec["care"], "and the node takes it"
    bare = replace(drawn, task_config={"run": "x"})
    assert specification(bare, Cluster("c1", "one", "u", "default", Phase.UP, 0, 1.0, 1.0, 1))["care"] is None
