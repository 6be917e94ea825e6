"""Faults on request: where they are allowed, on which node, and once."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sky.core.errors import AgentRefused, ClusterNotUpError, NotSupportedError, PermissionDeniedError
from sky.core.model.clusters import Cluster, Instance, InstanceState, Phase
from sky.core.model.faults import FaultKind, NodeFault
from sky.core.model.jobs import Job, JobPhase
from sky.core.model.managed_jobs import ManagedJob, ManagedTask, Stage
from sky.core.model.requests import Request
from sky.core.model.statuses import JobStatus, RequestStatus
from sky.core.policy.rights import Reach
from sky.engine.faults import chaos


def nodes(count):
    return tuple(Instance(f"c1-{rank}", "c1", rank, InstanceState.RUNNING, "ip") for rank in range(count))


class Desk:
    """A handler's tools around one cluster, whose nodes note what struck them."""

    def __init__(self, cloud="local", phase=Phase.UP, jobs=(), empty=()):
        placement = SimpleNamespace(offer=SimpleNamespace(cloud=cloud))
        self.cluster = replace(Cluster("c1", "c", "u", "default", phase, 0, 1.0, 1.0, 4), instances=nodes(4))
        self.cluster = replace(self.cluster, placement=placement)
        self.struck, self.told, self.values, self.slept = [], [], {}, []
        self.empty = empty
        self.fleet, self.talk = self, SimpleNamespace(say=lambda *words: None)
        self.clock = SimpleNamespace(sleep=self.sleep)
        of_cluster = SimpleNamespace(of_cluster=self.jobs_of)
        self.store = SimpleNamespace(jobs=of_cluster, get_value=self.get_value, set_value=self.set_value)
        self.jobs = [self.job(number) for number in jobs]

    def job(self, number):
        return Job(f"j{number}", "c1", "c", "r", "u", JobPhase.ON_CLUSTER, JobStatus.RUNNING, 0, 1.0, job_id=number)

    async def own(self, request, name):
        return self.cluster

    async def jobs_of(self, id):
        return self.jobs

    async def get_value(self, key):
        return self.values.get(key)

    async def set_value(self, key, value):
        self.values[key] = value

    async def sleep(self, seconds):
        self.slept.append(seconds)

    async def strike(self, cluster, fault):
        if fault.rank in self.empty:
            raise AgentRefused("JobNotFound: no process of that job runs here")
        self.struck.append(fault)
        return 2

    async def tell(self, cluster, event):
        self.told.append(event)


def request(fault, **body):
    body = {"cluster_name": "c", "fault": fault, **body}
    return Request("r1", "chaos", "u", RequestStatus.RUNNING, 0, 1.0, body=body)


@pytest.mark.parametrize("cloud", ["aws", "gcp", "slurm", ""])
async def test_machines_that_are_not_ones_own_are_spared(cloud):
    desk = Desk(cloud)
    with pytest.raises(NotSupportedError, match="SSH pools only"):
        await chaos(desk, request("preempt"))
    assert desk.struck == []


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.TERMINATING, Phase.PROVISIONING])
async def test_a_cluster_that_is_not_there_has_nothing_to_lose(phase):
    with pytest.raises(ClusterNotUpError):
        await chaos(Desk(phase=phase), request("kill"))


async def test_the_same_seed_draws_the_same_node_and_it_happens_once():
    ranks = set()
    for seed in range(20):
        first, second = Desk(), Desk("ssh")
        told = await chaos(first, request("preempt", seed=seed, after=3))
        await chaos(second, request("preempt", seed=seed))
        assert first.struck == second.struck == [NodeFault(FaultKind.PREEMPT, told["node"], None, 10.0)]
        assert first.slept == [3] and "taken away" in first.told[0].said
        await chaos(first, request("preempt", seed=seed))
        assert len(first.struck) == 1
        ranks.add(told["node"])
    assert ranks == {0, 1, 2, 3}


async def test_a_job_is_looked_for_on_the_nodes_in_turn():
    desk = Desk(jobs=(3, 7), empty=(0, 1, 3))
    told = await chaos(desk, request("oom"))
    assert (told["node"], told["job_id"], desk.struck[0].key) == (2, 7, "j7")
    with pytest.raises(NotSupportedError, match="JobNotFound"):
        await chaos(Desk(jobs=(3,), empty=(1,)), request("kill", job_id=3, node=1))


def managed(**changes):
    job = ManagedJob("m1", 5, "k", "train", "u", "default", Stage.RUNNING, 0, 1.0, (ManagedTask("t"),), cluster_id="c1",
                     job_number=3)  # fmt: skip
    return replace(job, **changes)


def with_managed(desk, *jobs):
    async def by_number(number):
        return next((each for each in jobs if each.number == number), None)

    async def get(id):
        return desk.cluster if id == "c1" else None

    desk.store.managed_jobs = SimpleNamespace(by_number=by_number)
    desk.store.clusters = SimpleNamespace(get=get)
    return desk


async def test_the_number_of_a_managed_job_stands_for_its_cluster_and_its_processes():
    desk = with_managed(Desk(jobs=(2, 3)), managed())
    told = await chaos(desk, request("kill", cluster_name="5"))
    assert (told["cluster_name"], told["job_id"], desk.struck[0].key) == ("c", 3, "j3")
    told = await chaos(with_managed(Desk(jobs=(3,)), managed()), request("preempt", cluster_name="5", node=2))
    assert (told["node"], told["job_id"]) == (2, None)


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        (managed(number=6), ValueError, "Managed job 5 not found"),
        (managed(cluster_id=None), ClusterNotUpError, "no cluster just now"),
        (managed(cluster_id="c0"), ClusterNotUpError, "no cluster just now"),
        (managed(user="v"), PermissionDeniedError, "is v's"),
        (managed(job_number=None), NotSupportedError, "no processes yet"),
    ],
)
async def test_what_a_managed_job_does_not_have_is_named(job, error, words):
    asked = replace(request("kill", cluster_name="5"), reach=Reach.OWN)
    with pytest.raises(error, match=words):
        await chaos(with_managed(Desk(jobs=(3,)), job), asked)


@pytest.mark.parametrize(
    ("body", "words"), [({"job_id": 9}, "no job 9"), ({"node": 9}, "there is no 9"), ({"fault": "oom"}, "no job runs")]
)
async def test_what_is_not_there_is_named(body, words):
    with pytest.raises(NotSupportedError, match=words):
        await chaos(Desk(), request(body.pop("fault", "kill"), **body))
