"""How machines are got: one place after another or side by side, grown, shrunk, cloned; by whom, and within what quota.

Two clouds of the catalog are played by this machine: what they grant are real nodes with real agents.
"""

import asyncio
from collections import defaultdict
from dataclasses import replace

import pytest

from sky.core.errors import CapacityRefused, CredentialsRejected, ProviderDown, QuotaReached, Throttled
from sky.core.lifecycle import clusters as life
from sky.core.lifecycle.placing import described
from sky.core.model.clusters import Phase, Site, Stray
from sky.core.ports import Access, DiskImage
from sky.engine import sweep as sweeps
from sky.engine.clusters import ClusterWork
from sky.engine.post import Post
from sky.engine.provision import Provisioner
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.providers.local.compute import LocalCompute
from sky.providers.registry import Registry
from sky.server.assembly import build
from sky.server.fleet import HeadAgent
from sky.server.settings import Settings
from sky.wire.clusters import cost_record

TYPE = {"any_of": [{"infra": "aws/us-east-1"}, {"infra": "gcp/us-central1"}], "cpus": 4, "memory": 16}


class Played(LocalCompute):
    """A cloud in which each call for machines of a zone finds the next line of its script, then what it asks for."""

    def __init__(self, cloud, root, script):
        super().__init__(root, dict)
        self.cloud, self.script = cloud, script
        self.asked, self.cloned, self.opened, self.kept, self.stuck = [], [], [], {}, False
        self.who, self.left = f"owner-of-{cloud}", None

    async def check(self):
        return Access(self.cloud, True, capabilities=("compute",))

    async def offers(self):
        return ()

    async def identity(self):
        return self.who

    async def room(self, offer):
        return self.left

    async def open_ports(self, cluster_id, ports, *, regions=None):
        self.opened.append((cluster_id, list(ports)))

    async def image_of(self, cluster_id, key, *, regions=None):
        self.cloned.append((cluster_id, key))
        self.kept[f"image-of-{cluster_id}"] = key
        return f"image-of-{cluster_id}"

    async def images(self, *, regions=None):
        return [DiskImage(*each) for each in self.kept.items()]

    async def remove_image(self, name, *, regions=None):
        if self.stuck:
            raise ProviderDown("no answer")
        self.kept.pop(name, None)

    async def create(self, ask):
        offer = ask.placement.offer
        self.asked.append(ask)
        ask.say(f"{offer.zone} is thinking")
        lines = self.script[offer.zone or offer.region] or self.script[self.cloud]
        for line in [lines.pop(0)] if lines else []:
            if isinstance(line, Exception):
                raise line
            await line.wait()
        return await super().create(ask)


class PlayedRegistry(Registry):
    def __init__(self, state_dir, *given, **named):
        super().__init__(state_dir, *given, **named)
        self.script = defaultdict(list)
        self.played = {cloud: Played(cloud, state_dir / cloud, self.script) for cloud in ("aws", "gcp")}

    def names(self):
        return sorted([*self.played, "local"])

    def likely(self, cloud):
        return cloud in self.played or super().likely(cloud)

    async def check(self, cloud):
        return await self.played[cloud].check() if cloud in self.played else await super().check(cloud)

    def compute(self, cloud):
        return self.played.get(cloud) or super().compute(cloud)


@pytest.fixture
def config():
    return {}


@pytest.fixture
async def plane(tmp_path, monkeypatch, config):
    monkeypatch.setattr("sky.server.assembly.Registry", PlayedRegistry)
    made = build(Settings(tmp_path / "s", config=config))
    await made.start()
    yield made
    await _end_all(made)


@pytest.fixture
def clouds(plane):
    return plane._providers


@pytest.fixture
async def restarted(plane, tmp_path, config, monkeypatch):
    """Stop the server in good order and start another one on its state."""
    planes = [plane]

    async def again():
        await planes[-1].stop()
        planes.append(build(Settings(tmp_path / "s", config=config)))
        await planes[-1].start()
        return planes[-1]

    yield again
    if len(planes) > 1:
        await _end_all(planes[-1])
        monkeypatch.setattr(plane, "clusters", _nothing)
        monkeypatch.setattr(plane, "stop", _nothing)


async def _end_all(plane):
    for cluster in await plane.clusters():
        done = await plane.submit("down", {"cluster_name": cluster.name, "purge": True}, user="u")
        await plane.wait(done.id, 60)
    await plane.stop()


def launch_body(resources=TYPE, name="c", **more):
    task = {"run": "echo ran", "resources": resources, **more.pop("task", {})}
    return {"task": task, "cluster_name": name, **more}


@pytest.fixture
def launch(ask):
    async def launched(*given, **more):
        return await ask("launch", launch_body(*given, **more), 60)

    return launched


async def only(plane):
    (cluster,) = await plane.clusters()
    return cluster


def talk(plane, request):
    return plane.progress_file(request.id).read_text()


def tried(clouds):
    offers = [ask.placement.offer for cloud in clouds.played.values() for ask in cloud.asked]
    return [(offer.place, offer.instance_type) for offer in offers]


# --- one after another -----------------------------------------------------------------------------------------------


async def test_a_cloud_that_refuses_everywhere_hands_over_to_the_other_and_the_story_is_told(plane, clouds, launch):
    clouds.script["gcp"] = [CapacityRefused("sold out") for _ in range(100)]
    launched = await launch()
    assert launched.error is None
    cluster = await only(plane)
    assert cluster.placement.offer.cloud == "aws"
    assert cluster.resources == described(cluster.placement), "and not what was asked for first"
    asked = tried(clouds)
    assert len(asked) == len(set(asked)), "no place is asked twice"
    text = talk(plane, launched)
    assert (
        "refused: sold out; trying" in text and "aws/us-east-1/us-east-1a" in text and "us-east-1a is thinking" in text
    )


async def test_a_throttled_call_is_made_again_and_condemns_nothing(plane, clouds, launch):
    clouds.script["aws"] = [Throttled("slow down", retry_after=0.01)]
    clouds.script["gcp"] = [Throttled("slow down", retry_after=0.01)]
    assert (await launch()).error is None
    assert (await only(plane)).refusals == ()


async def test_what_the_quota_does_not_leave_is_not_asked_for(plane, clouds, launch):
    clouds.played["gcp"].left = 0
    launched = await launch()
    assert launched.error is None
    assert clouds.played["gcp"].asked == []
    refusals = (await only(plane)).refusals
    assert refusals and all(each.scope == "quota" for each in refusals)
    assert len({each.instance_type for each in refusals}) == len(refusals), "a type is not looked at zone by zone"


async def test_a_quota_refusal_of_a_region_strikes_the_region(plane, clouds, launch):
    clouds.script["gcp"] = [QuotaReached("no more vCPUs")]
    assert (await launch()).error is None
    assert (await only(plane)).placement.offer.cloud == "aws"
    assert len(clouds.played["gcp"].asked) == 1


async def test_a_place_that_falls_silent_while_it_makes_machines_is_a_stray_until_they_are_gone(plane, clouds, launch):
    """What was begun there may run and cost money, and nobody can be asked about it: it stays on record."""
    gcp, made = clouds.played["gcp"], Played.create
    silent, ended = [True], []

    async def create(ask):
        await made(gcp, ask)
        raise ProviderDown("no answer any more")

    async def terminate(mark, **named):
        if silent[0]:
            raise ProviderDown("no answer")
        ended.append(mark)
        await Played.terminate(gcp, mark, **named)

    gcp.create, gcp.terminate = create, terminate
    assert (await launch()).error is None
    cluster = await only(plane)
    assert cluster.placement.offer.cloud == "aws"
    assert [(each.site.cloud, each.site.mark) for each in cluster.strays] == [("gcp", cluster.id)]
    assert ended == []
    silent[0] = False
    await plane.clusters(refresh=True)
    async with asyncio.timeout(60):
        while (await only(plane)).strays:
            await asyncio.sleep(0.02)
    assert ended == [cluster.id]


async def test_what_a_place_refused_before_it_was_asked_for_machines_leaves_no_doubt(plane, clouds, launch):
    async def identity():
        raise ProviderDown("no answer")

    clouds.played["gcp"].identity = identity
    assert (await launch()).error is None
    assert (await only(plane)).strays == ()


async def test_each_attempt_has_a_mark_of_its_own(plane, clouds, launch):
    """Else what is left of one that failed, or is made late by whoever is not in charge any more, is taken for ours."""
    clouds.script["us-east-1a"] = [CapacityRefused("none here"), CapacityRefused("none here")]
    assert (await launch({"infra": "aws/us-east-1", "instance_type": "m5.xlarge"})).error is None
    cluster = await only(plane)
    marks = [ask.cluster_id for ask in clouds.played["aws"].asked]
    assert marks == [cluster.id, f"{cluster.id}-h1"]
    assert cluster.where == (Site("aws", "us-east-1", marks[-1]),)


async def test_who_is_called_off_stops_although_what_it_undoes_fails(plane):
    calls = []

    async def undoes():
        calls.append(len(calls))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Throttled("slow down", retry_after=0.0) from None

    task = asyncio.create_task(plane._provisioner.patiently(undoes))
    while not calls:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await task
    assert calls == [0]


# --- side by side ----------------------------------------------------------------------------------------------------


async def test_hedging_keeps_the_first_to_be_had_and_ends_the_rest(plane, clouds, ask):
    never = asyncio.Event()
    clouds.script["aws"] = [never, never]
    clouds.script["gcp"] = []
    body = launch_body(task={"resources": {"any_of": [
        {"infra": "aws/us-east-1/us-east-1a", "instance_type": "m5.xlarge"},
        {"infra": "gcp/us-central1/us-central1-a", "instance_type": "n2-standard-4"},
    ]}}, config={"provision": {"hedge": 2}})  # fmt: skip
    launched = await ask("launch", body, 60)
    assert launched.error is None
    cluster = await only(plane)
    assert cluster.placement.offer.cloud == "gcp"
    assert [site.mark for site in cluster.where] == [f"{cluster.id}-h1"]
    assert await clouds.played["aws"].list() == []
    assert len(await clouds.played["gcp"].list()) == 1
    jobs = await plane.jobs("c")
    assert len(jobs) == 1


async def test_a_loser_that_breaks_while_it_is_called_off_costs_the_winner_nothing(plane, clouds, ask, monkeypatch):
    async def breaks(given):
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("it broke on the way out")

    monkeypatch.setattr(clouds.played["aws"], "create", breaks)
    body = launch_body(task={"resources": {"any_of": [
        {"infra": "aws/us-east-1/us-east-1a", "instance_type": "m5.xlarge"},
        {"infra": "gcp/us-central1/us-central1-a", "instance_type": "n2-standard-4"},
    ]}}, config={"provision": {"hedge": 2}})  # fmt: skip
    assert (await ask("launch", body, 60)).error is None
    assert (await only(plane)).placement.offer.cloud == "gcp"


async def test_a_loser_that_cannot_be_ended_stays_on_record_and_on_the_bill_until_it_is(
    plane, clouds, ask, monkeypatch, restarted
):
    """Its cloud does not answer for a while, and the server is another one in between."""
    down, begun = True, asyncio.Event()

    async def lingers(self, ask):
        if self.cloud == "gcp":
            await begun.wait()
        made = await LocalCompute.create(self, ask)
        if self.cloud == "aws":
            begun.set()
            await asyncio.Event().wait()
        return made

    async def refuses(self, cluster_id, **given):
        if self.cloud == "aws" and down and await self.list(cluster_id):
            raise ProviderDown("no answer")
        await LocalCompute.terminate(self, cluster_id, **given)

    monkeypatch.setattr(Played, "create", lingers)
    monkeypatch.setattr(Played, "terminate", refuses, raising=False)
    body = launch_body(task={"resources": {"any_of": [
        {"infra": "aws/us-east-1/us-east-1a", "instance_type": "m5.xlarge"},
        {"infra": "gcp/us-central1/us-central1-a", "instance_type": "n2-standard-4"},
    ]}}, config={"provision": {"hedge": 2}})  # fmt: skip
    launched = await ask("launch", body, 60)
    assert launched.error is None
    assert "what was begun on aws/us-east-1 cannot be ended yet" in talk(plane, launched)
    cluster = await only(plane)
    (stray,) = cluster.strays
    lost = await clouds.played["aws"].list()
    assert [each.cluster_id for each in lost] == [stray.site.mark]
    assert (cluster.site.cloud, stray.identity) == ("gcp", "owner-of-aws")
    hour = cost_record(cluster, plane.clock.now() + 3600).total_cost
    assert hour == pytest.approx(cluster.placement.price_hourly + stray.price_hourly, rel=0.02)

    second = await restarted()
    await second._refresh(cluster)
    assert (await only(second)).strays == (stray,)
    assert await second._providers.played["aws"].list() != []
    down = False
    await second._refresh(cluster)
    async with asyncio.timeout(60):
        while (after := await only(second)).strays:
            await asyncio.sleep(0.01)
    assert await second._providers.played["aws"].list() == []
    assert (after.phase, len(await second._providers.played["gcp"].list())) == (Phase.UP, 1)
    assert [end is None for _, end, _ in after.intervals] == [False, True]


@pytest.mark.parametrize("order", [life.StopNodes(), life.TerminateNodes()])
async def test_what_is_left_elsewhere_is_ended_also_between_two_rounds(plane, clouds, launch, order):
    await launch({"infra": "aws/us-east-1", "instance_type": "m5.xlarge"})
    cluster, aws = await only(plane), clouds.played["aws"]
    left = f"{cluster.id}-h1"
    await LocalCompute.create(aws, _as(aws.asked[-1], left))
    stray = Stray(Site("aws", "us-east-1", left), 0.0, 1.0)
    between = replace(cluster, sites=(), instances=(), strays=(stray,), identity=None)
    work = ClusterWork(
        plane.store.clusters, plane._provisioner, plane._fleet, HurriedClock(), plane.signals, lambda *_: None
    )
    outcome = await work.act(between, "k", order)
    assert outcome in (life.NodesStopped(()), life.NodesTerminated())
    assert [each.cluster_id for each in await aws.list()] == [cluster.id]


async def test_orderly_restarts_count_as_no_attempt(plane, clouds, restarted, monkeypatch):
    async def hangs(self, ask):
        self.asked.append(ask)
        await asyncio.Event().wait()

    monkeypatch.setattr(Played, "create", hangs)
    request = await plane.submit("launch", launch_body(), user="u")
    for _ in range(4):
        async with asyncio.timeout(60):
            while not tried(plane._providers) or (await plane.find_request(request.id)).attempts != 1:
                await asyncio.sleep(0.01)
        plane = await restarted()


async def test_a_stray_of_another_account_is_not_taken_for_gone(plane, clouds, launch):
    await launch({"infra": "gcp/us-central1", "instance_type": "n2-standard-4"})
    cluster = await only(plane)
    mine, theirs = (Stray(Site("aws", region, cluster.id), 0.0, 1.0, who)
                    for region, who in (("us-east-1", "owner-of-aws"), ("us-east-2", "somebody-else")))  # fmt: skip
    ended = await plane._provisioner.end_strays(replace(cluster, strays=(mine, theirs)))
    assert ended == life.StraysEnded((mine.site,))


async def test_hedging_with_both_refused_goes_on_with_the_next(plane, clouds, ask):
    clouds.script["us-east-1a"] = [CapacityRefused("none here")]
    clouds.script["us-central1-a"] = [CapacityRefused("none there")]
    launched = await ask("launch", launch_body(config={"provision": {"hedge": 2}}), 60)
    assert launched.error is None
    cluster = await only(plane)
    assert len(cluster.where) == 1
    there = [each for cloud in clouds.played.values() for each in await cloud.list()]
    assert [each.cluster_id for each in there] == [cluster.where[0].mark]


async def test_what_a_crash_leaves_of_a_hedge_is_swept(plane, clouds, ask, tmp_path):
    """The loser's machines carry a mark of their own, which no record claims once another place has won."""
    await ask("launch", launch_body(), 60)
    cluster = await only(plane)
    left = clouds.played["aws"]
    given = clouds.played[cluster.placement.offer.cloud].asked[-1]
    await LocalCompute.create(left, _as(given, f"{cluster.id}-h1"))
    sweep = sweeps.Sweep(plane.store, clouds, plane._post, plane.clock, plane.planner.listed)
    assert await sweep.once() == []
    assert await sweep.once() == [f"{cluster.id}-h1"]
    assert len(await clouds.played[cluster.placement.offer.cloud].list()) == 1


def _as(ask, mark):
    return replace(ask, cluster_id=mark)


async def test_calling_off_a_hedged_launch_leaves_nothing(plane, clouds):
    never = asyncio.Event()
    clouds.script["aws"] = [never] * 5
    clouds.script["gcp"] = [never] * 5
    request = await plane.submit("launch", launch_body(config={"provision": {"hedge": 3}}), user="u")
    async with asyncio.timeout(60):
        while len(tried(clouds)) < 3:
            await asyncio.sleep(0.01)
    await plane.cancel_requests([request.id], user="u")
    async with asyncio.timeout(60):
        while await plane.clusters():
            await asyncio.sleep(0.01)
    assert [each for cloud in clouds.played.values() for each in await cloud.list()] == []


# --- whose it is -----------------------------------------------------------------------------------------------------


async def test_a_cluster_is_not_touched_under_another_identity(plane, clouds, ask, launch):
    await launch({"infra": "aws/us-east-1", "instance_type": "m5.xlarge"})
    aws = clouds.played["aws"]
    aws.who = "somebody-else"
    for name in ("stop", "down"):
        done = await ask(name, {"cluster_name": "c"})
        assert "somebody-else" in str(done.error) and "owner-of-aws" in str(done.error)
    assert len(await aws.list()) == 1
    aws.who = "owner-of-aws"
    assert (await ask("down", {"cluster_name": "c"})).error is None
    assert await aws.list() == []


# --- size ------------------------------------------------------------------------------------------------------------


async def test_a_cluster_grows_and_shrinks_and_runs_jobs_on_all_its_nodes(plane, ask, log_of):
    async def launched(nodes, **more):
        task = {"run": "echo rank $SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES", "num_nodes": nodes}
        body = {"task": {**task, "resources": {"infra": "local", "cpus": 1}}, "cluster_name": "c", **more}
        done = await ask("launch", body, 60)
        return done.result["job_id"] if done.error is None else done.error

    assert await launched(1) == 1
    node = (await only(plane)).instances[0]
    assert await launched(3, resize=True) == 2
    grown = await only(plane)
    assert (grown.num_nodes, len(grown.instances), grown.placement.num_nodes) == (3, 3, 3)
    assert grown.instances[0].reach["keeper"] == node.reach["keeper"], "the nodes that were there go on"
    log = await log_of("c", 2)
    assert all(f"rank {rank} of 3" in log for rank in range(3))
    assert await launched(2, resize=True) == 3
    shrunk = await only(plane)
    assert (shrunk.num_nodes, [each.rank for each in shrunk.instances]) == (2, [0, 1])
    log = await log_of("c", 3)
    assert all(f"rank {rank} of 2" in log for rank in range(2))
    assert len(shrunk.intervals) == 3 and shrunk.intervals[-1][1] is None


async def test_a_cluster_does_not_shrink_under_a_job_that_needs_its_nodes(plane, ask):
    task = {"run": "sleep 600", "num_nodes": 2, "resources": {"infra": "local", "cpus": 1}}
    await ask("launch", {"task": task, "cluster_name": "c"}, 60)
    smaller = {**task, "num_nodes": 1}
    done = await ask("launch", {"task": smaller, "cluster_name": "c", "resize": True})
    assert "jobs [1] take more of them" in str(done.error)
    assert (await only(plane)).num_nodes == 2


async def test_growth_that_is_refused_leaves_the_cluster_as_it_was(plane, clouds, launch):
    where = {"infra": "aws/us-east-1", "instance_type": "m5.xlarge"}
    await launch(where)
    clouds.script["aws"] = [CapacityRefused("no more of these")]
    done = await launch(where, task={"num_nodes": 2}, resize=True)
    assert "no more of these" in str(done.error)
    cluster = await only(plane)
    assert (cluster.phase, cluster.num_nodes, cluster.resize_to) == (Phase.UP, 1, None)
    assert len(await clouds.played["aws"].list()) == 1


# --- what machines are to have ---------------------------------------------------------------------------------------


async def test_the_ask_carries_what_task_client_and_server_say(plane, clouds, launch, config):
    config["gcp"] = {"vpc_name": "servers", "use_internal_ips": True}
    where = {"infra": "gcp/us-central1", "instance_type": "n2-standard-4", "disk_size": 300, "disk_tier": "high",
             "ports": [8080], "labels": {"team": "red"}}  # fmt: skip
    await launch(where, task={"config": {"gcp": {"vpc_name": "mine"}}}, config={"gcp": {"vpc_name": "clients"}})
    ask = clouds.played["gcp"].asked[-1]
    assert ask.config == {"vpc_name": "mine", "use_internal_ips": True}
    machine = ask.machine
    assert (machine.disk_size_gb, machine.disk_tier, machine.ports) == (300, "high", ("8080",))
    assert machine.labels == {"team": "red"} and ask.labels["sky-cluster"] == "c"


async def test_ports_that_a_cluster_lacks_are_opened(plane, clouds, launch):
    where = {"infra": "aws/us-east-1", "instance_type": "m5.xlarge"}
    await launch({**where, "ports": [80]})
    await launch({**where, "ports": [80, 90]})
    assert clouds.played["aws"].opened == [((await only(plane)).id, ["80", "90"])]


async def test_a_disk_is_cloned_where_it_is(plane, clouds, ask, launch):
    where = {"infra": "aws/us-east-1", "instance_type": "m5.xlarge"}
    await launch(where)
    early = await launch(name="d", clone_disk_from="c")
    assert "can be copied while it is stopped" in str(early.error)
    await ask("stop", {"cluster_name": "c"})
    elsewhere = await launch({"infra": "gcp"}, name="d", clone_disk_from="c")
    assert "is on aws/us-east-1" in str(elsewhere.error)
    done = await launch({"cpus": 4}, name="d", clone_disk_from="c")
    assert done.error is None
    asked = clouds.played["aws"].asked[-1]
    assert asked.machine.clone_of == f"image-of-{clouds.played['aws'].cloned[0][0]}"
    assert asked.placement.offer.region == "us-east-1"
    assert clouds.played["aws"].kept == {}, "the machines are there, and the image has gone"
    assert (await plane.store.clusters.by_name("d")).clone_of is None


async def test_an_image_goes_with_a_launch_that_fails_and_if_not_with_a_sweep(plane, clouds, ask, launch):
    where, aws = {"infra": "aws/us-east-1", "instance_type": "m5.xlarge"}, clouds.played["aws"]
    await launch(where)
    await ask("stop", {"cluster_name": "c"})
    for stuck in (False, True):
        clouds.script["aws"] += [CapacityRefused("sold out", scope="account")]
        aws.stuck = stuck
        failed = await launch(where, name="d", clone_disk_from="c")
        assert "sold out" in str(failed.error)
        assert len(aws.kept) == stuck
    aws.stuck = False
    sweep = sweeps.Sweep(plane.store, clouds, Post(SystemClock(), Signals()), SystemClock(), plane.planner.listed)
    looks = 0
    while aws.kept:
        assert looks <= sweeps._IMAGES
        await sweep.once()
        looks += 1
    assert looks == sweeps._IMAGES + 1, "seen twice before it goes"


async def test_a_stop_that_cannot_be_is_refused_before_a_job_is_ended(plane, clouds, ask, launch):
    done = await launch({"infra": "gcp"}, task={"run": "sleep 60"})
    seen = []

    def unstoppable(offer, config, made):
        seen.append((offer.cloud, dict(config), [each.rank for each in made]))
        return "made by a group"

    clouds.played["gcp"].unstoppable = unstoppable
    refused = await ask("stop", {"cluster_name": "c"})
    assert "made by a group" in str(refused.error)
    assert seen == [("gcp", {}, [0])]
    (job,) = await plane.store.jobs.of_cluster((await only(plane)).id)
    assert job.job_id == done.result["job_id"] and not job.status.is_terminal()


class Said(list):
    """What a place and a head were told, in order."""

    def __init__(self):
        super().__init__()
        self.refusals = []

    async def end_on_shutdown(self, cluster_id, ends, *, regions=None):
        self.append("ends" if ends else "stops")
        if self.refusals:
            raise self.refusals.pop()

    async def news(self, count):
        """The next so many, and that there are no more."""
        async with asyncio.timeout(60):
            while len(self) < count:
                await asyncio.sleep(0.01)
        told = self[:]
        self.clear()
        return told


async def test_what_becomes_of_idle_machines_is_said_in_an_order_that_loses_no_disk(
    plane, clouds, ask, launch, monkeypatch
):
    monkeypatch.setattr(life, "AUTOSTOP_AGAIN", 0.1)
    said = Said()
    clouds.played["aws"].end_on_shutdown = said.end_on_shutdown
    set_autostop = HeadAgent.set_autostop

    async def told(head, autostop):
        said.append(f"head: {autostop.enabled and ('down' if autostop.down else 'stop')}")
        await set_autostop(head, autostop)

    monkeypatch.setattr(HeadAgent, "set_autostop", told)
    await launch({"infra": "aws/us-east-1"}, idle_minutes_to_autostop=60, down=True)
    assert await said.news(2) == ["head: down", "ends"]
    await ask("autostop", {"cluster_name": "c", "idle_minutes": 60})
    assert await said.news(2) == ["stops", "head: stop"]
    await ask("autostop", {"cluster_name": "c", "idle_minutes": -1})
    assert await said.news(2) == ["head: False", "stops"]
    # Out of order for a moment: the head is told once, so that its idle time goes on.
    said.refusals.append(ProviderDown("no answer"))
    await ask("autostop", {"cluster_name": "c", "idle_minutes": 60, "down": True})
    assert await said.news(3) == ["head: down", "ends", "ends"]
    # Who may not say it has machines that stop.
    said.refusals.append(CredentialsRejected("not allowed", scope="region"))
    await ask("autostop", {"cluster_name": "c", "idle_minutes": 30, "down": True})
    assert await said.news(2) == ["head: down", "ends"]
    await ask("stop", {"cluster_name": "c"})
    assert await said.news(1) == ["stops"], "what its head remembers ends no disk when it is started again"
    assert (await only(plane)).phase is Phase.STOPPED


SPOT = """
[[offer]]
infra = "aws/us-east-1/us-east-1a"
instance_type = "own.xlarge"
cpus = 4
memory = 16
spot_price = 0.05
"""


async def test_lost_spot_machines_are_remembered(plane, clouds, launch, config, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "spot.toml").write_text(SPOT)
    config["catalog"] = {"folder": str(tmp_path / "own")}
    await launch({"infra": "aws/us-east-1", "instance_type": "own.xlarge", "use_spot": True})
    cluster = await only(plane)
    await clouds.played["aws"].terminate(cluster.id)
    async with asyncio.timeout(60):
        while len(kinds := [each.kind.value for each in await plane.store.outcomes.since(0.0)]) < 2:
            await asyncio.sleep(0.02)
    assert kinds == ["granted", "lost"]


# --- what must not be lost, and what must not be ended ---------------------------------------------------------------


async def test_machines_that_cannot_be_stopped_are_not_told_to_stop_when_idle(plane, clouds, ask, launch):
    aws, gcp = clouds.played["aws"], clouds.played["gcp"]
    aws.unstoppable = gcp.unstoppable = lambda offer, *_: f"these of {offer.cloud} cannot be stopped"
    refused = await launch(idle_minutes_to_autostop=5)
    assert "cannot be stopped" in str(refused.error) and "--down" in str(refused.error)
    assert aws.asked == gcp.asked == []
    aws.unstoppable = lambda offer, *_: None
    assert (await launch(idle_minutes_to_autostop=5)).error is None
    assert (await only(plane)).placement.offer.cloud == "aws"
    aws.unstoppable = lambda offer, *_: "these cannot be stopped"
    again = await launch({"infra": "aws"}, idle_minutes_to_autostop=5)
    assert "these cannot be stopped" in str(again.error)
    stop = await ask("stop", {"cluster_name": "c"})
    assert "these cannot be stopped" in str(stop.error)
    assert (await only(plane)).phase is Phase.UP
    assert (await launch({"infra": "aws"}, idle_minutes_to_autostop=5, down=True)).error is None


class HurriedClock(SystemClock):
    """Nobody waits."""

    async def sleep(self, seconds):
        await asyncio.sleep(0)


async def test_a_cluster_that_answers_is_not_ended_because_a_list_is_empty(plane, clouds, launch):
    await launch({"infra": "aws/us-east-1", "instance_type": "m5.xlarge"})
    cluster, aws = await only(plane), clouds.played["aws"]
    real, aws.list = aws.list, _nothing
    await plane._refresh(cluster)
    aws.list = real
    assert (await only(plane)).phase is Phase.UP
    assert [each.cluster_id for each in await aws.list()] == [cluster.id]


async def _nothing(*_, **__):
    return ()


async def test_nothing_is_begun_elsewhere_until_the_place_before_has_ended(plane, clouds, launch):
    """Machines whose agent never came are on no record once the next place is had: they are ended before."""
    await launch({"infra": "gcp/us-central1", "instance_type": "n2-standard-4"})
    cluster = await only(plane)
    told, left = [], [ProviderDown("no answer"), ProviderDown("no answer")]

    async def terminate(cluster_id, **_):
        told.append((cluster_id, len(clouds.played["gcp"].asked)))
        if left:
            raise left.pop()

    clouds.played["aws"].terminate = terminate
    said = []
    provisioner = Provisioner(
        clouds, plane.store.outcomes, HurriedClock(), lambda _: {}, lambda _, text: said.append(text), plane._forgotten
    )
    before = Site("aws", "us-east-1", cluster.id)
    made = await provisioner.provision(cluster, "again", life.Provision(cluster.placement, instead_of=before))
    assert isinstance(made, life.NodesCreated)
    assert told == [(cluster.id, 1)] * 3, "and only then the next place is asked"
    assert sum("aws/us-east-1 is not ended yet: no answer" in text for text in said) == 2


async def test_a_place_that_cannot_end_its_machines_keeps_none_alive_elsewhere(plane, clouds, launch):
    await launch({"infra": "gcp/us-central1", "instance_type": "n2-standard-4"})
    cluster = await only(plane)

    async def terminate(*_, **__):
        raise ProviderDown("no answer")

    real, clouds.played["aws"].terminate = clouds.played["aws"].terminate, terminate
    sites = (Site("aws", "us-east-1", cluster.id), *cluster.where)
    everywhere = replace(cluster, phase=Phase.TERMINATING, sites=sites, identity=None)
    work = ClusterWork(
        plane.store.clusters, plane._provisioner, plane._fleet, HurriedClock(), plane.signals, lambda *_: None
    )
    outcome = await work.act(everywhere, "k", life.TerminateNodes())
    clouds.played["aws"].terminate = real
    assert outcome == life.TeardownFailed("no answer")
    assert await clouds.played["gcp"].list() == []
