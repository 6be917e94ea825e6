"""Pools: what follows for their workers, step by step and over random histories."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from sky.core.lifecycle import pools as life
from sky.core.model.clusters import Phase
from sky.core.model.pools import MISFITS, Pool, PoolStage, Standing, UpdateMode, WorkerState
from sky.core.model.statuses import JobStatus

S = WorkerState


def task(**more):
    return {"resources": {"infra": "local"}, "pool": {"workers": 2}, "setup": "true", **more}


def opened(config=None, **changes):
    drawn = Pool(
        "01jz0000000000000000000000", "p", "u", "default", PoolStage.ACTIVE, 0, 0.0, {"1": config or task()}, **changes
    )
    return life.opening(drawn).entity


class World:
    """Clusters, claims and jobs around one pool, with the rules of the store: the pool alone is driven by its table."""

    def __init__(self, pool):
        self.pool = pool
        self.now = 0.0
        self.clusters: dict[str, Phase] = {}
        self.setups: dict[str, JobStatus] = {}
        self.claims: dict[str, str] = {}
        self.condemned: set[str] = set()
        self.unfinished = self.waiting = 0
        self.missing = True
        self.outcome = None
        self.told: list[str] = []

    def step(self, event):
        made = life.TABLE.step(self.pool, event, self.now)
        self.pool = made.entity
        self.told.append(made.text)
        for worker in self.pool.workers:
            # What the pool ends is nobody's, or nobody's any more.
            if worker.state is S.ENDING and worker.cluster_id in self.claims:
                gone = self.clusters.get(worker.cluster_id) is not Phase.UP
                assert gone or worker.cluster_id in self.condemned, worker
        known = {each.cluster_id for each in self.pool.workers}
        self.claims = {id: key for id, key in self.claims.items() if id in known}
        return made

    def act(self):
        """What the engine does for `Tend`: it is not on record before `conclude`."""
        seen = []
        for worker in self.pool.workers:
            id = worker.cluster_id
            if worker.state is S.PLACING:
                self.clusters.setdefault(id, Phase.PROVISIONING)
            if worker.state is S.ENDING and self.clusters.get(id) is not Phase.TERMINATED:
                self.clusters[id] = Phase.TERMINATING
            if worker.state is S.SETTING_UP and self.clusters.get(id) is Phase.UP:
                self.setups.setdefault(id, JobStatus.RUNNING)
            phase = self.clusters.get(id)
            missing = int(self.missing and phase is Phase.DEGRADED)
            seen.append(life.WorkerSeen(worker.number, phase, f"p-{worker.number}", missing, setup=self.setups.get(id)))
        standing = Standing(dict(self.claims), frozenset(self.condemned), self.waiting, self.unfinished)
        self.outcome = life.Tended(tuple(seen), standing)

    def conclude(self):
        outcome, self.outcome = self.outcome, None
        return self.step(outcome)

    def take(self, key):
        """As `store.pools` has it: READY by the last commit, and nobody's."""
        free = [
            each.cluster_id
            for each in self.pool.workers
            if each.state is S.READY and each.cluster_id not in self.claims and each.cluster_id not in self.condemned
        ]
        if free:
            self.claims[free[0]] = key

    def progress(self, rng=None):
        """Every cluster and setup goes one step on its way."""
        onward = {Phase.PROVISIONING: Phase.UP, Phase.TERMINATING: Phase.TERMINATED}
        for id, phase in self.clusters.items():
            if rng is None or rng.random() < 0.5:
                self.clusters[id] = onward.get(phase, phase)
        for id in self.setups:
            if rng is None or rng.random() < 0.5:
                self.setups[id] = JobStatus.SUCCEEDED

    def settle(self, rounds=60):
        for _ in range(rounds):
            self.now += 400.0
            self.progress()
            if self.pool.stage is PoolStage.DONE:
                return
            self.step(life.Due())
            while self.pool.tending:
                self.act()
                self.conclude()

    def states(self):
        return [each.state for each in self.pool.workers]


def test_workers_come_up_and_are_set_up_once():
    world = World(opened())
    world.settle()
    assert world.states() == [S.READY, S.READY]
    assert len(world.setups) == len(world.clusters) == 2
    assert world.pool.status.value == "READY"


def test_without_anything_to_set_up_a_worker_is_ready_when_it_is_up():
    world = World(opened(task(setup=None)))
    world.settle()
    assert world.states() == [S.READY, S.READY]
    assert world.setups == {}


def test_one_that_is_taken_leaves_when_it_is_given_back():
    world = World(opened())
    world.settle()
    world.take("job")
    world.step(life.Applied(task(pool={"workers": 0})))
    world.settle()
    assert world.states() == [S.LEAVING]
    world.claims.clear()
    world.settle()
    assert world.states() == []


def test_a_look_that_began_before_a_worker_was_to_leave_does_not_end_it():
    world = World(opened())
    world.settle()
    world.step(life.Applied(task(pool={"workers": 0})))
    world.act()
    # Taken after the look, before what follows from it is on record.
    world.take("job")
    world.conclude()
    assert S.ENDING not in world.states()
    world.settle()
    assert world.states() == [S.LEAVING]


@pytest.mark.parametrize("how", ["condemned", "lost", "silent"])
def test_one_that_is_to_leave_and_cannot_be_given_back_is_ended(how):
    """Its job waits for that: it would wait for ever."""
    world = World(opened())
    world.settle()
    world.take("job")
    world.step(life.Applied(task(pool={"workers": 0})))
    world.settle()
    (worker,) = world.pool.workers
    if how == "condemned":
        world.condemned.add(worker.cluster_id)
    else:
        world.clusters[worker.cluster_id] = Phase.DEGRADED
        world.missing = how == "lost"
    world.settle()
    assert world.clusters[worker.cluster_id] is Phase.TERMINATED
    assert world.states() == []


def test_a_lost_worker_is_replaced():
    world = World(opened())
    world.settle()
    lost = world.pool.workers[0]
    world.clusters[lost.cluster_id] = Phase.DEGRADED
    world.settle()
    assert world.states() == [S.READY, S.READY]
    assert lost.number not in {each.number for each in world.pool.workers}
    assert world.clusters[lost.cluster_id] is Phase.TERMINATED


def test_a_setup_that_fails_is_tried_again_a_few_times():
    world = World(opened(task(pool={"workers": 1})))
    for _ in range(40):
        world.now += 400
        world.step(life.Due())
        while world.pool.tending:
            world.act()
            world.setups = dict.fromkeys(world.setups, JobStatus.FAILED_SETUP)
            world.conclude()
        world.clusters = {
            id: Phase.UP if phase is Phase.PROVISIONING else Phase.TERMINATED if phase is Phase.TERMINATING else phase
            for id, phase in world.clusters.items()
        }
    assert world.pool.made == MISFITS
    assert world.pool.status.value == "FAILED"
    world.step(life.Applied(task(pool={"workers": 1}, setup="echo better")))
    world.settle()
    assert world.states() == [S.READY]


def test_what_no_place_has_is_asked_for_again_with_pauses():
    world = World(opened(task(pool={"workers": 1})))
    asked = []
    while world.now < 1000:
        world.step(life.Due())
        while world.pool.tending:
            seen = [life.WorkerSeen(each.number, failed="full") for each in world.pool.workers]
            asked += [world.now] * len(seen)
            world.step(life.Tended(tuple(seen), Standing()))
        assert world.pool.wake_at > world.now
        world.now = world.pool.wake_at
    pauses = [after - before for before, after in pairwise(asked)]
    assert 2 <= len(pauses) < 20
    assert pauses == sorted(pauses)
    assert world.pool.reason == "full"


@pytest.mark.parametrize("mode", UpdateMode)
def test_an_update_keeps_as_many_as_are_wanted_able_to_work(mode):
    world = World(opened(task(pool={"workers": 3})))
    world.settle()
    world.step(life.Applied(task(pool={"workers": 3}, setup="echo new"), mode=mode))
    most = 0
    for _ in range(60):
        while world.pool.tending:
            world.act()
            world.conclude()
        assert world.pool.ready >= 3
        most = max(most, sum(each.serving for each in world.pool.workers))
        world.progress()
        world.now += 20
        world.step(life.Due())
    assert [each.revision for each in world.pool.workers] == [2, 2, 2]
    assert most == {"rolling": 4, "blue_green": 6}[mode.value]
    assert set(world.pool.tasks) == {"2"}


def test_news_do_not_call_off_a_look():
    world = World(opened())
    assert world.step(life.Changed()).orders is None
    world.act()
    assert world.conclude().orders == (life.Tend(),)


def looked(world, rng):
    """A look begins, ends, or dies with its server; half of the time."""
    if not world.pool.tending or rng.random() < 0.5:
        return False
    if world.outcome is None:
        world.act()
    elif rng.random() < 0.9:
        world.conclude()
    else:
        world.outcome = None  # killed before it was on record: the order stands
    return True


def happened(world, rng, at):
    """Whatever else may happen."""
    what = rng.choices(("take", "back", "condemn", "lose", "apply", "progress", "news"), (5, 3, 1, 1, 1, 4, 6))[0]
    if what == "take":
        world.take(f"job{at}")
    elif what == "back" and world.claims:
        del world.claims[rng.choice(sorted(world.claims))]
    elif what == "condemn" and world.claims:
        world.condemned.add(rng.choice(sorted(world.claims)))
    elif what == "lose":
        up = [id for id, phase in sorted(world.clusters.items()) if phase is Phase.UP]
        world.clusters |= {rng.choice(up): rng.choice((Phase.DEGRADED, Phase.TERMINATED))} if up else {}
    elif what == "apply":
        config = task(pool={"workers": rng.randint(0, 4)}, setup=rng.choice(("true", "echo new")))
        world.step(life.Applied(config, mode=rng.choice(list(UpdateMode))))
    elif what == "progress":
        world.progress(rng)
    else:
        world.step(life.Changed() if world.pool.tending else life.Due())


@pytest.mark.parametrize("seed", range(40))
def test_no_job_loses_its_worker_to_the_pool_and_all_comes_to_rest(seed):
    """Jobs come and go, machines are lost, versions and sizes change, servers die between doing and recording."""
    rng = Random(seed)
    world = World(opened(task(pool={"workers": rng.randint(0, 3)})))
    for at in range(400):
        world.now += rng.uniform(0, 30)
        if not looked(world, rng):
            happened(world, rng, at)
        assert len(set(world.claims.values())) == len(world.claims)
    world.outcome = None
    world.claims.clear()
    world.pool = replace(world.pool, tending=False)
    world.settle()
    assert world.states() == [S.READY] * world.pool.policy.min_replicas
    world.step(life.DownAsked("u"))
    world.unfinished = 1
    world.settle(10)
    assert world.pool.stage is PoolStage.ENDING, "a job of it has not ended"
    world.unfinished = 0
    world.settle()
    assert world.pool.stage is PoolStage.DONE
    assert set(world.clusters.values()) <= {Phase.TERMINATED}
