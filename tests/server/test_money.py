"""Who may set which budget and see it, and whose schedules are whose."""

from types import SimpleNamespace

import pytest
from townhall import Town

from sky.sdk import budgets, schedules
from sky.store.sqlite import SqliteStore

JOB = SimpleNamespace(number=1, id="m1", owner="managed:m1", user="anna", workspace="default", group=None)
GROUP = SimpleNamespace(**{**vars(JOB), "number": 2, "group": "some", "tasks": (1, 2)})


@pytest.fixture
def town(state):
    made = Town(state)
    store = SqliteStore()

    async def by_number(number):
        return {1: JOB, 2: GROUP}.get(number)

    made.plane.money = SimpleNamespace(budget_rows=store.budgets, schedule_rows=store.schedules)
    made.plane.managed = SimpleNamespace(by_number=by_number)
    yield made
    made.served.stop()


def put(town, token, name, **body):
    status, told = town.call(token, "POST", "/budgets/set", {"name": name, "amount": 5, **body})
    return status, told


def test_whoever_is_no_admin_sets_budgets_of_their_own_alone(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    viewer = town.move_in("vic", "viewer")
    for body, allowed in (
        ({"scope": "user", "of": "anna"}, True),
        ({"scope": "job", "of": "1"}, True),
        ({}, False),
        ({"scope": "user", "of": "bob"}, False),
        ({"scope": "label", "of": "a=b"}, False),
        ({"scope": "workspace", "of": "default"}, False),
        ({"scope": "workspace", "of": "none"}, False),
    ):
        status, told = put(town, anna, f"b{len(str(body))}", **body)
        assert (status == 200) == allowed, (body, told)
        assert allowed or status == 403
    assert put(town, bob, "x", scope="job", of="1")[0] == 403
    assert put(town, viewer, "x", scope="user", of="vic")[0] == 403
    for scope, of in (("all", ""), ("user", "bob"), ("label", "a=b"), ("workspace", "default"), ("job", "1")):
        assert put(town, town.owner, f"o-{scope}", scope=scope, of=of)[0] == 200


def test_a_budget_of_a_job_is_of_one_without_members(town: Town):
    status, told = put(town, town.owner, "x", scope="job", of="2")
    assert status != 200
    assert "Managed job 2 is 2 jobs under one number" in str(told)


def test_nobody_gets_round_what_an_admin_set_for_them(town: Town):
    anna = town.move_in("anna")
    assert put(town, town.owner, "cap", scope="user", of="anna")[0] == 200
    status, told = put(town, anna, "cap", scope="user", of="anna", amount=1e6)
    assert status == 403 and "was set by" in str(told)
    assert town.call(anna, "POST", "/budgets/remove", {"name": "cap"})[0] == 403
    with town.as_(anna):
        (seen,) = budgets.budget_list()
        assert (seen.name, seen.amount, seen.actions) == ("cap", 5, ["80% notify", "100% refuse_new"])
    assert put(town, town.owner, "secret", scope="label", of="project=hush")[0] == 200
    with town.as_(anna):
        assert [each.name for each in budgets.budget_list()] == ["cap"]
    assert town.call(anna, "POST", "/budgets/remove", {"name": "secret"})[0] == 400, "it is not there for her"
    assert town.call(town.owner, "POST", "/budgets/remove", {"name": "cap"})[0] == 200


def test_workspace_admins_set_budgets_of_their_workspace(town: Town):
    lea, bob = town.move_in("lea"), town.move_in("bob")
    config = {"private": True, "allowed_users": ["bob"], "admins": ["lea"]}
    assert town.call(town.owner, "POST", "/workspaces/create", {"workspace_name": "team", "config": config})[0] == 200
    assert put(town, lea, "t", scope="workspace", of="team")[0] == 200
    assert put(town, bob, "t2", scope="workspace", of="team")[0] == 403
    with town.as_(bob):
        assert [each.name for each in budgets.budget_list()] == ["t"], "who works there sees it"


@pytest.mark.parametrize("body", [{"scope": "team"}, {"amount": -1}, {"period": "year"}, {"actions": ["x"] * 21},
                                  {"actions": ["80% explode"]}, {"scope": "job", "of": "9"}])  # fmt: skip
def test_budgets_that_make_no_sense_are_refused(town: Town, body):
    assert put(town, town.owner, "b", **body)[0] == 400


LAUNCH = {"dag": {"tasks": [{"run": "true", "secrets": {"K": "hush"}}], "edges": []}}


def add(town, token, name="nightly", **body):
    given = {"name": name, "cron": "0 3 * * *", "zone": "Europe/Berlin", "launch": LAUNCH, **body}
    return town.call(token, "POST", "/jobs/schedule/add", given)


def test_schedules_are_their_users(town: Town):
    anna, bob = town.move_in("anna"), town.move_in("bob")
    status, told = add(town, anna)
    assert status == 200 and told["next_at"] > told["created_at"] and "hush" not in str(told)
    assert add(town, anna)[0] == 400, "she has one of this name"
    assert add(town, bob)[0] == 200
    with town.as_(anna):
        assert [(each.user, each.cron) for each in schedules.schedule_list(all_users=True)] == [("anna", "0 3 * * *")]
        assert schedules.schedule_pause("nightly").next_at is None
        assert schedules.schedule_pause("nightly", paused=False).next_at == told["next_at"]
    assert town.call(bob, "POST", "/jobs/schedule/remove", {"name": told["id"]})[0] == 400, "it is not there for him"
    with town.as_(town.owner):
        assert len(schedules.schedule_list(all_users=True)) == 2 and schedules.schedule_list() == []
    with town.as_(anna):
        schedules.schedule_remove("nightly")
        assert schedules.schedule_list() == []


@pytest.mark.parametrize(
    "body",
    [{"cron": "never"}, {"zone": "Mars"}, {"missed": "maybe"}, {"overlap": "x"}, {"name": "a b"},
     {"launch": {}}, {"launch": {"dag": {"tasks": []}}}, {"launch": {**LAUNCH, "unknown": 1}}],
)  # fmt: skip
def test_schedules_that_make_no_sense_are_refused(town: Town, body):
    given = {"name": "n", "cron": "0 3 * * *", "launch": LAUNCH, **body}
    status, told = town.call(town.owner, "POST", "/jobs/schedule/add", given)
    assert status == 400, told
