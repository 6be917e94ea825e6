"""Plans of a whole control plane: what is learnt from answers of places, own rows, access, data, several tasks."""

import asyncio
import re
from dataclasses import replace

import pytest

from sky.core.errors import CapacityRefused, InvalidSkyPilotConfigError, ResourcesUnavailableError
from sky.core.lifecycle import clusters as cluster_life
from sky.core.lifecycle.machine import Step
from sky.core.model.catalog import Market, Query
from sky.core.model.clusters import Cluster, Phase
from sky.core.model.dags import DagSpec
from sky.core.model.ledger import Billed, Entry
from sky.core.model.offers import Reason
from sky.core.model.outcomes import Outcome, OutcomeKind
from sky.core.optimizer.goals import Goal
from sky.core.ports import Access
from sky.engine.plans import Questions, Said
from sky.providers.registry import Registry
from sky.server.assembly import build
from sky.server.settings import Settings


class FullPlaces:
    """A place where machines can be rented, and where there are none left."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.asked = []

    async def check(self):
        return Access(self.cloud, True, capabilities=("compute",))

    async def offers(self):
        return ()

    async def create(self, ask):
        self.asked.append(ask.placement.offer)
        raise CapacityRefused("no capacity for that now")

    async def list(self, cluster_id=None, *, regions=None):
        return ()

    async def terminate(self, cluster_id, *, regions=None, ranks=None):
        return None


class TwoFullClouds(Registry):
    """AWS and GCP can be used, and refuse; this machine cannot be taken for them."""

    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.full = {cloud: FullPlaces(cloud) for cloud in ("aws", "gcp")}

    def names(self):
        return sorted([*self.full, "local"])

    async def check(self, cloud):
        return await self.full[cloud].check() if cloud in self.full else await super().check(cloud)

    def compute(self, cloud):
        return self.full.get(cloud) or super().compute(cloud)


@pytest.fixture
def config(tmp_path):
    return {"catalog": {"folder": str(tmp_path / "own"), "refresh": False}}


@pytest.fixture
def asked_for(monkeypatch):
    """What the full clouds were asked for."""
    asked = []

    def registry(*given, **named):
        made = TwoFullClouds(*given, **named)
        for each in made.full.values():
            each.asked = asked
        return made

    monkeypatch.setattr("sky.server.assembly.Registry", registry)
    return asked


@pytest.fixture
async def plane(tmp_path, asked_for, config):
    made = build(Settings(tmp_path / "s", config=config))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def dag(*tasks, **header):
    return DagSpec.from_config({"tasks": [{"run": "true", **each} for each in tasks], "edges": [], **header})


async def plan(plane, resources, **questions):
    """The answer for one task."""
    (found,) = await plane.planner.optimize(dag({"resources": resources}), Questions(**questions))
    return found


def chosen(answer):
    return answer.plan.placements[0].offer


P4D = {"infra": "aws/us-east-1", "instance_type": "p4d.24xlarge"}


# --- what is learnt --------------------------------------------------------------------------------------------------


async def test_a_refusal_is_on_record_and_told(plane, asked_for):
    launched = await plane.submit("launch", {"task": {"run": "true", "resources": P4D}, "cluster_name": "c"}, user="u")
    ended = await plane.wait(launched.id, 60)
    assert "no capacity for that now" in str(ended.error)
    zones = [offer.zone for offer in asked_for]
    assert len(zones) == len(set(zones)) >= 2, "every zone of the region is tried, each once"

    answer = await plan(plane, P4D, when=True, why_not=("p4d.24xlarge@aws/us-east-1",))
    assert answer.chances[0].startswith("p4d.24xlarge in aws/us-east-1")
    assert " now: " in answer.chances[0] and "not known" not in answer.chances[0]
    assert answer.chances[1] in ("refused a moment ago: no capacity for that now",) or "second" in answer.chances[1]
    (why,) = answer.answers
    assert "this is the choice; refused" in why.reason and "no capacity for that now" in why.reason


async def test_where_nothing_was_asked_nothing_is_guessed(plane):
    answer = await plan(plane, P4D, when=True)
    assert answer.chances == (
        f"p4d.24xlarge in {chosen(answer).place}: not known: machines were not asked for there, or anywhere around, "
        "often enough",
    )


async def test_the_expected_cost_prefers_a_place_that_does_not_refuse(plane):
    cheapest = chosen(await plan(plane, P4D))
    now = plane.clock.now()
    where = ("aws", "us-east-1", cheapest.zone, "p4d.24xlarge", Market.ON_DEMAND)
    for minutes in (50, 40, 30, 20, 12):
        refused = Outcome(now - 60 * minutes - 5, *where, OutcomeKind.REFUSED, 1, "no capacity")
        await plane.store.outcomes.add(refused)
    by_price = await plan(plane, P4D, why_not=(cheapest.place,))
    assert chosen(by_price) == cheapest, "the plain price does not learn"
    assert by_price.answers[0].reason == "this is the choice; refused 12 minutes ago: no capacity"

    expected = await plan(plane, P4D, goal=Goal.EXPECTED, why_not=(cheapest.place,), when=True)
    assert chosen(expected).price_hourly == cheapest.price_hourly
    assert chosen(expected).zone != cheapest.zone
    (why,) = expected.answers
    assert why.reason.startswith("refused 12 minutes ago: no capacity; ")
    assert why.code is Reason.REFUSED
    losses = [standing.expected_loss for standing in expected.plan.standings]
    at = [placement.offer.zone for placement in expected.plan.placements].index(cheapest.zone)
    assert losses[at] == max(losses) > losses[0]


# --- what a client says of one plan ----------------------------------------------------------------------------------


async def test_a_client_may_want_fewer_clouds_and_never_more(plane, config):
    asked = {"accelerators": "A100:8"}
    assert chosen(await plan(plane, asked)).cloud == "aws"
    assert chosen(await plan(plane, asked, said=Said.of({"allowed_clouds": ["gcp"]}))).cloud == "gcp"
    config["allowed_clouds"] = ["aws"]
    with pytest.raises(ResourcesUnavailableError, match="allowed_clouds in your configuration leaves nothing"):
        await plan(plane, asked, said=Said.of({"allowed_clouds": ["gcp"]}))


async def test_a_launch_is_planned_with_what_its_client_says(plane, asked_for):
    task = {"run": "true", "resources": {"cpus": 4, "memory": 16}}
    body = {"task": task, "cluster_name": "c", "config": {"allowed_clouds": ["gcp"]}}
    ended = await plane.wait((await plane.submit("launch", body, user="u")).id, 60)
    assert "no capacity" in str(ended.error)
    assert {offer.cloud for offer in asked_for} == {"gcp"}


async def test_a_client_is_told_which_of_its_settings_are_the_servers(plane, config):
    body = {"task": {"run": "true", "resources": P4D}, "dryrun": True,
            "config": {"local": {"cpus": 99}, "catalog": dict(config["catalog"])}}  # fmt: skip
    ended = await plane.wait((await plane.submit("launch", body, user="u")).id, 60)
    said = plane.progress_file(ended.id).read_text()
    assert "Without effect, since only the server's own file says it: local\n" in said


@pytest.mark.parametrize(
    ("blocked", "within"),
    [
        ({"infra": "aws"}, lambda offer: offer.cloud == "aws"),
        ({"infra": "aws/us-east-1/us-east-1a"}, lambda offer: offer.zone == "us-east-1a"),
        ({"instance_type": "p4d.24xlarge"}, lambda offer: offer.instance_type == "p4d.24xlarge"),
        ({"accelerators": "A100:8"}, lambda offer: offer.accelerators.get("A100") == 8),
        ({"infra": "aws", "use_spot": True}, lambda offer: False),
    ],
)
async def test_blocked_resources_are_left_out(plane, blocked, within):
    asked = {"accelerators": {"A100": 8, "A100-80GB": 8}}
    everything = (await plan(plane, asked)).plan.placements
    answer = await plan(plane, asked, said=Said.of({}, [[blocked]]), explain=True)
    assert [each for each in everything if not within(each.offer)][:20] == list(answer.plan.placements)[:20]
    told = [each.reason for each in answer.plan.rejections if "blocked_resources" in each.reason]
    assert bool(told) == any(within(each.offer) for each in everything)


async def test_a_launch_asks_for_nothing_that_is_blocked(plane, asked_for):
    body = {"task": {"run": "true", "resources": P4D}, "cluster_name": "c",
            "blocked_resources": [{"infra": "aws/us-east-1/us-east-1a"}]}  # fmt: skip
    ended = await plane.wait((await plane.submit("launch", body, user="u")).id, 60)
    assert "no capacity" in str(ended.error)
    assert asked_for and all(offer.zone != "us-east-1a" for offer in asked_for)


async def test_retrying_until_up_sees_places_that_are_new_since(plane, asked_for, own, monkeypatch):
    monkeypatch.setattr(cluster_life, "RETRY_UNTIL_UP_GAP", 0.05)
    where = {"infra": "aws/us-east-1/us-east-1a", "instance_type": "own.big"}
    (own / "a.toml").write_text(OWN)
    body = {"task": {"run": "true", "resources": {"any_of": [where, {"infra": "gcp"}], "cpus": 64, "memory": 123}},
            "cluster_name": "c", "retry_until_up": True}  # fmt: skip
    request = await plane.submit("launch", body, user="u")
    try:
        async with asyncio.timeout(60):
            while len(asked_for) < 3:
                await asyncio.sleep(0.01)
        assert {offer.cloud for offer in asked_for} == {"aws"}
        (own / "b.toml").write_text(OWN.replace("aws/us-east-1/us-east-1a", "gcp/us-central1"))
        async with asyncio.timeout(60):
            while asked_for[-1].cloud != "gcp":
                await asyncio.sleep(0.01)
    finally:
        await plane.cancel_requests([request.id], user="u")


OWN = """
[[offer]]
infra = "aws/us-east-1/us-east-1a"
instance_type = "own.big"
cpus = 64
memory = 123
price = 1.0
"""


# --- own rows --------------------------------------------------------------------------------------------------------


async def test_own_prices_and_denials_hold_at_once(plane, own):
    asked = {"accelerators": "A100:8"}
    before = await plan(plane, asked)
    (own / "a.toml").write_text(
        '[[deny]]\ninfra = "aws"\nreason = "not allowed here"\n[[price]]\ninfra = "gcp"\n'
        'instance_type = "a2-highgpu-8g"\nmultiplier = 0.5\n'
    )
    after = await plan(plane, asked, why_not=("aws/us-east-1",))
    assert (chosen(before).cloud, chosen(after).cloud) == ("aws", "gcp")
    gcp = next(each.offer for each in before.plan.placements if each.offer.cloud == "gcp")
    assert chosen(after).price_hourly == pytest.approx(gcp.price_hourly / 2)
    assert chosen(after).source == f"{own}/a.toml:4"
    assert after.answers[0].code is Reason.DENIED
    assert f"not allowed here ({own}/a.toml:1)" in after.answers[0].reason

    (own / "b.csv").write_text(
        "cloud,region,zone,instance_type,market,price,cpus,memory,accelerator,accelerator_count\n"
        "gcp,us-central1,,a2-highgpu-8g,on_demand,7.5,,,,\n"
    )
    assert chosen(await plan(plane, asked)).price_hourly == 7.5
    (own / "a.toml").unlink()
    (own / "b.csv").unlink()
    assert chosen(await plan(plane, asked)) == chosen(before)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.toml", '[[price]]\ninfra = "aws"\n', "a.toml:1: found neither of 'price' and 'multiplier'"),
        ("a.toml", "[[price]\n", "a.toml: "),
        ("b.csv", "cloud,instance_type,market,price\naws,m5.large,any\n", "b.csv:2: found 3 cells"),
        ("b.csv", "cloud,instance_type,market,price\naws,m5.large,any,cheap\n", "b.csv:2: "),
    ],
)
async def test_a_broken_file_is_told_with_its_place(plane, own, name, content, says):
    (own / name).write_text(content)
    with pytest.raises(ValueError, match=re.escape(str(own))) as told:
        await plan(plane, {"cpus": 4})
    assert says in str(told.value)


async def test_reservations_quotas_and_private_places(plane, own):
    asked = {"accelerators": "A100:8"}
    place = chosen(await plan(plane, asked)).place
    (own / "a.toml").write_text(
        f'[[reservation]]\ninfra = "{place}"\ninstance_type = "p4d.24xlarge"\ncount = 1\n'
        '[[quota]]\ninfra = "gcp"\nmax_nodes = 0\n'
        '[[offer]]\ninfra = "basement"\ninstance_type = "rig"\ncpus = 64\nmemory = 256\n'
        'accelerators = "A100:8"\nprice = 1\n'
    )
    answer = await plan(plane, asked, why_not=("gcp", "rig", "basement"))
    first = answer.plan.placements[0]
    assert (first.offer.place, first.reserved_nodes, first.price_hourly) == (place, 1, 0)
    quota, *private = answer.answers
    assert quota.code is Reason.QUOTA and "needs 1 nodes, your quota is 0" in quota.reason
    assert [each.code for each in private] == [Reason.NOT_ENABLED] * 2
    everywhere = await plan(plane, asked, all_infra=True, goal=Goal.COST)
    assert any(each.offer.instance_type == "rig" for each in everywhere.plan.placements)
    two = DagSpec.from_config({"tasks": [{"run": "true", "num_nodes": 2, "resources": asked}], "edges": []})
    (more,) = await plane.planner.optimize(two, Questions())
    here = next(each for each in more.plan.placements if each.offer.place == place)
    assert (here.reserved_nodes, here.price_hourly) == (1, here.offer.price_hourly), "the second one is paid"


# --- access ----------------------------------------------------------------------------------------------------------


async def test_only_what_is_enabled_unless_all_is_asked_for(plane):
    here = await plan(plane, {"accelerators": "H100:8"})
    assert {each.offer.cloud for each in here.plan.placements} == {"aws", "gcp"}
    everywhere = await plan(plane, {"accelerators": "H100:8"}, all_infra=True)
    assert {each.offer.cloud for each in everywhere.plan.placements} > {"aws", "gcp"}
    assert everywhere.enabled == {"aws", "gcp", "local"}
    assert {each.offer.cloud for each, _ in here.places} == {"aws", "gcp"}


class TestAllowed:
    @pytest.fixture
    def config(self, tmp_path):
        return {"catalog": {"folder": str(tmp_path / "own")}, "allowed_clouds": ["gcp"]}

    async def test_allowed_clouds_bind(self, plane):
        answer = await plan(plane, {"accelerators": "A100:8"}, why_not=("aws/us-east-1",))
        assert {each.offer.cloud for each in answer.plan.placements} == {"gcp"}
        assert answer.answers[0].code is Reason.NOT_ENABLED


# --- what is said when nothing fits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"accelerators": "A10O:8"}, r"no accelerator is called A10O; did you mean A100 or A10"),
        ({"accelerators": "A100:8", "max_hourly_cost": 3}, r"nearest: raise max_hourly_cost to 21\.96: p4d\.24xlarge"),
        ({"accelerators": "H100:7"}, r"nearest: take H100:8: p5\.48xlarge"),
        ({"accelerators": "H100:8", "infra": "aws/ap-south-2"}, r"nearest: leave the region open: p5\.48xlarge"),
        ({"accelerators": "A6000:1"}, r"nearest: enable \w+: "),
    ],
)
async def test_the_nearest_that_one_constraint_less_would_open(plane, resources, says):
    with pytest.raises(ResourcesUnavailableError, match=says) as told:
        await plan(plane, resources)
    assert str(told.value).count("\n") < 20
    assert "sky optimize --all-infra" in str(told.value)


async def test_the_task_of_several_that_fits_nowhere_is_named(plane):
    tasks = ({"name": "one", "resources": {"cpus": 4}}, {"name": "two", "resources": {"accelerators": "QX9:3"}})
    with pytest.raises(ResourcesUnavailableError, match="No place for the task two: 1x"):
        await plane.planner.optimize(dag(*tasks), Questions())


@pytest.mark.parametrize(
    ("questions", "says"),
    [
        ({"why_not": ("nonsense",)}, "--why-not: found 'nonsense'"),
        ({"why_not": ("H100:8@nowhere/",)}, "--why-not: found 'nowhere/' behind @"),
        ({"what_if": ("bananas=4",)}, "--what-if: found 'bananas=4'"),
        ({"what_if": ("region=",)}, "--what-if: found 'region='"),
    ],
)
async def test_questions_that_are_not_understood(plane, questions, says):
    with pytest.raises(InvalidSkyPilotConfigError) as told:
        await plan(plane, {"cpus": 4}, **questions)
    assert says in str(told.value)


# --- time, data, several tasks ---------------------------------------------------------------------------------------


async def test_the_faster_type_wins_where_time_counts(plane):
    two = dag({"resources": {"accelerators": {"A100": 8, "H100": 8}}})
    types = (await plane.planner.types(two, all_infra=False))[0]
    estimates = [
        {
            f"{each.offer.cloud}/{each.offer.instance_type}": 1800.0 if "H100" in each.offer.accelerators else 7200.0
            for each in types
        }
    ]
    (fast,) = await plane.planner.optimize(two, Questions(goal=Goal.TIME, estimates=estimates))
    assert chosen(fast).accelerators == {"H100": 8}
    assert fast.plan.standings[0].hours == pytest.approx(0.5)
    (cheap,) = await plane.planner.optimize(two, Questions(estimates=estimates))
    assert cheap.plan.standings[0].price == pytest.approx(
        min(each.offer.price_hourly * (0.5 if "H100" in each.offer.accelerators else 2) for each in types)
    )
    order = [(standing.hours, standing.price) for _, standing in fast.places]
    assert order == sorted(order), "of equally fast ones the cheaper stands first"


class TestData:
    @pytest.fixture
    def config(self, tmp_path):
        known = {"s3://raw": {"region": "us-east-1", "size": "2TB"}}
        return {"catalog": {"folder": str(tmp_path / "own")}, "data": {"buckets": known}}

    async def test_data_draws_the_task_to_it(self, plane):
        asked = {"resources": {"infra": "gcp", "accelerators": "A100:8"}, "file_mounts": {"/raw": "s3://raw/today"}}
        (away,) = await plane.planner.optimize(dag(asked), Questions())
        assert "from aws/us-east-1" in away.plan.data and "$" in away.plan.data
        assert away.plan.standings[0].data == pytest.approx(2000 * 0.09, rel=0.2)
        (free,) = await plane.planner.optimize(dag({**asked, "resources": {"accelerators": "A100:8"}}), Questions())
        assert (chosen(free).cloud, chosen(free).region) == ("aws", "us-east-1")
        assert free.plan.standings[0].data == 0
        told = Said.of({"data": {"buckets": {"s3://raw": {"region": "us-east-1", "size": "20TB"}}}})
        (dear,) = await plane.planner.optimize(dag(asked), Questions(said=told))
        assert dear.plan.standings[0].data == pytest.approx(20000 * 0.09, rel=0.2), "the client's size"


class TestWrongData:
    @pytest.fixture
    def config(self, tmp_path):
        return {"catalog": {"folder": str(tmp_path / "own")}, "data": {"buckets": ["s3://raw"]}}

    async def test_what_is_no_map_of_buckets_is_told(self, plane):
        with pytest.raises(InvalidSkyPilotConfigError, match=r"data\.buckets: found \['s3://raw'\]; allowed: a map"):
            await plan(plane, {"cpus": 2})


PREP = {"name": "prep", "resources": {"infra": "aws/us-east-1", "cpus": 8}, "outputs": {"s3://mid": 3000}}
TRAIN = {"name": "train", "resources": {"accelerators": "H100:8"}}


async def test_a_pipeline_stays_with_its_data_and_says_so_for_each_task(plane, own):
    (own / "a.toml").write_text('[[price]]\ninfra = "gcp"\ninstance_type = "a3-highgpu-8g"\nprice = 40\n')
    alone = await plan(plane, TRAIN["resources"])
    assert chosen(alone).cloud == "gcp"
    _, train = await plane.planner.optimize(dag(PREP, TRAIN), Questions(why_not=("gcp",), explain=True))
    assert chosen(train).cloud == "aws"
    first, second = train.places[0], train.places[1]
    assert first[0] == train.plan.placements[0], "the choice stands first"
    assert second[0].offer.cloud == "gcp" and second[1].data > 100 and second[1].objective > first[1].objective
    assert train.answers[0].code is Reason.DEARER and "dearer than the choice" in train.answers[0].reason
    by_cloud = {each.place.partition("/")[0]: each.reason for each in train.answers[1:]}
    assert by_cloud["aws"] == "this is the choice"
    assert len(train.plan.placements) > 1, "where it would be tried next is told as well"


async def test_a_group_comes_together_and_says_why(plane):
    tasks = (
        {"name": "a", "resources": {"cpus": 8}},
        {"name": "b", "resources": {"accelerators": "A100:8"}},
    )
    a, b = await plane.planner.optimize(dag(*tasks, name="g", execution="parallel"), Questions(why_not=("gcp",)))
    assert (chosen(a).cloud, chosen(a).region) == (chosen(b).cloud, chosen(b).region)
    together = f"all 2 tasks in {chosen(a).cloud}/{chosen(a).region}"
    assert a.note == b.note and a.note.endswith(together) and a.note.startswith("all tasks together: $")
    assert together in a.answers[0].reason
    assert a.places[0][0] == a.plan.placements[0]


async def test_alternatives_in_their_order(plane):
    answer = await plan(
        plane,
        {"ordered": [{"infra": "gcp", "accelerators": "H100:8"}, {"infra": "aws", "accelerators": "A100:8"}]},
    )
    assert chosen(answer).cloud == "gcp"
    assert [placement.offer.cloud for placement, _ in answer.places][:2] == ["gcp", "aws"]
    assert answer.places[0][1].objective > answer.places[-1][1].objective


# --- prices that are not known ---------------------------------------------------------------------------------------


async def test_what_is_sold_at_an_unknown_price_is_told_as_such(plane):
    catalog = plane.catalogs.current()
    unpriced = next(
        each
        for each in catalog.listings(Query(clouds=frozenset(["aws"]), accelerator="A100", accelerator_count=8))
        if each.price is None and each.spot_price is None
    )
    answer = await plan(
        plane,
        {"accelerators": {"A100": 8, "H100": 8}},
        all_infra=True,
        why_not=(f"aws/{unpriced.region}", "mithril", "hetzner"),
    )
    there, mithril, hetzner = answer.answers
    assert (there.code, there.place, there.instance_type) == (
        Reason.NO_PRICE,
        f"aws/{unpriced.region}",
        unpriced.type.name,
    )
    assert there.remedy == "`sky catalog refresh --infra aws` asks for it"
    assert mithril.code is Reason.NO_PRICE and mithril.place.startswith("mithril/")
    assert hetzner.code is Reason.NOT_SOLD, "it sells no such machine at any price"


# --- labels and images -----------------------------------------------------------------------------------------------


async def test_labels_that_a_named_cloud_cannot_take_are_refused(plane):
    with pytest.raises(InvalidSkyPilotConfigError, match=r"on gcp: labels: found the key 'Team'"):
        await plan(plane, {"infra": "gcp", "cpus": "8+", "labels": {"Team": "x"}}, all_infra=True)


async def test_labels_rule_out_the_clouds_that_cannot_take_them(plane):
    wanted = {"accelerators": "A100:8", "labels": {"Team": "x"}}
    answer = await plan(plane, wanted, all_infra=True, why_not=("gcp",))
    assert "gcp" not in {each.offer.cloud for each in answer.plan.placements}
    assert "labels: found the key 'Team'" in answer.answers[0].reason
    assert answer.answers[0].code is Reason.FEATURE


# --- what living clusters hold ---------------------------------------------------------------------------------------


async def test_living_clusters_use_up_reservations_and_quotas(plane, own):
    (own / "held.toml").write_text(
        '[[reservation]]\ninfra = "aws/us-east-1"\ninstance_type = "p4d.24xlarge"\ncount = 3\n'
        '[[quota]]\ninfra = "gcp"\ninstance_type = "a2-*"\nmax_nodes = 2\n'
    )
    asked = dag({"resources": P4D, "num_nodes": 2})
    (before,) = await plane.planner.optimize(asked, Questions())
    assert before.plan.placements[0].reserved_nodes == 2
    held = before.plan.placements[0]
    gcp = next(
        each
        for each in (await plan(plane, {"accelerators": "A100:8"}, all_infra=True)).plan.placements
        if each.offer.cloud == "gcp"
    )
    for name, placement in (("one", held), ("two", replace(gcp, num_nodes=2))):
        drawn = Cluster(name, name, "u", "default", Phase.UP, 0, 1.0, 1.0, placement.num_nodes, placement=placement)
        await plane.store.clusters.open(Step(drawn, ()), plane.clock.now())
    (after,) = await plane.planner.optimize(asked, Questions())
    assert after.plan.placements[0].reserved_nodes == 1, "two of the three are in use"
    elsewhere = await plan(plane, {"accelerators": "A100:8"}, all_infra=True, why_not=("gcp",))
    assert elsewhere.answers[0].code is Reason.QUOTA
    assert "your quota is 0" in elsewhere.answers[0].reason


async def test_members_of_a_group_begin_in_the_region_that_has_room_for_all(plane, asked_for):
    tasks = [
        {"name": "a", "run": "true", "resources": {"accelerators": "H100:8"}},
        {"name": "b", "run": "true", "resources": {"cpus": "8+", "infra": "aws"}},
    ]
    body = {"dag": {"tasks": tasks, "name": "g", "execution": "parallel"}}
    request = await plane.submit("jobs/launch", body, user="u")
    request = await plane.wait(request.id, 60)
    members = await plane.store.managed_jobs.of_parent((await plane.managed.by_number(1)).id)
    (place,) = {each.member.place for each in members}
    assert place.startswith("aws/")
    async with asyncio.timeout(60):
        while len({each.instance_type for each in asked_for}) < 2:
            await asyncio.sleep(0.05)
    first = {}
    for each in asked_for:
        first.setdefault(bool(each.accelerators), f"{each.cloud}/{each.region}")
    assert set(first.values()) == {place}
    words, story = f"({place}, which has room for all of its group)", []
    async with asyncio.timeout(60):
        # A cluster may ask for its machines before its job has said why.
        while not any(words in each for each in story):
            await asyncio.sleep(0.05)
            story = [each.text for each in await plane.managed.story(await plane.managed.by_number(1))]
    done = await plane.submit("jobs/cancel", {"all": True}, user="u")
    await plane.wait(done.id, 60)


# --- what a machine costs that nobody remembers ordering -------------------------------------------------------------


async def test_a_line_is_priced_as_its_machine_is_sold_there(plane, own):
    made = chosen(await plan(plane, P4D))
    line = Entry(Billed.MACHINE, "i-1", "c", "c", "", "", "", "aws", made.region, made.zone, made.instance_type,
                 Market.ON_DEMAND, 0.0, 1.0)  # fmt: skip
    assert await plane.planner.listed(line) == made.price_hourly > 0
    assert await plane.planner.listed(line._replace(instance_type="p4d.unheard-of")) is None
    assert await plane.planner.listed(line._replace(region="mars-1")) is None
    (own / "a.toml").write_text(
        '[[price]]\ninfra = "aws"\ninstance_type = "p4d.24xlarge"\nprice = 1.25\n'
        '[[offer]]\ninfra = "aws/us-east-1"\ninstance_type = "ours"\ncpus = 4\nmemory = 16\nprice = 2.0\n'
        "spot_price = 0.5\n"
    )
    assert await plane.planner.listed(line) == 1.25
    ours = line._replace(instance_type="ours")
    prices = [await plane.planner.listed(ours._replace(market=each)) for each in (Market.ON_DEMAND, Market.SPOT)]
    assert prices == [2.0, 0.5]
